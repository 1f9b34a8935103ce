"""`qeeps search`: people, in a gallery of whole frames."""

from qeeps_cli.cli import options
from qeeps_cli.cli import search_options as own
from qeeps_cli.cli.delivery import deliver
from qeeps_cli.cli.engine_options import EngineOptions
from qeeps_cli.cli.gallery_options import GalleryOptions
from qeeps_cli.cli.groups import flat
from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.output_options import OutputOptions
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.cli.summary import tell_work
from qeeps_cli.errors import ExitCode, UsageError


@flat
def search(
    *,
    query: own.Query = None,
    box: own.BoxText = None,
    person: own.Person = None,
    queries: own.Queries = None,
    galleries: GalleryOptions,
    output: OutputOptions,
    mode: own.Mode = "auto",
    shortlist: options.Shortlist = None,
    top_k: own.TopK = None,
    min_score: own.MinScore = None,
    exclude_query: own.ExcludeQuery = False,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
    refresh: options.Refresh = False,
    require_cache: options.RequireCache = False,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch: options.Batch = None,
    network: options.NetworkOptions,
    max_pixels: options.MaxPixels = None,
    work: EngineOptions,
    dry_run: options.DryRun = False,
    progress: options.Progress = True,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Find a person in a gallery of whole frames.

    qeeps search --query q.jpg --box 312,266,112,265 --gallery frames/ --out results/

    What is computed is kept beside the gallery, so that an interrupted search resumes and the next one is fast.
    """
    messages = Messages(quiet, verbose, progress)
    if no_cache and (refresh or require_cache):
        raise UsageError("--no-cache leaves nothing for --refresh or --require-cache to use.")
    galleries.check(queries)
    work.check(device, no_cache=no_cache)
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.searching.queries import read_requests
    from qeeps_cli.searching.request import SearchOptions

    # Whatever can be wrong with the inputs and the output shows before the network is loaded.
    limits = SearchOptions(top_k, min_score, exclude_query, max_pixels or MAX_PIXELS, batch, mode, shortlist)
    requests = own.read_requests_of(query, box, person, queries)
    output.check()
    pictures = read_requests(requests, limits.max_pixels)
    gallery = galleries.find(exclude=[output.out] if output.out else [], objects=work.is_ray)
    work.check_gallery(gallery, cache, needs_files=output.needs_frames)

    from qeeps_cli.cli.loading import load, open_cache
    from qeeps_cli.searching.people import choose_person
    from qeeps_cli.searching.plan import plan_search
    from qeeps_cli.searching.run import Tally, run_search

    engine, checkpoint = load(weights, work.device(device), network.params(), messages)
    plan, tally = plan_search(limits, len(gallery.frames), len(pictures), engine.device.type), Tally()
    if dry_run:
        from qeeps_cli.cli.dry_run import show_plan
        from qeeps_cli.searching.preview import preview_search

        known = [None if request.person else picture for picture, request in zip(pictures, requests, strict=True)]
        with open_cache([gallery.home], cache, messages, use=not no_cache, read_only=True) as used:
            preview = preview_search(engine, known, gallery, limits, plan, used, refresh)
            place = used.folder if used else None
        return show_plan(engine, gallery, preview, place, messages, plan=plan, queries=len(pictures))
    pictures = [
        choose_person(engine, picture, request.person, limits.max_pixels) if request.person else picture
        for picture, request in zip(pictures, requests, strict=True)
    ]
    delivering = deliver(
        output,
        pictures,
        messages,
        several=queries is not None or len(pictures) > 1,
        ranked=top_k is not None,
        max_pixels=limits.max_pixels,
        weights=checkpoint.describe(),
        mode=plan.mode,
    )
    with (
        delivering as delivery,
        open_cache([gallery.home], cache, messages, use=not no_cache, require=require_cache or work.is_ray) as used,
        show_progress(messages, still=delivery.moves_terminal) as show,
        work.crew(
            checkpoint,
            engine,
            gallery,
            used,
            messages=messages,
            batch=batch,
            max_pixels=limits.max_pixels,
            refresh=refresh,
            progress=show,
        ) as crew,
    ):
        watching = {"progress": show, "tally": tally, "tell": delivery.tell}
        results = run_search(engine, pictures, gallery, limits, cache=used, refresh=refresh, crew=crew, **watching)
        for picture, result in zip(pictures, results, strict=True):
            delivery.take(picture, result)
    tell_work(plan, tally, messages)
    return ExitCode.SKIPPED if delivery.has_skipped else ExitCode.OK
