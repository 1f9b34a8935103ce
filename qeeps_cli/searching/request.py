"""What a search starts from, read and checked before any network is loaded: query picture and options."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qeeps_cli.boxes import fit_box
from qeeps_cli.errors import UsageError
from qeeps_cli.frames import FrameReader, read_frame
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.searching.cascade import shortlist_size
from qeeps_cli.types import Box, Decoded, Query

MODES = ("exact", "cached", "cascade", "auto")


@dataclass(frozen=True)
class SearchOptions:
    """What a search may change besides the network's own InferenceParams.

    top_k: keep only that many matches; None: each frame's best and the 10,000 best of all. min_score: keep only matches
    that score at least that much, from 0 to 1, or from -1 where scores are cosines (`check_scores`). exclude_query:
    leave out gallery frames that are the query's own picture, byte for byte. batch: frames of one size that run
    together; None: 1 on a CPU, 8 on a GPU (the matches are the same). mode: one of MODES; "auto" is decided by
    `plan_search`. shortlist: frames that the cascade compares exactly, see `shortlist_size`. expand: of the mode
    "cached", the best match speaks for the others (`expansion`).
    """

    top_k: int | None = None
    min_score: float | None = None
    exclude_query: bool = False
    max_pixels: int = MAX_PIXELS
    batch: int | None = None
    mode: str = "auto"
    shortlist: int | str | None = None
    expand: bool = False

    def __post_init__(self):
        for name in ("top_k", "batch", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} expects a whole number of at least 1, got {value!r}.")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise UsageError(
                f"--min-score expects a number from 0 to 1, which is what scores are, got {self.min_score!r}. Cosines, "
                "the scores of weights without QSimNet, begin at -1."
            )
        if self.mode not in MODES:
            raise UsageError(f"--mode expects one of {', '.join(MODES)}, got {self.mode!r}.")
        if self.shortlist is not None:
            shortlist_size(self.shortlist, frames=1)
            if self.mode not in ("cascade", "auto"):
                raise UsageError(f"--shortlist belongs to --mode cascade; {self.mode} has none.")
        if self.expand and (self.mode not in ("cached", "auto") or self.shortlist is not None):
            given = self.mode if self.shortlist is None else "--shortlist"
            raise UsageError(
                f"--expand ranks people who were found without the query, that is --mode cached, got {given}."
            )

    def check_scores(self, has_qsimnet: bool) -> None:
        """Raises UsageError for a min_score below all scores that a network with or without QSimNet gives."""
        if self.min_score is not None and self.min_score < 0 and has_qsimnet:
            raise UsageError(
                f"--min-score expects a number from 0 to 1, got {self.min_score!r}: the scores of these weights are "
                "probabilities. Only cosines, the scores of weights without QSimNet, may be negative."
            )

    def to_dict(self) -> dict:
        """The options that change the result whatever the mode is, as JSON types."""
        return {
            "top_k": self.top_k,
            "min_score": self.min_score,
            "exclude_query": self.exclude_query,
            "expand": self.expand,
            "max_pixels": self.max_pixels,
        }


@dataclass(frozen=True)
class QueryPicture:
    """A query that could be decoded. rgb: (H, W, 3) uint8, upright; None: read again when it is needed, so that many
    queries take little memory. notes: what was unusual about it. id: its name among several queries."""

    query: Query
    rgb: np.ndarray | None
    notes: tuple[str, ...] = ()
    id: str = ""

    def with_box(self, box: Box, *notes: str | None) -> "QueryPicture":
        """The same picture with the person's xyxy box. notes: None among them says nothing."""
        return replace(self, query=replace(self.query, box=box), notes=(*self.notes, *filter(None, notes)))

    def pixels(self, max_pixels: int = MAX_PIXELS, reader: FrameReader | None = None) -> np.ndarray:
        """(H, W, 3) uint8. reader: as for `read_query`. Raises ImageError or UsageError where the file is not any more
        what it was."""
        if self.rgb is not None:
            return self.rgb
        decoded = _read(self.query.image, max_pixels, reader)
        if decoded.digest != self.query.digest:
            raise UsageError(f"the query {self.query.image} was replaced while the search ran. Run it again.")
        return decoded.rgb


def read_query(
    image: Path | str,
    box: Sequence[float] | None = None,
    max_pixels: int = MAX_PIXELS,
    reader: FrameReader | None = None,
) -> QueryPicture:
    """Decode the query and fit its box into it.

    image: a picture, or a moment of a video such as `video.mp4@00:01:02`. box: xyxy pixels of the upright picture;
    None: the whole picture is the person's crop. reader: of many queries, with its own max_pixels; it reads a video of
    which several are moments once. Raises ImageError when the picture cannot be decoded, UsageError for a box that is
    no box or lies outside the picture.
    """
    image = Path(image)
    decoded = _read(image, max_pixels, reader)
    picture = QueryPicture(
        Query(image, None, decoded.digest),
        decoded.rgb,
        (f"the query {image.name}: {decoded.note}",) if decoded.note else (),
    )
    return picture if box is None else picture.with_box(*fit_box(_checked(box), *decoded.size))


def _read(image: Path, max_pixels: int, reader: FrameReader | None) -> Decoded:
    return reader.read(image, with_digest=True) if reader else read_frame(image, max_pixels)


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
