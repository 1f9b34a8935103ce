"""Several queries in one run: from options or a list of JSON lines to decoded pictures."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qeeps_cli.boxes import parse_box
from qeeps_cli.errors import QeepsError, UsageError
from qeeps_cli.frames import FrameReader
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.searching.request import QueryPicture, read_query
from qeeps_cli.types import Box

MOST_PICTURES = 16  # whose pixels stay in memory from the beginning
KEYS = ("image", "box", "person", "id")
EXAMPLE = json.dumps({"image": "q.jpg", "box": [10, 20, 60, 150]})  # of a line


@dataclass(frozen=True)
class QueryRequest:
    """A query as it was asked for. box: xyxy pixels, or person: a number of `qeeps detect`; neither: the whole picture
    is the person's crop. id: its name in the results. source: where it was asked for, to begin a message with."""

    image: Path
    box: Box | None = None
    person: int | None = None
    id: str = ""
    source: str = ""

    def __post_init__(self):
        if self.box is not None and self.person is not None:
            raise UsageError("expected either a box or a person's number, got both.")


def requests_of_options(
    images: Sequence[Path], boxes: Sequence[str] = (), people: Sequence[int] = ()
) -> list[QueryRequest]:
    """Queries of --query, with --box or --person in the same order, each as often as --query or not at all.

    Raises UsageError for other numbers of them, for both, and for a box that is no box.
    """
    if boxes and people:
        raise UsageError("expected either --box or --person, got both.")
    for number in people:
        if number < 1:
            raise UsageError(f"--person expects a number from 1 as `qeeps detect` gives them, got {number}.")
    for name, values in (("--box", boxes), ("--person", people)):
        if values and len(values) != len(images):
            raise UsageError(
                f"{name} expects one value for each --query, got {len(values)} for {len(images)}. "
                "In a list (--queries FILE) each query may have a box or none."
            )
    return [
        QueryRequest(
            image,
            parse_box(boxes[i]) if boxes else None,
            people[i] if people else None,
            str(i + 1),
            f"query {i + 1}" if len(images) > 1 else "",
        )
        for i, image in enumerate(images)
    ]


def parse_requests(data: bytes, name: str, folder: Path) -> list[QueryRequest]:
    """Queries of a list: a JSON object a line, {"image": path, "box": [x, y, w, h] or null, "person": N, "id": text}.

    Only "image" is needed; empty lines mean nothing. name: the list's, for messages. folder: what paths are relative
    to. Raises UsageError that names the line.
    """
    requests: list[QueryRequest] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        source = f"{name}, line {number}"
        try:
            request = replace(_parse_line(line, folder, str(len(requests) + 1)), source=source)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None
        if request.id in lines:
            raise UsageError(f"{source}: the id {request.id!r} is already that of line {lines[request.id]}.")
        lines[request.id] = number
        requests.append(request)
    if not requests:
        raise UsageError(f"{name} holds no query. Expected lines such as {EXAMPLE}.")
    return requests


def read_requests(requests: Sequence[QueryRequest], max_pixels: int = MAX_PIXELS) -> list[QueryPicture]:
    """Decodes all of them; of many, the pixels are read again when they are needed.

    Raises UsageError or ImageError for the first one that cannot be used.
    """
    with FrameReader(max_pixels) as reader:
        return [_read(request, reader, keep=len(requests) <= MOST_PICTURES) for request in requests]


def _read(request: QueryRequest, reader: FrameReader, keep: bool) -> QueryPicture:
    try:
        picture = read_query(request.image, request.box, reader=reader)
    except QeepsError as error:
        if not request.source:
            raise
        raise UsageError(f"{request.source}: {error}") from error
    notes = (*picture.notes, *_no_box(request, picture))
    return replace(picture, id=request.id, rgb=picture.rgb if keep else None, notes=notes)


def _no_box(request: QueryRequest, picture: QueryPicture) -> list[str]:
    """A note where the picture that is taken for the person's crop looks like a frame."""
    height, width = picture.rgb.shape[:2]
    if request.box is not None or request.person is not None or width < height:
        return []
    return [
        f"the query {request.image.name} has no box, so that the whole of it is taken for the person, and its "
        f"{width}×{height} pixels are wider than people are. If it shows more than them, give their box, or the number "
        "that `qeeps detect` gives them"
    ]


def _parse_line(line: bytes, folder: Path, number: str) -> QueryRequest:
    try:
        entry = json.loads(line.decode("utf-8", "surrogateescape"))  # a path may hold bytes that are no UTF-8
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"expected a JSON object such as {EXAMPLE}, got something that is no JSON ({error})."
        ) from None
    if not isinstance(entry, dict):
        raise UsageError(f"expected a JSON object with the key \"image\", got {_shown(entry)}.")
    if unknown := sorted(entry.keys() - set(KEYS)):
        raise UsageError(f"unknown key {unknown[0]!r}; known are {', '.join(KEYS)}.")
    image, person = entry.get("image"), entry.get("person")
    if not isinstance(image, str) or not image:
        raise UsageError(f"\"image\" expects the path of a picture, got {_shown(image)}.")
    if person is not None and (not _is_whole(person) or person < 1):
        raise UsageError(f"\"person\" expects a number from 1, got {_shown(person)}.")
    return QueryRequest(folder / image, _parse_box(entry.get("box")), person, _parse_id(entry.get("id"), number))


def _parse_box(box: Any) -> Box | None:
    if box is None:
        return None
    try:
        if not isinstance(box, list) or any(isinstance(value, bool | str) for value in box):
            raise TypeError
        x, y, w, h = map(float, box)
        if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            "\"box\" expects null or four finite numbers [x, y, w, h] in pixels (left, top, width, height), with a "
            f"positive width and height, got {_shown(box)}."
        ) from None
    return x, y, x + w, y + h


def _parse_id(value: Any, number: str) -> str:
    if value is None:
        return number
    if not isinstance(value, str) and not _is_whole(value) or value == "":
        raise UsageError(f"\"id\" expects a text or a whole number, got {_shown(value)}.")
    try:
        str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character that JSON writes as two escapes: no output could hold it
        raise UsageError(f"\"id\" expects a text of whole characters, got {_shown(value)}.") from None
    return str(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
