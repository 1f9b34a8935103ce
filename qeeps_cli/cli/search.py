"""`qeeps search`: people, in a gallery of whole frames."""

from qeeps_cli.cli import options
from qeeps_cli.cli import search_options as own
from qeeps_cli.cli.delivery import deliver
from qeeps_cli.cli.gallery_options import GalleryOptions
from qeeps_cli.cli.groups import flat
from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.output_options import OutputOptions
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.cli.sighting_options import SightingOptions
from qeeps_cli.cli.summary import tell_work
from qeeps_cli.cli.worker_options import WorkerOptions
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
    grouping: SightingOptions,
    mode: own.Mode = "auto",
    shortlist: options.Shortlist = None,
    expand: options.Expand = False,
    top_k: own.TopK = None,
    min_score: own.MinScore = None,
    exclude_query: own.ExcludeQuery = False,
    caching: options.CacheOptions,
    refresh: options.Refresh = False,
    require_cache: options.RequireCache = False,
    network: options.EngineOptions,
    max_pixels: options.MaxPixels = None,
    work: WorkerOptions,
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
    if caching.no_cache and (refresh or require_cache):
        raise UsageError("--no-cache leaves nothing for --refresh or --require-cache to use.")
    galleries.check(queries)
    work.check(network.device, no_cache=caching.no_cache)
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.searching.queries import read_requests
    from qeeps_cli.searching.request import SearchOptions

    # Whatever can be wrong with the inputs and the output shows before the network is loaded.
    limits = SearchOptions(
        *(top_k, min_score, exclude_query, max_pixels or MAX_PIXELS, network.batch, mode, shortlist, expand)
    )
    requests = own.read_requests_of(query, box, person, queries)
    rules = grouping.rules()
    output.check(sightings=rules is not None)
    pictures = read_requests(requests, limits.max_pixels)
    several = queries is not None or len(pictures) > 1
    gallery = galleries.find(exclude=[output.out] if output.out else [], objects=work.is_ray)
    work.check_gallery(gallery, caching.cache, needs_files=output.needs_frames)
    timetable = rules and rules.timetable(gallery.frames)

    from qeeps_cli.searching.loading import batch_size
    from qeeps_cli.searching.people import choose_person
    from qeeps_cli.searching.plan import plan_search
    from qeeps_cli.searching.run import run_search
    from qeeps_cli.searching.tally import Tally
    from qeeps_cli.sightings.of_result import with_sightings

    engine, checkpoint = network.load(messages, work.device(network.device))
    limits.check_scores(checkpoint.config.has_qsimnet)
    plan, tally = plan_search(limits, len(gallery.frames), len(pictures), engine.device.type), Tally()
    if dry_run:
        from qeeps_cli.cli.dry_run import show_plan
        from qeeps_cli.searching.engine import QueryPerson
        from qeeps_cli.searching.estimate import estimate
        from qeeps_cli.searching.preview import preview_search

        known = [None if request.person else picture for picture, request in zip(pictures, requests, strict=True)]
        with caching.open([gallery.home], messages, read_only=True) as used:
            preview = preview_search(engine, known, gallery, limits, plan, used, refresh)
            place = used.folder if used else None
        example = QueryPerson(pictures[0].pixels(limits.max_pixels), pictures[0].query.box)
        frames = {"batch": batch_size(engine, network.batch), "max_pixels": limits.max_pixels}
        estimated = estimate(engine, gallery, preview, example, **frames, read=work.reader())
        notes = [f"query {p.id}: {note}" if several else note for p in pictures for note in p.notes]
        return show_plan(
            engine, gallery, preview, estimated, place, messages, plan=plan, queries=len(pictures), notes=notes
        )
    pictures = [
        choose_person(engine, picture, request.person, limits.max_pixels) if request.person else picture
        for picture, request in zip(pictures, requests, strict=True)
    ]
    needed_by = "--require-cache" if require_cache else work.cache_needed_by
    delivering = deliver(
        output,
        pictures,
        messages,
        several=several,
        ranked=top_k is not None,
        sightings=rules is not None,
        max_pixels=limits.max_pixels,
        weights=checkpoint.describe(),
        mode=plan.mode,
    )
    with (
        delivering as delivery,
        caching.open([gallery.home], messages, needed_by=needed_by) as used,
        show_progress(messages, still=delivery.moves_terminal) as show,
        work.crew(
            *(checkpoint, engine, gallery, used),
            messages=messages,
            batch=network.batch,
            max_pixels=limits.max_pixels,
            refresh=refresh,
            progress=show,
        ) as crew,
    ):
        watching = {"progress": show, "tally": tally, "tell": delivery.tell}
        results = run_search(engine, pictures, gallery, limits, cache=used, refresh=refresh, crew=crew, **watching)
        for picture, result in zip(pictures, results, strict=True):
            delivery.take(picture, with_sightings(result, rules, timetable) if rules else result)
    tell_work(plan, tally, messages)
    return ExitCode.SKIPPED if delivery.has_skipped else ExitCode.OK
