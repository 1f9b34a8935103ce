"""Compacting keeps every result and nothing else."""

import pytest
from cache_samples import DIMENSIONS, FINGERPRINT, SIZE, digest, fill, found, read, refuse, same, same_frames, segments

from qeeps_cli.cache import maintenance, merge
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import CacheError

OTHER = {**FINGERPRINT, "weights": "cd" * 32}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_many_segments_become_one(folder):
    frames = {}
    for name in range(20):
        frames |= fill(folder, [name])
    change = maintenance.compact(folder)
    assert (change.files_before, change.files_after) == (20, 1) and change.size_after < change.size_before
    assert same_frames(read(folder, range(20)), frames)


def test_compacting_twice_changes_nothing(folder, monkeypatch):
    monkeypatch.setattr(merge, "SEGMENT_BYTES", 6_000)
    for begin in range(0, 100, 10):
        fill(folder, range(begin, begin + 10))
    frames = read(folder, range(100))
    maintenance.compact(folder)
    there = segments(folder)
    assert len(there) > 1 and all(path.stat().st_size < 6_000 + 12_000 for path in there)
    assert same_frames(read(folder, range(100)), frames)
    maintenance.compact(folder)
    assert segments(folder) == there


def test_ten_refreshes_and_a_collection_take_no_room(folder):
    fill(folder, range(20))
    maintenance.compact(folder)
    before = size(folder)
    for _ in range(10):
        with Cache(folder, warn=refuse) as cache:
            for name in range(20):
                people = len(found(name))  # as many, but others
                again = found(f"{name} again", people)
                cache.frames(FINGERPRINT).add(digest(name), f"{name}.jpg", SIZE, again, replace=True)
                cache.frames(FINGERPRINT).add(digest(name), f"{name}.jpg", SIZE, found(name), replace=True)
    [group] = maintenance.describe(maintenance.inspect(folder).segments)
    assert group.rows == 20 and group.superseded > 100 and group.segments == 11
    maintenance.compact(folder)
    assert size(folder) == before


def test_superseded_rows_go_wherever_they_are(folder):
    fill(folder, range(5))
    expected = {}
    for people in (1, 2, 3):
        with Cache(folder, warn=refuse) as cache:
            expected[2] = cache.frames(FINGERPRINT).add(digest(2), "x", SIZE, found(2, people), replace=True)
    before = read(folder, range(5))
    [group] = maintenance.describe(maintenance.inspect(folder).segments)
    assert (group.rows, group.superseded, group.segments) == (5, 3, 4)
    maintenance.compact(folder)
    [group] = maintenance.describe(maintenance.inspect(folder).segments)
    assert (group.rows, group.superseded, group.segments) == (5, 0, 1)
    assert same_frames(read(folder, range(5)), before) and same(before[2], expected[2])


def test_all_kinds_and_fingerprints_are_kept_apart(folder, tmp_path):
    picture = tmp_path / "picture"
    picture.write_bytes(b"x")
    stat = picture.stat()
    for number in range(3):
        with Cache(folder, warn=refuse) as cache:
            for fingerprint in (FINGERPRINT, OTHER):
                cache.frames(fingerprint).add(digest(number), "x", SIZE, found(number), note="odd")
                for box in (None, (1, 2, 3, 4)):
                    store = cache.pairs(fingerprint, digest("query"), box)
                    store.add(
                        digest(number), "x", SIZE, found((number, box, fingerprint["weights"]), 2, number or None)
                    )
            cache.remember(picture, stat, digest(number), taken_ns=stat.st_ctime_ns + 10**10)
    assert maintenance.compact(folder).files_after == 5
    with Cache(folder, warn=refuse) as cache:
        assert cache.digest_of(picture) == digest(2)
        for fingerprint in (FINGERPRINT, OTHER):
            assert [cache.frames(fingerprint).about(digest(n)).note for n in range(3)] == ["odd"] * 3
            for box in (None, (1, 2, 3, 4)):
                store = cache.pairs(fingerprint, digest("query"), box)
                for number in range(3):
                    pair = store.get(digest(number))
                    expected = found((number, box, fingerprint["weights"]), 2, number or None)
                    assert pair.scores.tobytes() == expected.scores.tobytes()
                    assert (pair.proposals is None) == (number == 0)
    groups = maintenance.describe(maintenance.inspect(folder).segments)
    assert [(group.kind, group.rows, group.superseded) for group in groups] == [
        ("files", 1, 0),
        ("frames", 3, 0),
        ("frames", 3, 0),
        ("pairs", 6, 0),
        ("pairs", 6, 0),
    ]


def test_frames_without_people_survive(folder):
    for name in "ab":
        with Cache(folder, warn=refuse) as cache:
            cache.frames(FINGERPRINT).add(digest(name), name, SIZE, found(name, 0))
    maintenance.compact(folder)
    assert [frame.embeddings.shape for frame in read(folder, "ab").values()] == [(0, DIMENSIONS)] * 2


def test_what_other_weights_found_may_go(folder):
    fill(folder, "ab")
    fill(folder, "abc", OTHER)
    maintenance.compact(folder, keep=lambda fingerprint: fingerprint["weights"] == OTHER["weights"])
    assert read(folder, "abc") == {} and len(read(folder, "abc", OTHER)) == 3


def test_runs_merge_what_many_runs_have_left(folder, monkeypatch):
    monkeypatch.setattr(merge, "MANY", 8)
    frames = {}
    for name in range(30):
        frames |= fill(folder, [name])
        assert len(segments(folder)) < 8
    assert same_frames(read(folder, range(30)), frames)


def test_there_must_be_a_cache(folder):
    for action in (maintenance.inspect, maintenance.compact, maintenance.clear):
        with pytest.raises(CacheError, match="there is no cache"):
            action(folder)


def test_clearing_removes_only_what_is_ours(folder):
    fill(folder, "ab")
    fill(folder, "b", OTHER)
    (folder / f"frames-{'0' * 32}.h5.damaged").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    (folder / "pairs").mkdir()
    change = maintenance.clear(folder)
    assert (change.files_before, change.files_after) == (3, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "pairs"]
    fill(folder.with_name("other.qeeps"), "a")
    maintenance.clear(folder.with_name("other.qeeps"))
    assert not folder.with_name("other.qeeps").exists()
