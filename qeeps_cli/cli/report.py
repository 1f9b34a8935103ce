"""`qeeps report`: results as one page to look through and to judge."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages, format_count, visible_name
from qeeps_cli.errors import ExitCode, OutputError, UsageError

STANDARD = Path("-")
MISSING = 10

Results = Annotated[
    Path,
    typer.Argument(
        metavar="RESULTS",
        help="The results.json of `qeeps search`, or the folder that holds it; -: standard input.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", help="The page; -: standard output. Default: report.html beside RESULTS."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")]
Images = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the gallery and the query picture lie now, if they moved.")
]
Matches = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Matches of each search in the page, the best of each frame first. Default: 200, fewer of many searches.",
    ),
]
Frames = Annotated[int, typer.Option(metavar="N", min=0, help="Frames that the page holds whole, of the first ranks.")]


def report(
    results: Results,
    out: Out = None,
    overwrite: Overwrite = False,
    images: Images = None,
    matches: Matches = None,
    frames: Frames = 30,
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Make a page of results: matches to filter, look at closely, accept or reject.

    qeeps report results/results.json --out report.html

    The page is one file that holds its pictures and needs no network. It exports the verdicts as JSON.
    """
    messages = Messages(quiet, verbose)
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.output.own_folder import RESULTS
    from qeeps_cli.output.report import report_of_results

    if results != STANDARD and os.path.isdir(results):
        folder, results = results, results / RESULTS
        if not os.path.isfile(results):
            raise UsageError(f"{visible_name(folder)} holds no {RESULTS}. Give the folder of `qeeps search --out`.")
    place = out or (Path("report.html") if results == STANDARD else results.with_name("report.html"))
    _check_place(place, results, overwrite)
    if images is not None and not images.is_dir():
        raise UsageError(f"--images expects a folder, got {visible_name(images)}.")
    made = report_of_results(
        _read(results),
        "standard input" if results == STANDARD else visible_name(results),
        lambda name: _read_inner(results, name),
        images=images,
        matches=matches,
        whole_frames=frames,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    _write(place, made.html)
    shown = f"{format_count(made.matches, 'match', 'matches')} of {format_count(made.searches, 'search', 'searches')}"
    messages.say(f"{shown}, {len(made.html) / 1e6:.1f} MB", "bold")
    if place != STANDARD:
        messages.say(f"look at  {visible_name(place)}")
    _tell_missing(made.missing, messages)
    return ExitCode.SKIPPED if made.missing else ExitCode.OK


def _check_place(place: Path, results: Path, overwrite: bool) -> None:
    """Before anything is read or decoded. Raises OutputError."""
    from qeeps_cli.cli.stdout import check_stdout
    from qeeps_cli.output.atomic import check_file

    if place == STANDARD:
        check_stdout()
        return
    if place.exists() and results.exists() and place.samefile(results):
        raise OutputError(f"--out {visible_name(place)} is the results themselves. Name another place.")
    check_file(place, overwrite)


def _write(place: Path, html: bytes) -> None:
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.output.atomic import write_file

    write_stdout(html) if place == STANDARD else write_file(place, html)


def _read(results: Path) -> bytes:
    from qeeps_cli.output.report_source import MAX_BYTES

    try:
        if results == STANDARD:
            if sys.stdin is None:
                raise UsageError("standard input is closed. Name the results.json of `qeeps search`.")
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with open(results, "rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{visible_name(results)} cannot be read: {reason}. Give the results.json of `qeeps search`."
        ) from None


def _read_inner(results: Path, name: str) -> bytes:
    """A file that an overview names."""
    if results == STANDARD:
        raise UsageError("an overview on standard input has no folder. Name the results.json of `qeeps search --out`.")
    return _read(results.parent / name)


def _tell_missing(missing: dict[Path, str], messages: Messages) -> None:
    if not missing:
        return
    messages.say(
        f"{format_count(len(missing), 'picture')} not shown; if they moved, --images names their folder:", "bold"
    )
    shown = len(missing) if messages.verbose else MISSING
    for path, reason in list(missing.items())[:shown]:
        messages.say(f"  {visible_name(path)}: {reason}")
    if len(missing) > shown:
        messages.say(f"  and {len(missing) - shown} more; -v shows them all")
