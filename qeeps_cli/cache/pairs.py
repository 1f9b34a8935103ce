"""Pairs of a query and a frame that went through the network together: an interrupted search resumes from them."""

import hashlib
import struct

import numpy as np

from qeeps_cli.cache.columns import KEY_BYTES, Row
from qeeps_cli.cache.detections import DetectionStore, parse_digest, proposals_of
from qeeps_cli.cache.table import Table
from qeeps_cli.types import Box, Detections

# Part of the key of pairs, and of nothing else: to be raised by whatever changes what is found of a frame for a query,
# but not without one (the engine's COMPUTATION is part of every key).
PAIR_COMPUTATION = 4
_NO_BOX = (float("nan"),) * 4


class PairStore(DetectionStore):
    """The frames that were searched for one query. Embeddings are not kept: they are (N, 0).

    query_digest: of the query image's file. box: xyxy pixels; None: the whole picture is the person.
    """

    def __init__(self, table: Table, query_digest: str, box: Box | None):
        super().__init__(table)
        self._query_digest = parse_digest(query_digest)
        self._box = _NO_BOX if box is None else tuple(float(value) + 0.0 for value in box)  # + 0.0: no -0.0
        self._query = struct.pack("<16s4d", self._query_digest, *self._box)

    def __len__(self) -> int:
        self._table.flush()
        frames: set[bytes] = set()
        for segment in self._table.snapshot().segments:
            columns = segment.map()
            queries = np.all(columns["query_digests"] == np.frombuffer(self._query_digest, np.uint8), axis=1)
            boxes = np.all(columns["query_boxes"].view(np.int64) == np.array(self._box).view(np.int64), axis=1)
            frames.update(map(bytes, columns["digests"][queries & boxes]))
        return len(frames)

    def _key(self, digest: str) -> bytes:
        return hashlib.blake2b(self._query + parse_digest(digest), digest_size=KEY_BYTES).digest()

    def _own_columns(self, digest: str, name: str, detections: Detections) -> Row:
        return {
            "query_digests": np.frombuffer(self._query_digest, np.uint8),
            "query_boxes": np.array(self._box, np.float64),
            "digests": np.frombuffer(parse_digest(digest), np.uint8),
            "scores": np.array(detections.scores, np.float32),
        }

    def _detections(self, row: Row) -> Detections:
        boxes = row["boxes"].copy()
        embeddings = np.zeros((len(boxes), 0), np.float32)
        return Detections(boxes, row["person_scores"].copy(), row["scores"].copy(), embeddings, proposals_of(row))
