"""`qeeps detect`: the people of one picture, numbered for `qeeps search --person N`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages, format_count, format_table, visible_name
from qeeps_cli.errors import ExitCode, OutputError, UsageError
from qeeps_cli.model.config import InferenceParams

if TYPE_CHECKING:
    import numpy as np

    from qeeps_cli.types import Detections

PICTURE_SUFFIXES = (".jpg", ".jpeg")
NUMBERED = InferenceParams().min_person_score  # the network gives nobody below it: these are all numbers there are

ImagePath = Annotated[
    Path,
    typer.Argument(metavar="IMAGE", help="The picture to look at, or a moment of a video: video.mp4@00:01:02."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE|DIR", help="Draw the numbers into a copy: a .jpg, or a folder for it."),
]
MinScore = Annotated[
    float,
    typer.Option(
        metavar="F",
        min=0,
        max=1,
        help="Show only what is a person at least this probably; below the default nobody has a number.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a picture that exists.")]


def detect(
    image: ImagePath,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: options.AsJson = False,
    min_score: MinScore = NUMBERED,
    weights: options.Weights = None,
    device: options.Device = "auto",
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """List the people in a picture, numbered, with their boxes.

    The numbers are those of `qeeps search --person N`, the boxes those of `--box`.
    """
    messages = Messages(quiet, verbose)
    from qeeps_cli.cli.loading import load
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.frames import read_frame
    from qeeps_cli.images import MAX_PIXELS

    place = _picture_place(out, image, overwrite) if out else None
    picture = read_frame(image, max_pixels or MAX_PIXELS)
    engine, _ = load(weights, device, None, messages)
    from qeeps_cli.searching.people import number_people

    people, notes = number_people(engine, picture.rgb, min_score)
    if place:
        _draw(place, picture.rgb, people)
    write_stdout(_as_json(image, picture.size, people) if as_json else _as_table(people))
    if picture.note:
        messages.note(f"{visible_name(image)}: {picture.note}")
    for note in notes:
        messages.note(note)
    messages.say(f"{format_count(len(people), 'person', 'people')} in {visible_name(image)}", "bold")
    if place:
        messages.say(f"look at  {visible_name(place)}")
    return ExitCode.OK


def _picture_place(out: Path, image: Path, overwrite: bool) -> Path:
    """The file to write. Raises UsageError for a name that is neither folder nor JPEG, OutputError where one exists."""
    if out.is_dir() or not out.suffix:
        out = out / f"{image.name.replace(':', '-')}.people.jpg"  # a moment of a video has colons
    elif out.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"--out expects a folder or a picture that ends in .jpg, got {visible_name(out)}.")
    if out.exists() and image.exists() and out.samefile(image):
        raise OutputError(f"--out {visible_name(out)} is the picture itself. Name another place.")
    if out.exists() and not overwrite:
        raise OutputError(f"--out {visible_name(out)} exists. Use --overwrite or another name.")
    return out


def _draw(place: Path, rgb: "np.ndarray", people: "Detections") -> None:
    from qeeps_cli.gallery import OUTPUT_MARKER
    from qeeps_cli.output.atomic import reporting, write_file
    from qeeps_cli.output.detections import draw_detections
    from qeeps_cli.output.drawing import jpeg

    if not place.parent.exists():
        with reporting(place.parent):
            place.parent.mkdir(parents=True)
        write_file(place.parent / OUTPUT_MARKER, b"")  # a folder of ours is no gallery
    write_file(place, jpeg(draw_detections(rgb, people)))


def _as_json(image: Path, size: tuple[int, int], people: "Detections") -> bytes:
    from qeeps_cli.output.detections import detections_document
    from qeeps_cli.output.json_writer import dump

    return dump(detections_document(image, size, people))


def _as_table(people: "Detections") -> bytes:
    from qeeps_cli.boxes import xyxy_to_xywh

    rows = [
        [str(number), f"{score:.3f}", ",".join(f"{value:.0f}" for value in box)]
        for number, (box, score) in enumerate(
            zip(xyxy_to_xywh(people.boxes).tolist(), people.person_scores.tolist(), strict=True), start=1
        )
    ]
    return f"{format_table(['number', 'person', 'x,y,w,h'], rows)}\n".encode("ascii")
