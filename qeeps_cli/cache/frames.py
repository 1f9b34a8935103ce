"""Frames that were run once, without a query: the people in them, for any query that comes."""

import os
from collections.abc import Sequence

import numpy as np

from qeeps_cli.cache.blocks import BlockReader
from qeeps_cli.cache.columns import Row
from qeeps_cli.cache.detections import DetectionStore, proposals_of
from qeeps_cli.types import Detections


class FrameStore(DetectionStore):
    """Frames without a query. The scores of detections are the person scores, and their embeddings the float32 values
    of what is stored as float16."""

    def __len__(self) -> int:
        self._table.flush()
        return len(self._table.snapshot().merged())

    def blocks(self, digests: Sequence[str]) -> BlockReader:
        """The detections of many frames, with bounded memory, as often as they are iterated over."""
        return BlockReader(self._table, digests)

    def places(self, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where (n, 16) uint8 digests lie: number of the segment and row, each (n,) int64; -1: not published."""
        return self._table.snapshot().find(digests)

    def _own_columns(self, digest: str, name: str, detections: Detections) -> Row:
        return {
            "names": np.frombuffer(os.fsencode(name), np.uint8),
            "features": np.array(detections.embeddings, np.float16),
        }

    def _detections(self, row: Row) -> Detections:
        scores = row["person_scores"].copy()
        return Detections(row["boxes"].copy(), scores, scores, row["features"].astype(np.float32), proposals_of(row))
