"""The detections of many frames in blocks, as they lie in the segments: for whoever looks at all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qeeps_cli.cache.columns import Columns, entries_of
from qeeps_cli.cache.detections import parse_digests
from qeeps_cli.cache.segment import Segment
from qeeps_cli.cache.snapshot import Snapshot
from qeeps_cli.cache.table import Table
from qeeps_cli.errors import CacheError

BLOCK_DETECTIONS = 65_536
RUN_DETECTIONS = 1_024  # neighbours in a segment are given as they lie there when they are as many as this
SINGLE_PASSES = 2  # a search makes so many at most; whoever makes more will make others
KEPT_BYTES = 2**30  # segments that stay mapped from then on: to map a page takes almost as long as to score it
KEPT_SEGMENTS = 64  # each mapping holds a file descriptor


@dataclass(frozen=True)
class Block:
    """Detections of some frames.

    indices: (n,) int64, the frames' places among the digests that were asked for. offsets: (n + 1,) int64; the
    detections of frame i are those from offsets[i] to offsets[i + 1] of boxes (m, 4) float32 xyxy pixels,
    person_scores (m,) float32 and embeddings (m, D) float16. Not to be changed: most are views of a file.
    """

    indices: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    person_scores: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True)
class _Stretch:
    """The frames that one segment holds. indices: (n,) int64. rows: (n,) int64, ascending."""

    segment: Segment
    indices: np.ndarray
    rows: np.ndarray


class BlockReader:
    """The blocks of some frames, as often as they are iterated over. Not thread-safe.

    Memory is bounded, but for 16 bytes a frame: where they lie is looked up in the first pass, and again when the table
    has changed. Segments are mapped while they are looked at; who iterates more than SINGLE_PASSES times has up to
    KEPT_BYTES of them stay mapped.
    """

    def __init__(self, table: Table, digests: Sequence[str]):
        self._table = table
        self._digests = digests
        self._snapshot: Snapshot | None = None
        self._stretches: list[_Stretch] = []
        self._passes = 0
        self._kept: dict[Path, Columns] = {}
        self._kept_bytes = 0

    def __iter__(self) -> Iterator[Block]:
        """The detections in the order in which they lie in the segments.

        Frames that are not stored are in no block; a digest that is asked for twice is given twice. What is pending is
        published first. Raises ValueError for what is no digest, CacheError when frames vanish meanwhile (`qeeps cache
        clear`).
        """
        self._passes += 1
        self._table.flush()
        if self._table.snapshot() is not self._snapshot:
            self._locate()
        left = list(self._stretches)
        while left:
            try:
                columns = self._columns(left[0].segment)
            except FileNotFoundError:  # merged by another process
                left = self._locate_again(left)
                continue
            yield from _blocks(columns, left[0].indices, left[0].rows)
            del columns, left[0]

    def _locate(self) -> None:
        self._kept, self._kept_bytes = {}, 0
        self._snapshot = self._table.snapshot()
        segments, rows = self._snapshot.find(parse_digests(self._digests))
        self._stretches = _stretches(self._snapshot, np.flatnonzero(segments >= 0), segments, rows)

    def _locate_again(self, stretches: Sequence[_Stretch]) -> list[_Stretch]:
        """The same frames in the segments that are there now; the next pass looks all of them up."""
        snapshot, self._snapshot = self._table.reload(), None
        segments, rows = snapshot.find(parse_digests(self._digests))
        indices = np.concatenate([stretch.indices for stretch in stretches])
        if np.any(segments[indices] < 0):
            raise CacheError("the cache was cleared while it was read. Run the same command again.") from None
        return _stretches(snapshot, indices, segments, rows)

    def _columns(self, segment: Segment) -> Columns:
        if segment.path in self._kept:
            return self._kept[segment.path]
        columns = segment.map()
        fits = self._kept_bytes + segment.size <= KEPT_BYTES and len(self._kept) < KEPT_SEGMENTS
        if self._passes > SINGLE_PASSES and fits:
            self._kept[segment.path] = columns
            self._kept_bytes += segment.size
        return columns


def _stretches(snapshot: Snapshot, indices: np.ndarray, segments: np.ndarray, rows: np.ndarray) -> list[_Stretch]:
    """Some frames by where they lie. segments, rows: (F,) of all frames; indices: (n,) of those that are meant."""
    indices = indices[np.lexsort((rows[indices], segments[indices]))]
    cuts = np.flatnonzero(np.diff(segments[indices])) + 1
    return [
        _Stretch(snapshot.segments[segments[some[0]]], some, rows[some])
        for some in np.split(indices, cuts)
        if len(some)
    ]


def _blocks(columns: Columns, indices: np.ndarray, rows: np.ndarray) -> Iterator[Block]:
    offsets = columns["offsets"]
    before = np.concatenate([[0], np.cumsum(offsets[rows + 1] - offsets[rows])])
    begin = 0
    while begin < len(rows):
        fitting = int(np.searchsorted(before, before[begin] + BLOCK_DETECTIONS, side="right")) - 1
        end = max(begin + 1, fitting)
        yield from _runs(columns, indices[begin:end], rows[begin:end])
        begin = end


def _runs(columns: Columns, indices: np.ndarray, rows: np.ndarray) -> Iterator[Block]:
    """Rows that lie side by side are given without a copy, but not when that would make crumbs of a block."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    offsets = columns["offsets"]
    detections = int((offsets[rows + 1] - offsets[rows]).sum())
    if len(cuts) and detections // (len(cuts) + 1) < RUN_DETECTIONS:
        entries, offsets = entries_of(offsets, rows)
        yield _block(columns, indices, offsets, entries)
        return
    for run, run_rows in zip(np.split(indices, cuts), np.split(rows, cuts), strict=True):
        bounds = offsets[run_rows[0] : run_rows[-1] + 2]
        yield _block(columns, run, bounds - bounds[0], slice(int(bounds[0]), int(bounds[-1])))


def _block(columns: Columns, indices: np.ndarray, offsets: np.ndarray, entries: np.ndarray | slice) -> Block:
    return Block(
        indices, offsets, columns["boxes"][entries], columns["person_scores"][entries], columns["features"][entries]
    )
