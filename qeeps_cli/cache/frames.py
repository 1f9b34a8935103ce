"""Frames that were run once, without a query: the people in them, for any query that comes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qeeps_cli.cache.columns import Columns, Row, entries_of
from qeeps_cli.cache.detections import DetectionStore, parse_digests, proposals_of
from qeeps_cli.errors import CacheError
from qeeps_cli.types import Detections

BLOCK_DETECTIONS = 65_536
RUN_DETECTIONS = 1_024  # neighbours in a segment are given as they lie there when they are as many as this


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


class FrameStore(DetectionStore):
    """Frames without a query. The scores of detections are the person scores, and their embeddings the float32 values
    of what is stored as float16."""

    def __len__(self) -> int:
        self._table.flush()
        return len(self._table.snapshot().merged())

    def blocks(self, digests: Sequence[str]) -> Iterator[Block]:
        """The detections of many frames, in the order in which they lie in the segments, with bounded memory.

        Frames that are not stored are in no block; a digest that is asked for twice is given twice. What is pending is
        published first. Raises CacheError when frames vanish meanwhile (`qeeps cache clear`).
        """
        self._table.flush()
        keys = parse_digests(digests)
        snapshot = self._table.snapshot()
        segments, rows = snapshot.find(keys)
        left = np.flatnonzero(segments >= 0)
        while left.size:
            number = segments[left].min()
            here = segments[left] == number
            try:
                columns = snapshot.segments[number].map()
            except FileNotFoundError:  # merged by another process
                snapshot = self._table.reload()
                segments, rows = snapshot.find(keys)
                if np.any(segments[left] < 0):
                    raise CacheError("the cache was cleared while it was read. Run the same command again.") from None
                continue
            yield from _blocks(columns, left[here], rows[left[here]])
            left = left[~here]

    def _own_columns(self, digest: str, name: str, detections: Detections) -> Row:
        return {
            "names": np.frombuffer(os.fsencode(name), np.uint8),
            "features": np.array(detections.embeddings, np.float16),
        }

    def _detections(self, row: Row) -> Detections:
        scores = row["person_scores"].copy()
        return Detections(row["boxes"].copy(), scores, scores, row["features"].astype(np.float32), proposals_of(row))


def _blocks(columns: Columns, indices: np.ndarray, rows: np.ndarray) -> Iterator[Block]:
    order = np.argsort(rows, kind="stable")
    indices, rows = indices[order], rows[order]
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
