"""The pictures of a report: a crop of each person and, of the first ones, the whole frame; or why there is none.

Each frame is decoded once and one at a time, whatever matches lie in it. What is kept are small JPEGs.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from qeeps_cli.errors import ImageError
from qeeps_cli.frames import FrameReader, Place, exists, in_reading_order, path_of
from qeeps_cli.output.contact_sheet import CELL, QUERY_CELL, crop_person, tile_colour
from qeeps_cli.output.report_source import ReportMatch, ReportSearch
from qeeps_cli.types import Box, Decoded

LARGE_SIDE = 1080  # pixels, of the longer side of a whole frame in the page
CROP_QUALITY, LARGE_QUALITY = 82, 74
TOLERANCE = 1.0  # pixels by which a box may reach over its picture: the results round boxes


@dataclass(frozen=True)
class Located:
    """A search and where its pictures lie. frames: by the names that its matches have."""

    search: ReportSearch
    query: Path
    frames: Mapping[str, Place]


@dataclass(frozen=True)
class Person:
    """A person on the page: of search number `search`, the query (match None) or one of its matches (its place)."""

    search: int
    match: int | None


@dataclass(frozen=True)
class Large:
    """A whole frame as JPEG. size: (width, height) of the frame itself, in whose pixels boxes are."""

    jpeg: bytes
    size: tuple[int, int]


@dataclass(frozen=True)
class Pictures:
    """paths: where each person's frame was looked for. crops: JPEGs. missing: why a person has no crop. large: whole
    frames, by path."""

    paths: dict[Person, Path]
    crops: dict[Person, bytes]
    missing: dict[Person, str]
    large: dict[Path, Large]


def make_pictures(located: Sequence[Located], whole_frames: int, max_pixels: int) -> Pictures:
    """The pictures of all searches' queries and matches.

    whole_frames: how many frames to keep whole, those of the first ranks. A picture that cannot be decoded, or is not
    the one that was searched, is `missing` with the reason.
    """
    pictures = Pictures({}, {}, {}, {})
    by_place: dict[Place, list[Person]] = {}
    searches = [one.search for one in located]
    for person in _by_rank(searches):
        place = _place(located[person.search], person)
        pictures.paths[person] = path_of(place)
        by_place.setdefault(place, []).append(person)
    by_rank: dict[Place, int] = {place: number for number, place in enumerate(by_place)}
    unusable: list[int] = []
    with FrameReader(max_pixels) as reader:
        for place in in_reading_order(by_place):
            people = by_place[place]
            picture = _read(reader, place, people, pictures)
            if picture is not None:
                _cut(searches, people, picture, pictures)
            if not any(person in pictures.crops for person in people):
                unusable.append(by_rank[place])
            elif by_rank[place] - sum(rank < by_rank[place] for rank in unusable) < whole_frames:
                pictures.large[path_of(place)] = _whole(picture)
    return pictures


def _read(reader: FrameReader, place: Place, people: Sequence[Person], pictures: Pictures) -> Decoded | None:
    try:  # of a query, the digest says whether it is the one that was searched with
        return reader.read(place, with_digest=any(person.match is None for person in people))
    except ImageError as error:
        pictures.missing.update(dict.fromkeys(people, error.reason))
        return None


def _cut(searches: Sequence[ReportSearch], people: Sequence[Person], picture: Decoded, pictures: Pictures) -> None:
    for person in people:
        problem = _problem(searches[person.search], person, picture)
        if problem:
            pictures.missing[person] = problem
        else:
            pictures.crops[person] = _crop(searches[person.search], person, picture)


def locate(search: ReportSearch, images: Path | None = None) -> Located:
    """Where the pictures of a search lie: where they were, or, if they moved, below the folder `images`.

    A picture that is not there either has the path that was tried first.
    """
    query = Path(search.query["image"])
    places = [query] if images is None else [query, images / query.name]
    frames = {match.image: _first_file(_frame_places(search, match.image, images)) for match in search.matches}
    return Located(search, _first_file(places), frames)


def _frame_places(search: ReportSearch, name: str, images: Path | None) -> list[Path]:
    if search.root is not None:
        root = Path(search.root)  # a folder, or the only frame itself
        return [root / name, root.parent / name] if images is None else [images / name]
    if images is None:
        return [Path(name)]
    inside = _below_common(search.roots, name)
    return [images / name, *([images / inside] if inside else [])]


def _below_common(roots: Sequence[str], name: str) -> str | None:
    """The name relative to the folder that all galleries lie in. Not to its own gallery, where another may have a frame
    of the same name."""
    try:
        common = os.path.commonpath(roots)
        return os.path.relpath(name, common) if os.path.commonpath([common, name]) == common else None
    except ValueError:  # no galleries, or relative and absolute ones
        return None


def _first_file(places: Sequence[Path]) -> Path:
    return next((place for place in places if exists(place)), places[0])


def _by_rank(searches: Sequence[ReportSearch]) -> Iterator[Person]:
    """Everybody on the page: the queries, then the first match of each search, then the second ones..."""
    yield from (Person(number, None) for number in range(len(searches)))
    for place in range(max((len(search.matches) for search in searches), default=0)):
        yield from (Person(number, place) for number, search in enumerate(searches) if place < len(search.matches))


def _place(located: Located, person: Person) -> Place:
    return located.query if person.match is None else located.frames[located.search.matches[person.match].image]


def _problem(search: ReportSearch, person: Person, picture: Decoded) -> str | None:
    """Why this picture is not the one that was searched; None: nothing speaks against it."""
    if person.match is None and search.query["digest"] not in ("", picture.digest):
        return "the file is not the picture that was searched with: it was replaced"
    box = _box(search, person)
    height, width = picture.size
    if box and (min(box[:2]) < -TOLERANCE or box[2] > width + TOLERANCE or box[3] > height + TOLERANCE):
        return (
            f"the box lies outside the file, which has {width}x{height} pixels: it is not the frame that was searched"
        )
    return None


def _box(search: ReportSearch, person: Person) -> Box | None:
    return search.query_corners if person.match is None else search.matches[person.match].corners


def _crop(search: ReportSearch, person: Person, picture: Decoded) -> bytes:
    match: ReportMatch | None = None if person.match is None else search.matches[person.match]
    size, rank = (QUERY_CELL, None) if match is None else (CELL, match.rank)
    return _jpeg(crop_person(picture.rgb, _box(search, person), size, tile_colour(rank)), CROP_QUALITY)


def _whole(picture: Decoded) -> Large:
    height, width = picture.size
    image = Image.fromarray(picture.rgb)
    image.thumbnail((LARGE_SIDE, LARGE_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return Large(_jpeg(image, LARGE_QUALITY), (width, height))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()
