"""What goes into the cache comes out of it, for as long as nothing that it depends on changes."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, read, refuse, same, same_frames, segments

from qeeps_cli.cache import store as store_module
from qeeps_cli.cache import table
from qeeps_cli.cache.store import Cache, canonical_json
from qeeps_cli.errors import CacheError, NotANumberError

BOX = (10.0, 20.0, 110.5, 220.25)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


@pytest.mark.parametrize("people", [0, 1, 300])
@pytest.mark.parametrize("proposals", [None, 0, 7])
def test_cached_frames_equal_fresh_ones(folder, people, proposals):
    frame = found("a", people, proposals)
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        fresh = store.add(digest("a"), "a.jpg", SIZE, frame)
        pending = store.get(digest("a"))
        cache.flush()
        published = store.get(digest("a"))
    with Cache(folder, warn=refuse) as cache:
        assert all(same(fresh, other) for other in (pending, published, cache.frames(FINGERPRINT).get(digest("a"))))
    assert np.array_equal(fresh.boxes, frame.boxes) and np.array_equal(fresh.scores, frame.person_scores)
    assert np.array_equal(fresh.embeddings, frame.embeddings.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("people", [0, 1, 300])
@pytest.mark.parametrize("proposals", [None, 0, 7])
def test_cached_pairs_equal_fresh_ones(folder, people, proposals):
    pair = found("a", people, proposals)
    with Cache(folder, warn=refuse) as cache:
        store = cache.pairs(FINGERPRINT, digest("query"), BOX)
        fresh = store.add(digest("a"), "a.jpg", SIZE, pair)
        assert same(fresh, store.get(digest("a")))
    with Cache(folder, warn=refuse) as cache:
        assert same(fresh, cache.pairs(FINGERPRINT, digest("query"), BOX).get(digest("a")))
    assert same(fresh, replace(pair, embeddings=np.zeros((people, 0), np.float32)))


def test_what_is_known_of_a_frame(folder):
    with Cache(folder, warn=refuse) as cache:
        for store in (cache.frames(FINGERPRINT), cache.pairs(FINGERPRINT, digest("query"), None)):
            assert store.about(digest("a")) is None and store.get(digest("a")) is None and len(store) == 0
            store.add(digest("a"), "a\udce9\n.jpg", SIZE, found("a", 3), note="animated: the first frame · 1")
            store.add(digest("b"), "", (1, 2), found("b", 0, 5))
    with Cache(folder, warn=refuse) as cache:
        for store in (cache.frames(FINGERPRINT), cache.pairs(FINGERPRINT, digest("query"), None)):
            a, b = store.about(digest("a")), store.about(digest("b"))
            assert (a.size, a.note, a.people, a.has_proposals) == (SIZE, "animated: the first frame · 1", 3, False)
            assert (b.size, b.note, b.people, b.has_proposals) == ((1, 2), None, 0, True)
            assert len(store) == 2 and digest("a") in store and digest("c") not in store
        columns = cache.frames(FINGERPRINT)._table.snapshot().segments[0].map()
        assert columns["names"].tobytes() == os.fsencode("a\udce9\n.jpg")


@pytest.mark.parametrize(
    "other",
    [
        {},
        {**FINGERPRINT, "weights": "cd" * 32},
        {**FINGERPRINT, "parameters": {"nms": 0.5}},
        {**FINGERPRINT, "precision": "bfloat16"},
    ],
)
def test_other_weights_or_parameters_miss(folder, other):
    frames = fill(folder, "ab")
    assert read(folder, "ab", other) == {}
    fill(folder, "bc", other)
    assert same_frames(read(folder, "abc"), frames) and read(folder, "abc", other).keys() == {"b", "c"}


def test_the_order_of_a_fingerprint_does_not_matter(folder):
    fill(folder, "a")
    assert read(folder, "a", dict(reversed(FINGERPRINT.items()))).keys() == {"a"}
    with pytest.raises(ValueError):
        canonical_json({"nms": float("nan")})


def test_other_queries_miss(folder):
    x1, y1, x2, y2 = BOX
    with Cache(folder, warn=refuse) as cache:
        cache.pairs(FINGERPRINT, digest("query"), BOX).add(digest("a"), "a", SIZE, found("a"))
        cache.flush()
        assert digest("a") in cache.pairs(FINGERPRINT, digest("query"), np.array(BOX, np.float32).tolist())
        for query, box in (("query", None), ("query", (x1 + 1, y1, x2, y2)), ("other", BOX), ("query", (0, 0, 1, 1))):
            store = cache.pairs(FINGERPRINT, digest(query), box)
            assert digest("a") not in store and len(store) == 0
        assert digest("a") not in cache.frames(FINGERPRINT)


def test_another_way_of_comparing_misses_pairs_and_no_frames(folder, monkeypatch):
    with Cache(folder, warn=refuse) as cache:
        cache.pairs(FINGERPRINT, digest("query"), BOX).add(digest("a"), "a", SIZE, found("a"))
        cache.frames(FINGERPRINT).add(digest("a"), "a", SIZE, found("a"))
    monkeypatch.setattr(store_module, "PAIR_COMPUTATION", 99)
    with Cache(folder, warn=refuse) as cache:
        assert digest("a") not in cache.pairs(FINGERPRINT, digest("query"), BOX)
        assert digest("a") in cache.frames(FINGERPRINT)


def test_the_first_stays_unless_it_is_to_be_replaced(folder):
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        first = store.add(digest("a"), "a", SIZE, found("a", 2))
        assert same(store.add(digest("a"), "a", SIZE, found("b", 3)), first)
        cache.flush()
        assert same(store.add(digest("a"), "a", SIZE, found("b", 3)), first)
        second = store.add(digest("a"), "a", SIZE, found("b", 3), replace=True)
        assert not same(first, second) and same(store.get(digest("a")), second)
        with_proposals = store.add(digest("a"), "a", SIZE, found("b", 3, 6))
        assert len(with_proposals.proposals) == 6
        assert same(store.add(digest("a"), "a", SIZE, found("b", 3)), with_proposals)
        assert len(store) == 1
    assert same(read(folder, "a")["a"], with_proposals)


def test_the_newest_counts_whatever_the_files_are_called(folder):
    for people in range(1, 12):
        with Cache(folder, warn=refuse) as cache:
            last = cache.frames(FINGERPRINT).add(digest("a"), "a", SIZE, found("a", people), replace=True)
    names = [path.name for path in sorted(segments(folder), key=lambda path: path.stat().st_mtime_ns)]
    assert len(names) == 11 and names != sorted(names)
    assert same(read(folder, "a")["a"], last)


def test_equal_results_take_no_room(folder):
    fill(folder, "ab")
    before = segments(folder)
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for name in "ab":
            store.add(digest(name), "renamed", SIZE, found(name), replace=True)
    assert segments(folder) == before


@pytest.mark.parametrize("field", ["boxes", "person_scores", "embeddings"])
def test_what_is_no_number_is_not_cached(folder, field):
    frame = found("a", 2)
    getattr(frame, field)[1] = np.nan
    with Cache(folder, warn=refuse) as cache:
        with pytest.raises(NotANumberError, match="a.jpg"):
            cache.frames(FINGERPRINT).add(digest("a"), "a.jpg", SIZE, frame)
        assert digest("a") not in cache.frames(FINGERPRINT)
    assert not folder.exists()


@pytest.mark.parametrize("wrong", ["", "ab", "zz" * 16, "ab" * 32])
def test_a_digest_of_another_length_is_a_mistake(folder, wrong):
    with Cache(folder, warn=refuse) as cache, pytest.raises(ValueError):
        cache.frames(FINGERPRINT).get(wrong)


def test_nothing_is_written_before_there_is_something_to_write(folder):
    with Cache(folder, warn=refuse) as cache:
        assert cache.writable and digest("a") not in cache.frames(FINGERPRINT)
    assert not folder.exists()


def test_what_is_pending_is_published_when_the_search_fails(folder):
    with pytest.raises(KeyboardInterrupt), Cache(folder, warn=refuse) as cache:
        cache.frames(FINGERPRINT).add(digest("a"), "a", SIZE, found("a"))
        raise KeyboardInterrupt
    assert read(folder, "a").keys() == {"a"}


def test_publication_by_size(folder, monkeypatch):
    monkeypatch.setattr(table, "PENDING_BYTES", 5_000)
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for number in range(100):
            store.add(digest(number), "x", SIZE, found(number, 4))
        assert 4 < len(segments(folder)) < 20
        assert all(digest(number) in store for number in range(100))
    assert len(read(folder, range(100))) == 100


def test_publication_by_time(folder, monkeypatch):
    monkeypatch.setattr(table, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(table, "MOST_SECONDS", 0.2)
    begin = time.monotonic()
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for number in range(100_000):
            store.add(digest(number), "x", SIZE, found("x", 1))
            seconds = time.monotonic() - begin
            if seconds > 0.6:
                break
        assert 1 <= len(segments(folder)) <= 3 + seconds / 0.2  # after 0.05, 0.1, 0.2, 0.2 ... seconds


def test_many_segments_in_one_run_are_found(folder, monkeypatch):
    monkeypatch.setattr(table, "PENDING_BYTES", 1)
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for number in range(50):  # more than an index has levels
            store.add(digest(number % 45), "x", SIZE, found(number, 1), replace=True)
        assert len(store) == 45
        assert all(same(store.get(digest(n)), store.add(digest(n), "x", SIZE, found(n, 1))) for n in range(5, 45))
        assert np.array_equal(store.get(digest(0)).boxes, found(45, 1).boxes)


def test_a_temporary_cache_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Cache(None, warn=refuse) as cache:
        assert not cache.writable
        store = cache.frames(FINGERPRINT)
        fresh = store.add(digest("a"), "a", SIZE, found("a", 2))
        assert len(list(store.blocks([digest("a")]))) == 1
        assert same(store.get(digest("a")), fresh)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_only_read_still_serves_what_a_run_adds(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fill(folder, "a")
    before = sorted(folder.iterdir())
    with Cache(folder, read_only=True, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        store.add(digest("b"), "b", SIZE, found("b"))
        cache.flush()
        assert store.get(digest("b")) and store.get(digest("a")) and len(store) == 2
    assert sorted(folder.iterdir()) == before and list(tmp_path.iterdir()) == [folder]


def test_threads_may_read_and_write(folder, monkeypatch):
    monkeypatch.setattr(table, "PENDING_BYTES", 2_000)

    def work(number: int) -> bool:
        fresh = store.add(digest(number), "x", SIZE, found(number))
        return same(store.get(digest(number)), fresh) and store.about(digest(number)).people == len(fresh)

    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(200)))
        assert len(store) == 200


def test_a_file_where_the_folder_should_be(folder):
    folder.write_text("text")
    with pytest.raises(CacheError, match="is a file"):
        Cache(folder, warn=refuse)
