"""Which digest a file has, without reading it."""

import os
import time

import pytest
from cache_samples import digest, refuse

from qeeps_cli.cache.store import Cache

LONG_AGO = 10**9  # seconds since 1970
HOUR = 3600 * 10**9


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def open_cache(tmp_path):
    return lambda: Cache(tmp_path / "gallery.qeeps", warn=refuse)


def remember(cache, path, name="one", later=HOUR) -> None:
    """later: nanoseconds after now at which the file is said to be looked at; its own ctime cannot be set."""
    cache.remember(path, os.stat(path), digest(name), taken_ns=time.time_ns() + later)


def test_an_unchanged_file_is_known(file, open_cache, monkeypatch):
    with open_cache() as cache:
        assert cache.digest_of(file) is None
        remember(cache, file)
        assert cache.digest_of(file) == digest("one")
    with open_cache() as cache:
        assert cache.digest_of(file) == digest("one")
        monkeypatch.chdir(file.parent)
        (file.parent / "x").mkdir()
        assert cache.digest_of(os.path.join("x", "..", file.name)) == digest("one")


@pytest.mark.parametrize("change", ["content", "time", "replaced", "moved"])
def test_a_changed_file_is_not_known(file, open_cache, change):
    with open_cache() as cache:
        remember(cache, file)
        if change == "content":
            file.write_bytes(b"two")  # of the same size
            os.utime(file, (LONG_AGO, LONG_AGO))  # and time
        elif change == "time":
            os.utime(file, (LONG_AGO, LONG_AGO + 1))
        elif change == "replaced":
            other = file.with_name("other")
            other.write_bytes(b"two")
            os.utime(other, (LONG_AGO, LONG_AGO))
            other.replace(file)
        else:
            file = file.rename(file.with_name("b.jpg"))
        assert cache.digest_of(file) is None
        remember(cache, file, "two")
        assert cache.digest_of(file) == digest("two")


@pytest.mark.parametrize(
    ("later", "known"), [(-HOUR, False), (0, False), (1_900_000_000, False), (2_500_000_000, True)]
)
def test_a_file_that_changed_just_now_is_not_remembered(file, open_cache, later, known):
    """Within the grain of the clock it could change again and look the same."""
    with open_cache() as cache:
        remember(cache, file, later=later)
        assert (cache.digest_of(file) is not None) == known


def test_what_is_no_file_is_not_known(file, open_cache):
    with open_cache() as cache:
        remember(cache, file)
        remember(cache, file.parent)
        file.unlink()
        for path in (file, file.parent, "nul\0", ""):
            assert cache.digest_of(path) is None


def test_names_and_numbers_at_their_limits(tmp_path, open_cache):
    path = tmp_path / "a\udce9\n"
    path.write_bytes(b"")
    os.utime(path, ns=(0, -5 * 10**9))  # before 1970
    with open_cache() as cache:
        remember(cache, path)
    with open_cache() as cache:
        assert cache.digest_of(path) == digest("one")
