"""Patterns that no shell has expanded."""

import os
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qeeps_cli.gallery import OUTPUT_MARKER, expand_pattern, is_pattern


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes files under the current folder."""
    monkeypatch.chdir(tmp_path)

    def tree(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return tree


def expand(pattern, **options):
    return sorted(set(expand_pattern(pattern, **options)))


FILES = ("1.jpg", "notes.txt", "a/2.jpg", "a/x.data", "a/b/3.png", "b/4.jpg", "b/c/d/5.JPG", ".hidden/6.jpg", ".7.jpg")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.webp", []),
        ("absent/*.jpg", []),
        ("1.jpg/*.jpg", []),
        ("*.jpg", ["1.jpg"]),
        ("?.jpg", ["1.jpg"]),
        ("[0-9].jpg", ["1.jpg"]),
        ("./*.jpg", ["1.jpg"]),
        ("*", ["1.jpg", "a", "b"]),
        ("*/*.jpg", ["a/2.jpg", "b/4.jpg"]),
        ("a/*", ["a/2.jpg", "a/b"]),
        ("a/*.data", ["a/x.data"]),
        ("a/*.[dp]*", []),
        ("**/*.jpg", ["1.jpg", "a/2.jpg", "b/4.jpg"]),
        ("**/*.JPG", ["b/c/d/5.JPG"]),
        ("**", ["1.jpg", "a/2.jpg", "a/b/3.png", "b/4.jpg", "b/c/d/5.JPG"]),
        ("**/**/*", ["1.jpg", "a/2.jpg", "a/b/3.png", "b/4.jpg", "b/c/d/5.JPG"]),
        ("**/c", ["b/c"]),
        ("**/d/*", ["b/c/d/5.JPG"]),
        ("b/**/d/**", ["b/c/d/5.JPG"]),
        ("**/[abc]", ["a", "a/b", "b", "b/c"]),
        (".h*/*.jpg", [".hidden/6.jpg"]),
        (".*.jpg", [".7.jpg"]),
        ("a/../*.jpg", ["a/../1.jpg"]),
    ],
)
def test_what_matches(tree, pattern, expected):
    tree(*FILES)
    assert expand(pattern) == expected


def test_absolute_patterns(tree):
    root = tree(*FILES)
    assert expand(f"{root}/*/*.jpg") == [f"{root}/a/2.jpg", f"{root}/b/4.jpg"]


def test_what_exists_is_no_pattern(tree):
    tree("[x].jpg", "x.jpg")
    (tree() / "dangling*").symlink_to("absent")
    assert not is_pattern("[x].jpg") and not is_pattern("x.jpg") and not is_pattern("dangling*")
    assert is_pattern("[y].jpg") and is_pattern("*.jpg") and is_pattern("a?.jpg") and not is_pattern("absent.jpg")


def test_a_folder_with_wildcards_in_its_name(tree):
    tree("[x]/1.jpg", "x/2.jpg")
    assert expand("[x]/*.jpg") == ["[x]/1.jpg"]


def test_results_and_caches_are_passed_by(tree):
    tree("1.jpg", f"out/{OUTPUT_MARKER}", "out/2.jpg", "g.qeeps/3.jpg", f"x/out/{OUTPUT_MARKER}", "x/out/deep/4.jpg")
    assert expand("**/*.jpg") == expand("**") == ["1.jpg"]
    assert expand("*/*.jpg") == [] and expand("*") == ["1.jpg", "x"]
    assert expand("out/*.jpg") == ["out/2.jpg"]


def test_excluded_files_and_folders(tree):
    root = tree(*FILES)
    assert expand("**/*.jpg", exclude=[root / "a", root / "1.jpg"]) == ["b/4.jpg"]
    assert expand("*", exclude=[root / "b"]) == ["1.jpg", "a"]
    assert expand("*/2.jpg", exclude=[root / "a" / "2.jpg"]) == []


def test_names_that_are_not_utf_8(tree):
    tree(os.fsdecode(b"caf\xe9.jpg"), "new\nline.jpg")
    assert [os.fsencode(path) for path in expand("*.jpg")] == [b"caf\xe9.jpg", b"new\nline.jpg"]


def test_any_depth_follows_no_links(tree, tmp_path):
    """So that loops end; one level does follow them, as in a shell."""
    root = tree("a/1.jpg", "b/2.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "a").symlink_to(root / "a")
    (root / "3.jpg").symlink_to(root / "b" / "2.jpg")
    found = []
    thread = threading.Thread(target=lambda: found.extend(expand("**/*.jpg")), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and found == ["3.jpg", "a/1.jpg", "b/2.jpg"]
    assert expand("b/*/*.jpg") == ["b/a/1.jpg"]


def test_links_that_lead_nowhere_match_nothing(tree):
    root = tree("1.jpg")
    (root / "dangling.jpg").symlink_to("absent")
    (root / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "pipe.jpg")
    assert expand("*.jpg") == ["1.jpg"] and expand("dang*/x.jpg") == []


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**", "secret/*.jpg"])
def test_a_folder_that_cannot_be_listed_is_told_once(tree, monkeypatch, pattern):
    tree("secret/1.jpg")
    listed = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "secret":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    skipped = []
    assert expand(pattern, skipped=skipped) == []
    assert [(item.name, item.reason) for item in skipped] == [
        ("secret", "this folder cannot be listed: Permission denied")
    ]


def test_deep_folders(tmp_path, monkeypatch):
    """Deeper than Python recurses; two `**` lead to each folder in many ways."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(tmp_path)
    (tmp_path / "d/d/1.jpg").touch()
    skipped = []
    assert expand("**/d/**/*.jpg", skipped=skipped) == ["d/d/1.jpg"]
    subprocess.run(["rm", "-rf", "d"], check=True)


NAME = st.text(st.sampled_from("ab1.*?[]-! "), min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))


@settings(max_examples=200)
@given(st.lists(NAME, min_size=1, max_size=4), st.booleans())
def test_any_pattern_ends(tmp_path_factory, parts, deep):
    root = tmp_path_factory.getbasetemp() / "any"
    for name in ("a/b.jpg", "a/[a].jpg", "b/a/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    pattern = "/".join([str(root), *(["**"] if deep else []), *parts])
    assert all(os.path.exists(path) for path in expand_pattern(pattern))
