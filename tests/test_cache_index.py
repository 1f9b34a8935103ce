"""The index against a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qeeps_cli.cache.index import index_segment, newest
from qeeps_cli.cache.snapshot import Snapshot

# Keys that often share a half, or all of it.
halves = st.sampled_from([b"\0" * 8, b"\0" * 7 + b"\1", b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7, b"\xff" * 8])
keys = st.tuples(halves, halves).map(b"".join)
segments = st.lists(st.lists(st.tuples(keys, st.integers(0, 3)), max_size=12), max_size=5)


def as_array(some: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(some), np.uint8).reshape(-1, 16)


@given(segments, st.lists(keys, max_size=8))
def test_the_newest_row_of_each_key(parts, wanted):
    expected: dict[bytes, tuple[int, int, int]] = {}
    for number, rows in enumerate(parts):
        for row, (key, created) in enumerate(rows):
            if key not in expected or created >= expected[key][0]:
                expected[key] = (created, number, row)
    index = newest(
        [
            index_segment(as_array([key for key, _ in rows]), np.array([age for _, age in rows], np.int64), number)
            for number, rows in enumerate(parts)
        ]
    )
    wanted = [*wanted, *expected]
    assert len(index) == len(expected)
    for key, at in zip(wanted, index.find(as_array(wanted)), strict=True):
        assert at == index.find_one(key)
        place = (index.segment[at], index.row[at]) if at >= 0 else None
        assert place == (expected[key][1:] if key in expected else None)


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_later_levels_count(levels):
    some = [bytes([n]) * 16 for n in range(4)]
    indices = [newest([index_segment(as_array(some[:2]), np.zeros(2, np.int64), number)]) for number in range(levels)]
    snapshot = Snapshot(tuple(range(levels)), tuple(indices))
    segment, row = snapshot.find(as_array(some))
    assert segment.tolist() == [levels - 1, levels - 1, -1, -1]
    assert row.tolist() == ([0, 1, -1, -1] if levels else [-1] * 4)
    assert snapshot.find_one(some[1]) == ((levels - 1, 1) if levels else None)
    assert len(snapshot.merged()) == (2 if levels else 0)
    assert snapshot.merged().segment.tolist() == [levels - 1] * min(2 * levels, 2)
