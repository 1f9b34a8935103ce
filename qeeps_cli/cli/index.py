"""`qeeps index`: find the people of a gallery once, for all searches to come."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qeeps_cli.cli import options
from qeeps_cli.cli.gallery_options import GalleryOptions
from qeeps_cli.cli.groups import flat
from qeeps_cli.cli.messages import Messages, format_count, visible_name
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.cli.summary import tell_notes, tell_skipped
from qeeps_cli.cli.worker_options import WorkerOptions
from qeeps_cli.errors import ExitCode

if TYPE_CHECKING:
    from qeeps_cli.searching.indexing import IndexSummary

SCHEMA = "qeeps.index/1"


@flat
def index(
    *,
    galleries: GalleryOptions,
    cache: options.Cache = None,
    refresh: options.Refresh = False,
    network: options.EngineOptions,
    max_pixels: options.MaxPixels = None,
    work: WorkerOptions,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    progress: options.Progress = True,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Find the people of a gallery once, for searches in the modes cascade and cached.

    A search does it by itself; this does it beforehand. The mode exact, the default of small searches, does not
    use it. An interrupted index goes on where it stopped.
    """
    messages = Messages(quiet, verbose, progress)
    galleries.check()
    work.check(network.device)
    from qeeps_cli.cli.loading import open_cache
    from qeeps_cli.images import MAX_PIXELS

    gallery = galleries.find(objects=work.is_ray)
    work.check_gallery(gallery, cache)
    engine, checkpoint = network.load(messages, work.device(network.device, only_indexes=True))
    from qeeps_cli.searching.loading import batch_size

    frames = {"batch": batch_size(engine, network.batch), "max_pixels": max_pixels or MAX_PIXELS}
    if dry_run:
        from qeeps_cli.cli.dry_run import show_plan
        from qeeps_cli.searching.estimate import estimate
        from qeeps_cli.searching.preview import preview_index

        with open_cache([gallery.home], cache, messages, read_only=True) as used:
            preview = preview_index(engine, gallery, max_pixels or MAX_PIXELS, used, refresh)
        estimated = estimate(engine, gallery, preview, **frames, read=work.reader())
        return show_plan(engine, gallery, preview, estimated, used.folder, messages, as_json=as_json)
    from qeeps_cli.searching.indexing import index_gallery

    keeping = open_cache([gallery.home], cache, messages, needed_by=work.cache_needed_by or "an index")
    with keeping as used, show_progress(messages) as show:
        began = time.monotonic()
        how = {"max_pixels": frames["max_pixels"], "refresh": refresh, "progress": show}
        with work.crew(
            checkpoint, engine, gallery, used, messages=messages, only_indexes=True, batch=network.batch, **how
        ) as crew:
            if crew is None:
                summary = index_gallery(engine, gallery, used, batch=frames["batch"], **how)
            else:
                summary = crew.index_gallery(gallery)
        used.flush()
        seconds = time.monotonic() - began
        place = used.folder
    if as_json:
        from qeeps_cli.cli.stdout import write_stdout
        from qeeps_cli.output.json_writer import dump

        write_stdout(dump(_as_document(summary, place, checkpoint.describe(), engine.params.to_dict(), seconds)))
    people = format_count(summary.people, "person", "people")
    messages.say(f"{format_count(summary.frames, 'frame')} indexed, {people} found", "bold")
    speed = f" in {seconds:.1f} s, {summary.computed / seconds:.2f} a second" if summary.computed else ""
    messages.say(f"{summary.computed} computed{speed}; {summary.cached} were in the cache")
    messages.say(f"kept in  {visible_name(place)}")
    tell_skipped(summary.skipped, messages)
    tell_notes(summary.notes, messages)
    return ExitCode.SKIPPED if summary.skipped else ExitCode.OK


def _as_document(
    summary: "IndexSummary", place: Path, weights: dict[str, str], parameters: dict[str, Any], seconds: float
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "cache": os.fspath(place),
        "weights": {"name": weights["name"], "digest": weights["digest"]},
        "parameters": parameters,
        "frames": summary.frames,
        "people": summary.people,
        "computed": summary.computed,
        "cached": summary.cached,
        "seconds": round(seconds, 3),
        "notes": summary.notes,
        "skipped": [{"image": item.name, "reason": item.reason} for item in summary.skipped],
    }
