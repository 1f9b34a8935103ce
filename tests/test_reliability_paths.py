"""Awkward names, links, pipes and places of results, through `qeeps search` (docs/reliability.md, rows 33–36, 41)."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import FEW
from hostile_files import encoded, scene
from json_contract import check_search, parse

from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

AWKWARD = [b"with space.png", b"new\nline.png", b"quote'\".png", b"[x].png", b"-leading.png", b"caf\xe9 \xff.png"]
AWKWARD += [b"a/1.jpg", b"b/1.jpg", b"1.jpg", b"1.png", "\u4e2d\u6587.png".encode(), b"%s{}$HOME;*?.png"]
AWKWARD += [b"back\\slash.png"]


@pytest.fixture
def gallery(tmp_path) -> Path:
    """Different pictures under awkward names, in a folder with one; and what is no picture in the end."""
    folder = tmp_path / "-a gallery\n[x]"
    for number, name in enumerate(AWKWARD):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(scene()[: 80 + number, :100], "JPEG" if name.endswith(b".jpg") else "PNG"))
    (folder / "loop").symlink_to(folder)
    (folder / "a" / "up.jpg").symlink_to(folder / "a" / "up.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def run(preloaded, gallery: Path, weights: Path, *more):
    """A search for the person in -leading.png, from beside the gallery."""
    query = ["--query", f"{gallery.name}/-leading.png", "--gallery", gallery.name]
    return preloaded.run("search", *query, "--weights", weights, *FEW, "--mode", "exact", *more, cwd=gallery.parent)


def test_any_name_is_found_and_lossless_in_json(gallery, weights, preloaded):
    """Rows 33 and 35: every picture once, and it ends."""
    done = run(preloaded, gallery, weights)
    assert done.returncode == ExitCode.OK, done.stderr
    results = check_search(parse(done.stdout))
    assert results["frames_searched"] == len(AWKWARD)
    assert {os.fsencode(match["image"]) for match in results["matches"]} == set(AWKWARD)
    assert all((gallery / match["image"]).is_file() for match in results["matches"])
    assert results["query"]["image"] == f"{gallery.name}/-leading.png"
    stderr = done.stderr.decode()
    assert "new\\nline.png" in stderr and "\x1b" not in stderr


def test_results_are_distinct_and_not_searched_again(gallery, weights, preloaded):
    """Rows 34, 36 and 41: results inside the gallery; again, they are the same bytes."""
    out = gallery / "found"
    first = run(preloaded, gallery, weights, "--out", f"{gallery.name}/found")
    assert first.returncode == ExitCode.OK, first.stderr
    results = check_search(json.loads((out / "results.json").read_bytes()))
    drawn = sorted(path.name for path in (out / "annotated").glob("*.jpg"))
    assert len(drawn) == len({name.casefold() for name in drawn}) == len({m["image"] for m in results["matches"][:50]})
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = run(preloaded, gallery, weights, "--out", f"{gallery.name}/found")
    assert again.returncode == ExitCode.OK
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert parse(run(preloaded, gallery, weights).stdout)["frames_searched"] == len(AWKWARD)


def test_a_gallery_copied_in_another_order_gives_the_same_bytes(gallery, weights, preloaded, tmp_path):
    """Row 41."""
    copy = tmp_path / "copied" / gallery.name
    for name in sorted(AWKWARD, reverse=True):
        (copy / os.fsdecode(name)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(gallery / os.fsdecode(name), copy / os.fsdecode(name))
    one, other = run(preloaded, gallery, weights), run(preloaded, copy, weights, "--no-cache")
    assert one.returncode == ExitCode.OK and one.stdout == other.stdout
