"""Caches of processes that work for another one: told what is there, heard of when they have published."""

import pickle

import numpy as np
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, refuse, same, segments

from qeeps_cli.cache import folder as disk
from qeeps_cli.cache.folder import NotWritableError, marked
from qeeps_cli.cache.merge import MANY
from qeeps_cli.cache.store import Cache


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery.qeeps"


def snapshots_of(folder) -> dict:
    """As they arrive on another machine."""
    with Cache(folder, warn=refuse) as cache:
        cache.frames(FINGERPRINT)
        return pickle.loads(pickle.dumps(cache.snapshots()))


def test_a_worker_knows_what_is_there_without_reading_it(folder, monkeypatch):
    stored = fill(folder, "abc")
    given = snapshots_of(folder)
    monkeypatch.setattr(disk, "_check", lambda path: pytest.fail("a segment was read once more"))
    with Cache(folder, warn=refuse, snapshots=given) as worker:
        store = worker.frames(FINGERPRINT)
        assert all(same(store.get(digest(name)), stored[name]) for name in "abc") and digest("d") not in store
        store.add(digest("d"), "d.jpg", SIZE, found("d"))
    assert len(segments(folder)) == 2


def test_what_a_worker_was_told_of_may_have_been_merged_meanwhile(folder):
    stored = {**fill(folder, "ab"), **fill(folder, "cd")}
    given = snapshots_of(folder)
    for path in segments(folder):
        path.unlink()
    fill(folder, "abcd")
    with Cache(folder, warn=refuse, snapshots=given) as worker:
        assert all(same(worker.frames(FINGERPRINT).get(digest(name)), stored[name]) for name in "abcd")


def test_who_sent_workers_sees_what_they_published_and_tidies_up(folder):
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for number in range(MANY):  # workers, which publish and are ended
            worker = Cache(folder, warn=refuse, snapshots=cache.snapshots())
            worker.frames(FINGERPRINT).add(digest(number), "", SIZE, found(number))
            worker.flush()
        assert digest(0) not in store
        cache.reload()
        assert all(digest(number) in store for number in range(MANY)) and len(segments(folder)) == MANY
    assert len(segments(folder)) == 1


def test_a_mark_shows_the_folder_and_leaves_no_trace(folder):
    with marked(folder) as name:
        assert (folder / name).is_file() and disk.survey(folder).temporaries == [folder / name]
    assert list(folder.iterdir()) == []


def test_a_folder_that_takes_no_files_takes_no_mark(folder, monkeypatch):
    def refused(path, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk, "_write", refused)
    with pytest.raises(NotWritableError, match="Permission denied"), marked(folder):
        pass


def test_objects_have_the_digest_that_was_told(folder, tmp_path):
    with Cache(folder, warn=refuse) as cache:
        cache.tell(tmp_path / "s3:/bucket/a.jpg", digest("a"))
        assert cache.digest_of(tmp_path / "s3:/bucket/a.jpg") == digest("a")
        assert cache.digest_of(tmp_path / "s3:/bucket/b.jpg") is None
    with Cache(folder, warn=refuse) as cache:
        assert cache.digest_of(tmp_path / "s3:/bucket/a.jpg") is None


def test_places_are_segments_and_rows(folder):
    fill(folder, "ab")
    with Cache(folder, warn=refuse) as cache:
        digests = np.frombuffer(bytes.fromhex(digest("a") + digest("?")), np.uint8).reshape(-1, 16)
        segment, row = cache.frames(FINGERPRINT).places(digests)
    assert segment.tolist() == [0, -1] and row.tolist() == [0, -1]
