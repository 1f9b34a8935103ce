"""`qeeps search`: people, in a gallery of whole frames."""

from qeeps_cli.cli import options
from qeeps_cli.cli import search_options as own
from qeeps_cli.cli.delivery import OneToFolder, OneToStdout, SeveralToFolder, SeveralToStdout
from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.cli.summary import tell_work
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.model.config import InferenceParams

_DEFAULTS = InferenceParams()


def search(
    *,
    query: own.Query = None,
    box: own.BoxText = None,
    person: own.Person = None,
    queries: own.Queries = None,
    gallery: own.Roots,
    more: own.MoreRoots = None,
    out: own.Out = None,
    overwrite: options.Overwrite = False,
    annotate: own.Annotate = True,
    mode: own.Mode = "auto",
    shortlist: options.Shortlist = None,
    top_k: own.TopK = None,
    min_score: own.MinScore = None,
    exclude_query: own.ExcludeQuery = False,
    recursive: options.Recursive = True,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    refresh: options.Refresh = False,
    require_cache: options.RequireCache = False,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch: options.Batch = None,
    proposals: options.Proposals = _DEFAULTS.proposals,
    min_objectness: options.MinObjectness = _DEFAULTS.min_objectness,
    min_person_score: options.MinPersonScore = _DEFAULTS.min_person_score,
    nms: options.Nms = _DEFAULTS.nms,
    second_pass: options.SecondPass = _DEFAULTS.second_pass,
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Find a person in a gallery of whole frames.

    qeeps search --query q.jpg --box 312,266,112,265 --gallery frames/ --out results/

    What is computed is kept beside the gallery, so that an interrupted search resumes and the next one is fast.
    """
    messages = Messages(quiet, verbose)
    if no_cache and (refresh or require_cache):
        raise UsageError("--no-cache leaves nothing for --refresh or --require-cache to use.")
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.output.folder import check_folder
    from qeeps_cli.searching.queries import read_requests
    from qeeps_cli.searching.request import SearchOptions, list_galleries

    # Whatever can be wrong with the inputs and the output shows before the network is loaded.
    limits = SearchOptions(top_k, min_score, exclude_query, max_pixels or MAX_PIXELS, batch, mode, shortlist)
    requests = own.read_requests_of(query, box, person, queries)
    if out:
        check_folder(out, overwrite)
    pictures = read_requests(requests, limits.max_pixels)
    roots = [*gallery, *(more or [])]
    frames = list_galleries(roots, recursive, exclude=[out] if out else [])

    from qeeps_cli.cli.loading import load, open_cache
    from qeeps_cli.searching.people import choose_person
    from qeeps_cli.searching.plan import plan_search
    from qeeps_cli.searching.run import Tally, run_search

    params = InferenceParams(
        proposals=proposals,
        min_objectness=min_objectness,
        min_person_score=min_person_score,
        nms=nms,
        second_pass=second_pass,
    )
    engine, checkpoint = load(weights, device, params, messages)
    pictures = [
        choose_person(engine, picture, request.person) if request.person else picture
        for picture, request in zip(pictures, requests, strict=True)
    ]
    plan, tally = plan_search(limits, len(frames.frames), len(pictures), engine.device.type), Tally()
    common = checkpoint.describe(), plan.mode, messages
    if queries is not None or len(pictures) > 1:
        ids = [picture.id for picture in pictures]
        delivery = SeveralToFolder(out, ids, annotate, limits.max_pixels, *common) if out else SeveralToStdout(*common)
    else:
        delivery = OneToFolder(out, annotate, limits.max_pixels, *common) if out else OneToStdout(*common)
    with (
        open_cache(roots, cache, messages, use=not no_cache, require=require_cache) as used,
        show_progress(messages) as show,
    ):
        results = run_search(engine, pictures, frames, limits, cache=used, refresh=refresh, progress=show, tally=tally)
        for picture, result in zip(pictures, results, strict=True):
            delivery.take(picture, result)
    delivery.finish()
    tell_work(plan, tally, messages)
    return ExitCode.SKIPPED if delivery.has_skipped else ExitCode.OK
