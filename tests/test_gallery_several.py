"""All frames of a search: several galleries, patterns and lists, every N-th, at most N."""

import os
import random

import pytest

from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.searching.galleries import list_galleries


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current one: cam1/1.jpg to cam1/12.jpg, cam2/1.jpg, empty/."""
    monkeypatch.chdir(tmp_path)
    for name in [*(f"cam1/{i}.jpg" for i in range(1, 13)), "cam2/1.jpg", "cam1/notes.txt", "empty/x.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(gallery):
    return [frame.name for frame in gallery.frames]


def test_nothing_at_all():
    with pytest.raises(UsageError, match="at least one gallery"):
        list_galleries([])


@pytest.mark.parametrize(
    ("roots", "given", "told"),
    [
        ([], {"names": []}, "list.txt names no file"),
        (["*.webp"], {}, r"no image or video matches \*.webp"),
        (["empty"], {"names": []}, "empty holds no image"),
        (["emp*"], {}, r"no image or video matches emp\*"),
        ([], {"names": ["absent.jpg", "cam1"]}, "absent.jpg: cannot be read(.|\n)*cam1: is a folder"),
    ],
)
def test_nothing_to_search(folder, roots, given, told):
    with pytest.raises(NothingToSearchError, match=told):
        list_galleries(roots, **given, files_from="list.txt")


def test_a_list_in_natural_order_whatever_its_own(folder):
    listed = [f"./cam1/{i}.jpg" for i in range(1, 13)] + ["cam2/1.jpg", "cam1//3.jpg"]
    random.Random(1).shuffle(listed)
    gallery = list_galleries([], names=listed, files_from="-")
    assert names(gallery) == [*(f"cam1/{i}.jpg" for i in range(1, 13)), "cam2/1.jpg"]
    assert [os.fspath(frame.path) for frame in gallery.frames] == names(gallery)
    assert gallery.to_dict() == {"gallery": [], "recursive": True, "files_from": "-"}


def test_what_a_list_names_in_vain_is_skipped(folder):
    gallery = list_galleries([], names=["absent.jpg", "cam1/1.jpg"])
    assert names(gallery) == ["cam1/1.jpg"] and [item.name for item in gallery.skipped] == ["absent.jpg"]


def test_what_cannot_be_listed_is_skipped_also_where_nothing_else_is(folder, monkeypatch):
    (folder / "empty" / "secret").mkdir()
    listed = os.scandir

    def scandir(place):
        if os.path.basename(place) == "secret":
            raise PermissionError(13, "Permission denied")
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    gallery = list_galleries(["empty", "cam2"])
    assert names(gallery) == ["cam2/1.jpg"] and [item.name for item in gallery.skipped] == ["empty/secret"]
    with pytest.raises(NothingToSearchError, match="secret: this folder cannot be listed(.|\n)*empty holds no image"):
        list_galleries(["empty"])


def test_folders_patterns_and_a_list_together(folder):
    gallery = list_galleries(["cam2", "cam1/1?.jpg", "empty"], names=["cam1/2.jpg", "cam1/10.jpg"], files_from="l")
    assert names(gallery) == ["cam1/2.jpg", "cam1/10.jpg", "cam1/11.jpg", "cam1/12.jpg", "cam2/1.jpg"]
    assert len(gallery.notes) == 1 and "empty holds no image" in gallery.notes[0]
    assert gallery.to_dict()["gallery"] == ["cam2", "cam1/1?.jpg", "empty"]


def test_a_pattern_is_what_the_shell_makes_of_it(folder):
    by_shell = list_galleries(sorted(str(path) for path in (folder / "cam1").glob("*.jpg")))
    assert names(list_galleries([f"{folder}/cam1/*.jpg"])) == names(by_shell)
    assert names(list_galleries(["cam*"])) == names(list_galleries(["cam1", "cam2"]))
    assert names(list_galleries(["**/1.jpg"])) == ["cam1/1.jpg", "cam2/1.jpg"]
    assert names(list_galleries(["cam2/*"])) == ["cam2/1.jpg"]


def test_folders_of_a_pattern_obey_recursive(folder):
    (folder / "cam2" / "deep").mkdir()
    (folder / "cam2" / "deep" / "2.jpg").touch()
    assert names(list_galleries(["cam2*"])) == ["cam2/1.jpg", "cam2/deep/2.jpg"]
    assert names(list_galleries(["cam2*"], recursive=False)) == ["cam2/1.jpg"]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({}, list(range(1, 13))),
        ({"every": 1, "limit": 100}, list(range(1, 13))),
        ({"every": 5}, [1, 6, 11]),
        ({"limit": 2}, [1, 2]),
        ({"every": 5, "limit": 2}, [1, 6]),
        ({"every": 100}, [1]),
    ],
)
def test_every_and_limit(folder, cut, expected):
    gallery = list_galleries(["cam1"], **cut)
    assert names(gallery) == [f"{i}.jpg" for i in expected]
    assert gallery.to_dict() == {"gallery": ["cam1"], "recursive": True, **cut}


@pytest.mark.parametrize("cut", [{"every": 0}, {"limit": 0}, {"every": -1}])
def test_every_and_limit_are_at_least_one(folder, cut):
    with pytest.raises(UsageError, match="at least 1"):
        list_galleries(["cam1"], **cut)


@pytest.mark.parametrize(
    ("roots", "listed", "home"),
    [(["cam1"], None, "cam1"), (["cam1/2.jpg"], None, "cam1/2.jpg"), (["cam1/*"], None, "cam1/1.jpg")]
    + [([], ["cam2/1.jpg"], "cam2/1.jpg"), (["cam2"], ["cam1/1.jpg"], "cam2")],
)
def test_where_the_gallery_is_at_home(folder, roots, listed, home):
    """Beside which the cache lies."""
    assert os.fspath(list_galleries(roots, names=listed).home) == home


def test_links_to_one_file_are_one_frame(folder):
    (folder / "link").symlink_to("cam1")
    (folder / "2.jpg").symlink_to("cam1/2.jpg")
    os.link("cam2/1.jpg", "cam2/hard.jpg")
    listed = ["link/1.jpg", "cam1/1.jpg", "2.jpg", "link/2.jpg", "cam2/1.jpg", "cam2/hard.jpg"]
    gallery = list_galleries([], names=listed)
    assert names(gallery) == ["2.jpg", "cam1/1.jpg", "cam2/1.jpg", "cam2/hard.jpg"]
