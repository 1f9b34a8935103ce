"""Detections in blocks: the same as one by one, without a copy where they lie together."""

import numpy as np
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, refuse, segments

from qeeps_cli.cache import maintenance
from qeeps_cli.cache.segment import Segment
from qeeps_cli.cache.snapshot import Snapshot
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import CacheError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


def check(store, names, blocks) -> list[int]:
    """The indices that the blocks hold, after a look at every detection in them."""
    seen = []
    for block in blocks:
        assert block.offsets[0] == 0 and block.offsets[-1] == len(block.boxes)
        assert block.embeddings.dtype == np.float16
        for place, index in enumerate(block.indices):
            here = slice(block.offsets[place], block.offsets[place + 1])
            one = store.get(digest(names[index]))
            assert np.array_equal(block.boxes[here], one.boxes)
            assert np.array_equal(block.person_scores[here], one.person_scores)
            assert np.array_equal(block.embeddings[here].astype(np.float32), one.embeddings)
            seen.append(int(index))
    return seen


def blocks_of(store, names):
    return store.blocks([digest(name) for name in names])


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["missing"],
        range(40),
        range(39, -1, -1),
        range(0, 40, 2),
        [3, 3, 3, "missing", 17, 3],
        [*range(30), *range(20)],
    ],
)
def test_blocks_hold_what_was_asked_for(folder, names):
    for begin in range(0, 40, 8):
        fill(folder, range(begin, begin + 8))
    names = list(names)
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        there = [index for index, name in enumerate(names) if name != "missing"]
        assert sorted(check(store, names, blocks_of(store, names))) == there


def test_pending_frames_are_in_blocks(folder):
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        store.add(digest("a"), "a", SIZE, found("a", 3))
        assert check(store, "a", blocks_of(store, "a")) == [0]


def test_superseded_frames_are_in_no_block(folder):
    fill(folder, range(10))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for name in range(0, 10, 3):
            store.add(digest(name), "x", SIZE, found(f"new {name}", 4), replace=True)
        assert sorted(check(store, range(10), blocks_of(store, range(10)))) == list(range(10))


def test_blocks_are_cut(folder, monkeypatch):
    monkeypatch.setattr("qeeps_cli.cache.blocks.BLOCK_DETECTIONS", 10)
    fill(folder, range(40))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        blocks = list(blocks_of(store, range(40)))
        assert all(len(block.boxes) <= 10 for block in blocks) and len(blocks) > 5
        assert sorted(check(store, range(40), blocks)) == list(range(40))
        monkeypatch.setattr("qeeps_cli.cache.blocks.BLOCK_DETECTIONS", 2)  # less than some frames hold
        assert sorted(check(store, range(40), blocks_of(store, range(40)))) == list(range(40))


def test_neighbours_are_not_copied(folder):
    fill(folder, range(40))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        [whole] = blocks_of(store, range(40))
        assert not whole.embeddings.flags.owndata and not whole.embeddings.flags.writeable
        assert whole.embeddings.ctypes.data % 64 == 0 and whole.boxes.ctypes.data % 64 == 0


@pytest.mark.parametrize(("people", "copied"), [(10, True), (800, False)])
def test_gaps_are_skipped_by_copying_only_where_little_lies_between(folder, people, copied):
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for name in range(9):
            store.add(digest(name), "x", SIZE, found(name, people))
        names = [0, 1, 3, 4, 6, 7]
        blocks = list(blocks_of(store, names))
        assert len(blocks) == (1 if copied else 3)
        assert all(block.embeddings.flags.owndata == copied for block in blocks)
        assert sorted(check(store, names, blocks)) == list(range(6))


def test_another_process_may_compact_meanwhile(folder):
    for name in range(10):
        fill(folder, [name])
    with Cache(folder, warn=refuse) as cache, Cache(folder, warn=refuse) as other:
        store, names = cache.frames(FINGERPRINT), list(range(10))
        expected = other.frames(FINGERPRINT)
        kept = {name: expected.get(digest(name)) for name in names}
        blocks = iter(blocks_of(store, names))
        seen = [next(blocks), next(blocks)]
        assert maintenance.compact(folder).files_after == 1
        seen += list(blocks)
        assert sorted(check(store, names, seen)) == names
        assert all(np.array_equal(store.get(digest(name)).boxes, kept[name].boxes) for name in names)
        assert all(np.array_equal(expected.get(digest(name)).boxes, kept[name].boxes) for name in names)


def test_another_process_must_not_clear_meanwhile(folder):
    for name in range(3):
        fill(folder, [name])
    with Cache(folder, warn=refuse) as cache:
        blocks = iter(blocks_of(cache.frames(FINGERPRINT), range(3)))
        next(blocks)
        maintenance.clear(folder)
        with pytest.raises(CacheError, match="cleared"):
            list(blocks)


# One reader, many passes


def test_no_frames_are_read_as_often_as_one_likes(folder):
    with Cache(folder, warn=refuse) as cache:
        reader = blocks_of(cache.frames(FINGERPRINT), [])
        assert [list(reader) for _ in range(4)] == [[]] * 4


def test_every_pass_gives_the_same(folder):
    for begin in range(0, 40, 8):
        fill(folder, range(begin, begin + 8))
    names = [*range(39, -1, -2), "missing", 3, 3]
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        reader = blocks_of(store, names)
        first = check(store, names, reader)
        assert len(first) == 22
        for _ in range(4):
            assert check(store, names, reader) == first


def test_frames_are_looked_up_once(folder, monkeypatch):
    fill(folder, range(10))
    looked_up = []
    find = Snapshot.find
    monkeypatch.setattr(Snapshot, "find", lambda self, keys: looked_up.append(len(keys)) or find(self, keys))
    with Cache(folder, warn=refuse) as cache:
        reader = blocks_of(cache.frames(FINGERPRINT), range(10))
        for _ in range(3):
            list(reader)
        assert looked_up == [10]


def test_who_looks_often_has_the_segments_stay_mapped(folder, monkeypatch):
    for name in range(5):
        with Cache(folder, warn=refuse) as cache:
            cache.frames(FINGERPRINT).add(digest(name), "x", SIZE, found(name, 3))  # segments of one size
    size = sum(path.stat().st_size for path in segments(folder))
    mapped, real = [], Segment.map
    monkeypatch.setattr(Segment, "map", lambda self: mapped.append(self.path) or real(self))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for limit, most, kept in (("KEPT_BYTES", size, 5), ("KEPT_BYTES", size * 3 // 5, 3), ("KEPT_SEGMENTS", 2, 2)):
            with monkeypatch.context() as smaller:
                smaller.setattr(f"qeeps_cli.cache.blocks.{limit}", most)
                reader, counts = blocks_of(store, range(5)), []
                for _ in range(5):
                    mapped.clear()
                    list(reader)
                    counts.append(len(mapped))
                assert counts == [5, 5, 5, 5 - kept, 5 - kept]


def test_a_later_pass_gives_what_was_added_meanwhile(folder):
    fill(folder, range(5))
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        reader = blocks_of(store, range(10))
        for _ in range(3):
            assert sorted(check(store, range(10), reader)) == list(range(5))
        for name in range(4, 10):
            store.add(digest(name), "x", SIZE, found(f"new {name}", 3), replace=True)
        for _ in range(3):
            assert sorted(check(store, range(10), reader)) == list(range(10))


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_another_process_may_compact_between_passes(folder, passes):
    for name in range(10):
        fill(folder, [name])
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        reader = blocks_of(store, range(10))
        for _ in range(passes):
            list(reader)
        assert maintenance.compact(folder).files_after == 1
        for _ in range(3):
            assert sorted(check(store, range(10), reader)) == list(range(10))
