"""What a search starts from, read and checked before any network is loaded: query picture, gallery, options."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from qeeps_cli.boxes import fit_box
from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.gallery import list_gallery, natural_key
from qeeps_cli.images import MAX_PIXELS, read_image
from qeeps_cli.types import Box, GalleryFrame, Query, Skipped


@dataclass(frozen=True)
class SearchOptions:
    """What a search may change besides the network's own InferenceParams.

    top_k: keep only that many matches. min_score: keep only matches that score at least that much. exclude_query: leave
    out gallery frames that are the query's own picture, byte for byte. batch: frames of one size that run together;
    None: 1 on a CPU, 8 on a GPU (the matches are the same).
    """

    top_k: int | None = None
    min_score: float | None = None
    exclude_query: bool = False
    max_pixels: int = MAX_PIXELS
    batch: int | None = None

    def __post_init__(self):
        for name in ("top_k", "batch", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} expects a whole number of at least 1, got {value!r}.")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError(f"min_score expects a finite number, got {self.min_score!r}.")

    def to_dict(self) -> dict:
        """The options that change the result, as JSON types."""
        return {
            "top_k": self.top_k,
            "min_score": self.min_score,
            "exclude_query": self.exclude_query,
            "max_pixels": self.max_pixels,
        }


@dataclass(frozen=True)
class QueryPicture:
    """A decoded query. rgb: (H, W, 3) uint8, upright. notes: what was unusual about it."""

    query: Query
    rgb: np.ndarray
    notes: tuple[str, ...] = ()

    def with_box(self, box: Box, note: str | None = None) -> "QueryPicture":
        """The same picture with the person's xyxy box."""
        return replace(self, query=replace(self.query, box=box), notes=(*self.notes, *([note] if note else [])))


@dataclass(frozen=True)
class Gallery:
    """The frames to search in natural order, and the folders that could not be listed. roots: as they were given."""

    roots: tuple[str, ...]
    frames: list[GalleryFrame]
    recursive: bool = True
    skipped: list[Skipped] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def read_query(image: Path | str, box: Sequence[float] | None = None, max_pixels: int = MAX_PIXELS) -> QueryPicture:
    """Decode the query and fit its box into it.

    box: xyxy pixels of the upright picture; None: the whole picture is the person's crop. Raises ImageError when the
    picture cannot be decoded, UsageError for a box that is no box or lies outside the picture.
    """
    image = Path(image)
    decoded = read_image(image, max_pixels)
    picture = QueryPicture(
        Query(image, None, decoded.digest),
        decoded.rgb,
        (f"the query {image.name}: {decoded.note}",) if decoded.note else (),
    )
    return picture if box is None else picture.with_box(*fit_box(_checked(box), *decoded.size))


def list_galleries(roots: Sequence[Path | str], recursive: bool = True, exclude: Iterable[Path] = ()) -> Gallery:
    """The frames of one gallery or more; a frame that several roots lead to is listed once.

    roots: folders and images. With one root, names are relative to it; with more, each name begins with its root as it
    was given. Raises UsageError for a root that cannot be used, NothingToSearchError when none holds an image.
    """
    roots = [Path(root) for root in roots]
    frames: dict[Path, GalleryFrame] = {}
    skipped: list[Skipped] = []
    empty: list[NothingToSearchError] = []
    exclude = list(exclude)
    for root in roots:
        here: list[Skipped] = []
        try:
            found = list_gallery(root, recursive=recursive, exclude=exclude, skipped=here)
        except NothingToSearchError as error:
            empty.append(error)
            found = []
        if len(roots) > 1:  # a root that is an image is its own frame's path
            found = [GalleryFrame(frame.path, frame.path.as_posix()) for frame in found]
            here = [Skipped((root / item.name).as_posix(), item.reason) for item in here]
        skipped += here
        for frame in found:
            frames.setdefault(frame.path.resolve() if len(roots) > 1 else frame.path, frame)
    if not frames:
        raise empty[0] if empty else UsageError("expected at least one gallery, a folder or an image, got none.")
    return Gallery(
        roots=tuple(map(str, roots)),
        frames=sorted(frames.values(), key=lambda frame: natural_key(frame.name)),
        recursive=recursive,
        skipped=skipped,
        notes=tuple(str(error).splitlines()[0] for error in empty),
    )


def _checked(box: Sequence[float]) -> Box:
    try:
        x1, y1, x2, y2 = (float(value) for value in box)
    except (TypeError, ValueError):
        raise UsageError(f"the box expects four numbers (x1, y1, x2, y2) in pixels, got {box!r}.") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 <= x1 or y2 <= y1:
        raise UsageError(
            f"the box expects finite numbers (x1, y1, x2, y2) with x1 < x2 and y1 < y2, got {tuple(box)!r}."
        )
    return x1, y1, x2, y2
