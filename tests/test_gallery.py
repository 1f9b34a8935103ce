"""Listing a gallery: order, what is left out, and folders that bite (docs/reliability.md, rows 29, 33, 35, 36, 41)."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.gallery import IMAGE_EXTENSIONS, OUTPUT_MARKER, list_gallery, natural_key


@pytest.fixture
def tree(tmp_path):
    """Makes files under tmp_path/gallery; listing needs their names only."""
    root = tmp_path / "gallery"
    root.mkdir()

    def tree(*names):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return root

    return tree


def names(root, **options):
    return [frame.name for frame in list_gallery(root, **options)]


# Nothing to list


def test_a_folder_of_such_pictures_alone_says_what_they_are(tree):
    with pytest.raises(NothingToSearchError, match=r"holds no image.*\n.*1 picture in a format that is not read"):
        names(tree("1.avif"))


def test_an_empty_folder_is_nothing_to_search(tree):
    with pytest.raises(NothingToSearchError, match="holds no image"):
        list_gallery(tree())


def test_a_folder_of_other_files_is_nothing_to_search(tree):
    with pytest.raises(NothingToSearchError, match=r"\.jpg"):
        list_gallery(tree("notes.txt", "sound.mp3", "jpg", "a.jpg.part", ".jpg"))


def test_images_in_unsearched_subfolders_are_hinted_at(tree):
    with pytest.raises(NothingToSearchError, match="2 subfolders.*--recursive"):
        list_gallery(tree("a/1.jpg", "b/1.jpg"), recursive=False)


def test_a_missing_gallery_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        list_gallery(tmp_path / "absent")
    with pytest.raises(UsageError, match="cannot be used"):
        list_gallery(tmp_path / "nul\0")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_gallery(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UsageError, match="pipe"):
        list_gallery(tmp_path / "pipe.jpg")


# What is listed


def test_pictures_of_formats_that_are_not_read_are_told(tree):
    """A telephone's HEIC pictures among others must not pass for searched ones."""
    root, notes = tree("1.jpg", "a/2.HEIC", "a/3.heic", "4.NEF", "5.txt", "6", ".7.heic", "8.qeeps/9.heic"), []
    assert names(root, notes=notes) == ["1.jpg"]
    (note,) = notes
    assert f"{root}: 3 pictures in a format that is not read (.heic, .nef) left out" in note and "JPEG" in note
    assert names(root, notes=notes, recursive=False) == ["1.jpg"]
    assert notes[1:] == [note.replace("3 pictures", "1 picture").replace(".heic, .nef", ".nef")]


def test_without_such_pictures_nothing_is_told(tree):
    notes = []
    assert names(tree("1.jpg", "notes.txt", "x.xmp"), notes=notes) == ["1.jpg"] and notes == []


def test_one_image_is_a_gallery_of_one(tree):
    path = tree("a/frame.data") / "a/frame.data"
    (frame,) = list_gallery(path)
    assert (frame.path, frame.name) == (path, "frame.data")


def test_paths_lead_to_the_files(tree):
    root = tree("a/1.jpg", "2.png")
    assert [(f.path, f.name) for f in list_gallery(root)] == [(root / "2.png", "2.png"), (root / "a/1.jpg", "a/1.jpg")]


def test_a_relative_root_gives_relative_paths(tree, monkeypatch):
    monkeypatch.chdir(tree("a/1.jpg"))
    assert [str(frame.path) for frame in list_gallery(".")] == ["a/1.jpg"]


def test_extensions_in_any_case_and_nothing_else(tree):
    wanted = {f"{i}{extension}" for i, extension in enumerate(sorted(IMAGE_EXTENSIONS))}
    wanted |= {f"U{i}{extension.upper()}" for i, extension in enumerate(sorted(IMAGE_EXTENSIONS))} | {"x.JpEg"}
    root = tree(*wanted, "notes.txt", "a.pdf", "b.eps", "c.jpg~", "Makefile", "d.jpg.txt")
    assert set(names(root)) == wanted


def test_hidden_names_are_left_out(tree):
    """Such as the `._1.jpg` that macOS leaves beside each file on foreign disks."""
    assert names(tree("1.jpg", "._1.jpg", ".thumbnails/1.jpg")) == ["1.jpg"]


def test_not_recursive(tree):
    assert names(tree("1.jpg", "a/2.jpg"), recursive=False) == ["1.jpg"]


@pytest.mark.parametrize(
    "name", ["with space.jpg", "new\nline.jpg", "quote'\".jpg", "[x].jpg", "-leading.jpg", "*.jpg", "back\\slash.jpg"]
)
def test_odd_names_are_kept(tree, name):
    assert names(tree(name, f"{name}.d/{name}")) == sorted([name, f"{name}.d/{name}"], key=natural_key)


def test_names_that_are_not_utf_8_are_kept(tree):
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    (frame,) = list_gallery(tree(name))
    assert os.fsencode(frame.name) == b"caf\xe9 \xff.jpg"
    assert frame.path.exists()


# Order


def test_natural_order(tree):
    expected = ["1.jpg", "2.JPG", "10.jpg", "a/9.jpg", "a/10.jpg", "a-b/1.jpg", "B.jpg", "c2x3.jpg", "c2x10.jpg"]
    expected += ["c10.jpg"]
    assert names(tree(*reversed(expected))) == expected


def test_order_does_not_depend_on_the_listing(tree, monkeypatch):
    root = tree("b/2.jpg", "b/10.jpg", "a.jpg", "A.jpg", "a.png", "b/c/1.jpg", "01.jpg", "1.jpg")
    (root / "link").symlink_to(root / "b")
    (root.parent / "outside" / "deep").mkdir(parents=True)
    (root.parent / "outside" / "deep" / "1.jpg").touch()
    (root / "x").symlink_to(root.parent / "outside")
    (root / "y").symlink_to(root.parent / "outside" / "deep")
    expected = names(root)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as listing:
                self.entries = sorted(listing, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert names(root) == expected


TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)


@given(st.lists(TEXT, unique=True, max_size=8), st.randoms())
def test_natural_key_orders_any_names_in_one_way(some, random):
    shuffled = some[:]
    random.shuffle(shuffled)
    assert sorted(some, key=natural_key) == sorted(shuffled, key=natural_key)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_natural_key_orders_numbers_by_value(a, b):
    assert (natural_key(f"f{a}.jpg") < natural_key(f"f{b}.jpg")) == (a < b)


# Links, pipes, unreadable folders


def test_links_that_lead_nowhere_and_pipes_are_left_out(tree):
    root = tree("1.jpg")
    (root / "dangling.jpg").symlink_to(root / "absent.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (root / "folder.jpg").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.jpg")
    assert names(root) == ["1.jpg"]


def test_linked_images_and_folders_are_found(tree, tmp_path):
    root = tree("1.jpg")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "2.jpg").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "3.jpg").symlink_to(tmp_path / "elsewhere" / "deep" / "2.jpg")
    assert names(root) == ["1.jpg", "3.jpg", "linked/deep/2.jpg"]


def test_a_folder_is_listed_once_under_its_own_name(tree):
    """However many links lead to it, and in a loop."""
    root = tree("z/1.jpg", "z/y/2.jpg")
    (root / "a").symlink_to(root / "z")
    (root / "z/y/up").symlink_to(root)
    (root / "z/loop").symlink_to(root / "z")
    assert names(root) == ["z/1.jpg", "z/y/2.jpg"]


def test_folders_linked_to_each_other_end(tmp_path):
    folders = [tmp_path / str(i) for i in range(12)]
    for folder in folders:
        folder.mkdir()
        (folder / "image.jpg").touch()
    for folder in folders:
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    listed = []
    thread = threading.Thread(target=lambda: listed.extend(names(folders[0])), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(listed) == 12


def test_folders_nested_too_deep_are_reported(tmp_path, monkeypatch):
    """Deeper than Python recurses, and in the end the path is longer than the system takes."""
    root = tmp_path / "deep"
    root.mkdir()
    monkeypatch.chdir(root)
    (root / "1.jpg").touch()
    for _ in range(1500):
        os.mkdir("folder")
        os.chdir("folder")
    os.chdir(root)
    skipped = []
    assert names(root, skipped=skipped) == ["1.jpg"]
    assert ["too long" in item.reason for item in skipped] == [True]
    subprocess.run(["rm", "-rf", root], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list everything")
def test_an_unreadable_folder_is_reported(tree):
    root = tree("1.jpg", "secret/2.jpg")
    (root / "secret").chmod(0)
    skipped = []
    try:
        assert names(root, skipped=skipped) == ["1.jpg"]
        (item,) = skipped
        assert item.name == "secret" and "Permission denied" in item.reason
        with pytest.raises(UsageError, match="Permission denied"):
            list_gallery(root / "secret")
    finally:
        (root / "secret").chmod(0o700)


# Excluded


def test_excluded_files_and_folders_are_left_out(tree):
    root = tree("1.jpg", "2.jpg", "out/3.jpg", "out/deep/4.jpg", "other/out/5.jpg")
    assert names(root, exclude=[root / "2.jpg", root / "out"]) == ["1.jpg", "other/out/5.jpg"]
    roundabout = root / "other" / ".." / "out"
    assert names(root, exclude=[roundabout, root / "absent"]) == ["1.jpg", "2.jpg", "other/out/5.jpg"]


def test_an_excluded_folder_is_not_found_through_a_link(tree):
    root = tree("1.jpg", "out/2.jpg")
    (root / "link").symlink_to(root / "out")
    (root / "3.jpg").symlink_to(root / "1.jpg")
    with pytest.raises(NothingToSearchError):
        list_gallery(root, exclude=[root / "out", root / "1.jpg"])


def test_excluding_the_gallery_itself_is_a_usage_error(tree):
    root = tree("1.jpg")
    with pytest.raises(UsageError, match="excluded"):
        list_gallery(root, exclude=[root])
    with pytest.raises(UsageError, match="excluded"):
        list_gallery(root / "1.jpg", exclude=[root / "1.jpg"])


def test_results_and_caches_inside_the_gallery_are_not_searched(tree):
    root = tree("1.jpg", f"results/{OUTPUT_MARKER}", "results/contact_sheet.jpg", "results/annotated/001.jpg")
    tree("frames.qeeps/1.jpg", "deep/frames.qeeps/1.jpg", "deep/2.jpg")
    assert names(root) == ["1.jpg", "deep/2.jpg"]


def test_a_results_folder_named_as_the_gallery_is_searched(tree):
    root = tree("1.jpg", OUTPUT_MARKER)
    assert names(root) == ["1.jpg"]


# Many


def test_5000_files_under_a_limit_of_open_files(tmp_path):
    for i in range(50):
        (tmp_path / f"folder{i}").mkdir()
        for j in range(100):
            (tmp_path / f"folder{i}" / f"{j}.jpg").touch()
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from qeeps_cli.gallery import list_gallery
frames = list_gallery(Path(sys.argv[1]))
print(len(frames), frames[0].name, frames[-1].name)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("5000 folder0/0.jpg folder49/99.jpg\n", "")
