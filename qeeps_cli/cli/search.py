"""`qeeps search`: one person, in a gallery of whole frames."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.model.config import InferenceParams

if TYPE_CHECKING:
    from qeeps_cli.types import SearchResult

MODE = "exact"
_DEFAULTS = InferenceParams()

Query = Annotated[Path, typer.Option(metavar="IMAGE", help="A picture of the person.")]
BoxText = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="Where the person is in it, in pixels. Default: the whole picture."),
]
Person = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Instead of --box: the person's number in `qeeps detect`.")
]
Roots = Annotated[
    list[Path], typer.Option(metavar="DIR|IMAGE", help="What to search: folders and images; may be repeated.")
]
MoreRoots = Annotated[
    list[Path] | None, typer.Argument(metavar="MORE", help="More to search, so that `--gallery *.jpg` works.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder for results.json and pictures. Default: JSON to standard output."),
]
TopK = Annotated[int | None, typer.Option(metavar="N", min=1, help="Keep only the N best matches. Default: all.")]
MinScore = Annotated[
    float | None, typer.Option(metavar="F", help="Keep only matches that score at least this. Default: all.")
]
Annotate = Annotated[bool, typer.Option(help="Draw the matches into copies of their frames, in DIR/annotated.")]
Recursive = Annotated[bool, typer.Option(help="Search subfolders too.")]
ExcludeQuery = Annotated[
    bool, typer.Option("--exclude-query", help="Leave out gallery frames that are the query picture itself.")
]
Batch = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Frames that run together. Default: 1 on a CPU, 8 on a GPU.")
]


def search(
    query: Query,
    gallery: Roots,
    more: MoreRoots = None,
    box: BoxText = None,
    person: Person = None,
    out: Out = None,
    overwrite: options.Overwrite = False,
    annotate: Annotate = True,
    top_k: TopK = None,
    min_score: MinScore = None,
    exclude_query: ExcludeQuery = False,
    recursive: Recursive = True,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch: Batch = None,
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
    """
    messages = Messages(quiet, verbose)
    if box is not None and person is not None:
        raise UsageError("expected either --box or --person, got both.")
    from qeeps_cli.boxes import parse_box
    from qeeps_cli.images import MAX_PIXELS
    from qeeps_cli.output.folder import check_folder
    from qeeps_cli.searching.request import SearchOptions, list_galleries, read_query

    # Whatever can be wrong with the inputs and the output shows before the network is loaded.
    limits = SearchOptions(top_k, min_score, exclude_query, max_pixels or MAX_PIXELS, batch)
    xyxy = parse_box(box) if box is not None else None
    if out:
        check_folder(out, overwrite)
    picture = read_query(query, xyxy, limits.max_pixels)
    frames = list_galleries([*gallery, *(more or [])], recursive, exclude=[out] if out else [])

    from qeeps_cli.cli.loading import load
    from qeeps_cli.searching.run import choose_person, run_search

    params = InferenceParams(
        proposals=proposals,
        min_objectness=min_objectness,
        min_person_score=min_person_score,
        nms=nms,
        second_pass=second_pass,
    )
    engine, checkpoint = load(weights, device, params, messages)
    if person is not None:
        picture = choose_person(engine, picture, person)
    with messages.progress("frames searched") as show:
        result = run_search(engine, picture, frames, limits, show)
    _deliver(result, checkpoint.describe(), out, annotate, limits.max_pixels, messages)
    return ExitCode.SKIPPED if result.skipped else ExitCode.OK


def _deliver(
    result: "SearchResult",
    weights: dict[str, str],
    out: Path | None,
    annotate: bool,
    max_pixels: int,
    messages: Messages,
) -> None:
    from qeeps_cli.cli.summary import tell_files, tell_result

    if out is None:
        from qeeps_cli.cli.stdout import write_stdout
        from qeeps_cli.output.writers import get_writer

        write_stdout(get_writer("json").encode(result, weights, MODE))
        tell_result(result, messages)
    else:
        from qeeps_cli.output.folder import write_folder

        written = write_folder(out, result, weights, MODE, annotate=annotate, max_pixels=max_pixels)
        tell_result(result, messages)
        tell_files(written, messages)
