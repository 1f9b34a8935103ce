"""Where the cache of a gallery is."""

import os
from pathlib import Path

import pytest
from cache_samples import fill, unprivileged

from qeeps_cli.cache.location import choose_folder, find_folder
from qeeps_cli.errors import CacheError


@pytest.fixture
def gallery(tmp_path):
    (tmp_path / "frames").mkdir()
    return tmp_path / "frames"


def test_beside_the_gallery(gallery, monkeypatch):
    expected = gallery.with_name("frames.qeeps")
    image = gallery / "1.jpg"
    image.write_bytes(b"")
    for roots in ([gallery], [gallery, Path("other")], [gallery / "x" / ".."], [image]):
        assert choose_folder(roots) == expected
    monkeypatch.chdir(gallery)
    assert choose_folder([Path(".")]) == expected and not expected.exists()


def test_where_it_was_asked_for(gallery):
    assert choose_folder([gallery], Path("elsewhere")) == Path("elsewhere")


def test_in_the_users_cache_where_nothing_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def chosen() -> bool:
        usr, lib = choose_folder([Path("/usr")]), choose_folder([Path("/usr/lib")])
        assert usr.parent == lib.parent == tmp_path / "qeeps" and lib.name.startswith("lib-")
        return lib != choose_folder([Path("/lib")]) != usr and lib == choose_folder([Path("/usr/lib/../lib")])

    assert unprivileged(chosen) == 0
    assert choose_folder([Path("/")]).name.startswith("root-")


def test_a_relative_cache_home_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choose_folder([Path("/")]).parent == tmp_path / ".cache" / "qeeps"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become a user without a home")
def test_nowhere(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)

    def without_a_home() -> bool:
        try:
            choose_folder([Path("/")])
        except CacheError as error:
            return "--cache" in str(error)
        return False

    assert unprivileged(without_a_home, user=54321) == 0


def test_a_cache_by_its_own_name_or_its_gallery(gallery, tmp_path):
    assert find_folder(gallery) == tmp_path / "frames.qeeps"
    assert find_folder(tmp_path / "frames.qeeps") == tmp_path / "frames.qeeps"
    fill(tmp_path / "another name", "a")
    assert find_folder(tmp_path / "another name") == tmp_path / "another name"
    assert find_folder(tmp_path / "missing") == tmp_path / "missing"
    (gallery / "video.mp4").touch()
    assert find_folder(gallery / "video.mp4") == choose_folder([gallery / "video.mp4"]) == tmp_path / "frames.qeeps"
