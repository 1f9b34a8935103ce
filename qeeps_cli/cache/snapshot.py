"""The published rows of one kind and fingerprint at one time: segments, and an index over them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qeeps_cli.cache.index import Index, index_segment, newest
from qeeps_cli.cache.segment import Segment

INDEX_LEVELS = 16


@dataclass(frozen=True)
class Snapshot:
    """levels: indices over `segments`; where several have a key, the last counts. last_created: of all rows."""

    segments: tuple[Segment, ...] = ()
    levels: tuple[Index, ...] = ()
    last_created: int = 0

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segment number and row of (n, 16) uint8 keys, each (n,) int64; -1 where a key is not there."""
        segment = np.full(len(keys), -1, np.int64)
        row = np.full(len(keys), -1, np.int64)
        for level in self.levels:
            at = level.find(keys)
            there = at >= 0
            segment[there] = level.segment[at[there]]
            row[there] = level.row[at[there]]
        return segment, row

    def find_one(self, key: bytes) -> tuple[Segment, int] | None:
        """The segment and the row of one key of 16 bytes."""
        for level in reversed(self.levels):
            if (at := level.find_one(key)) >= 0:
                return self.segments[level.segment[at]], int(level.row[at])
        return None

    def merged(self) -> Index:
        """All levels as one index: each key once."""
        if len(self.levels) == 1:
            return self.levels[0]
        return newest([(level, np.full(len(level), age)) for age, level in enumerate(self.levels)])

    def with_segment(self, segment: Segment) -> "Snapshot":
        """With a segment more, whose rows are newer than all others. Raises FileNotFoundError when it is gone."""
        columns = segment.map()
        added = newest([index_segment(columns[segment.kind.key], columns["created"], len(self.segments))])
        # A rebuilt index for every new segment would take longer and longer, a level for every one slows the search.
        levels = self.levels if len(self.levels) < INDEX_LEVELS else (self.merged(),)
        return Snapshot((*self.segments, segment), (*levels, added), int(columns["created"].max(initial=0)))


def snapshot_of(segments: Iterable[Segment]) -> Snapshot:
    """The rows of some segments, in the order of their names. Raises FileNotFoundError when one of them is gone."""
    segments = tuple(segments)
    parts = []
    for number, segment in enumerate(segments):
        columns = segment.map()  # one after the other: each mapping holds a file descriptor
        parts.append(index_segment(columns[segment.kind.key], columns["created"], number))
    last_created = max((int(created.max(initial=0)) for _, created in parts), default=0)
    return Snapshot(segments, (newest(parts),), last_created)
