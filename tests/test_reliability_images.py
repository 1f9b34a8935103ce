"""Hostile and odd pictures in a gallery and as the query, through `qeeps search` (docs/reliability.md, rows 19–29)."""

import os
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from command_line import FEW
from hostile_files import HEIGHT, WIDTH, bomb, corpus, encoded, oriented, scene
from json_contract import check_search, parse
from PIL import Image

import qeeps_cli
from qeeps_cli.errors import ExitCode
from qeeps_cli.model.config import InferenceParams

pytest_plugins = ["cli_fixtures", "preloaded"]

CORPUS = corpus()
BAD = {name: file for name, file in CORPUS.items() if file.rgb is None}
GOOD = {name: file for name, file in CORPUS.items() if file.rgb is not None}
BOX = "40,20,30,60"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    """The corpus as a folder."""
    folder = tmp_path_factory.mktemp("corpus") / "gallery"
    folder.mkdir()
    for name, file in CORPUS.items():
        (folder / name).write_bytes(file.data)
    return folder


@pytest.fixture(scope="module")
def found(gallery, weights, preloaded) -> subprocess.CompletedProcess:
    """A search of the whole corpus, for a person in one of its pictures."""
    query = ["--query", gallery / "exif 6.png", "--box", BOX]
    return preloaded.run("search", *query, "--gallery", gallery, "--weights", weights, *FEW, "--no-cache", "-v")


@pytest.fixture(scope="module")
def results(found) -> dict:
    return check_search(parse(found.stdout))


def test_what_cannot_be_used_is_skipped_once_with_its_reason(found, results):
    """Rows 19 to 22: soft errors are collected, and the search goes on."""
    assert found.returncode == ExitCode.SKIPPED
    reasons = {item["image"]: item["reason"] for item in results["skipped"]}
    assert reasons.keys() == BAD.keys() and len(results["skipped"]) == len(BAD)
    assert [name for name, file in BAD.items() if file.told not in reasons[name]] == []
    stderr = found.stderr.decode()
    assert f"{len(BAD)} inputs skipped" in stderr
    assert [name for name in BAD if stderr.count(f"  {name}: {reasons[name]}\n") != 1] == []


def test_everything_else_is_searched(results):
    """Rows 20 and 23 to 28, down to a single pixel."""
    assert results["frames_searched"] == len(GOOD)
    names = {match["image"] for match in results["matches"]}
    assert names <= GOOD.keys() and len(names) > 20
    for match in results["matches"]:
        height, width = GOOD[match["image"]].rgb.shape[:2]
        x, y, w, h = match["box"]
        assert x + w <= width + 0.01 and y + h <= height + 0.01, "coordinates are those of the upright picture"


def test_a_first_frame_is_told_in_the_results_and_on_stderr(found, results):
    """Row 27."""
    told = [name for name, file in GOOD.items() if file.told]
    assert len(told) == 4
    for name in told:
        [note] = [note for note in results["notes"] if note.startswith(f"{name}: ")]
        assert "only the first frame is used" in note and f"note: {note}" in found.stderr.decode()


@pytest.mark.parametrize("name", ["empty.jpg", "text.jpg", "psd.tif", "bomb.png", "cut 3.jpg", "absent.jpg", "."])
def test_a_query_that_cannot_be_used_ends_the_run(gallery, preloaded, name):
    """Before weights are looked for: there are none."""
    done = preloaded.run("search", "--query", name, "--gallery", "exif 1.png", "--weights", "absent", cwd=gallery)
    assert done.returncode == ExitCode.USAGE and done.stdout == b""
    assert done.stderr.startswith(f"error: {name}: ".encode()) and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["1x1.png", "10000x20.png", "20x10000.png"])
def test_odd_pictures_may_be_queries(gallery, weights, preloaded, name):
    """Row 28: as a whole crop, into pictures and a contact sheet too."""
    out = gallery.parent / f"out {name}"
    arguments = ["--gallery", gallery / "1x1.png", gallery / "10000x20.png", "--weights", weights, *FEW, "--no-cache"]
    done = preloaded.run("search", "--query", gallery / name, *arguments, "--out", out)
    assert done.returncode == ExitCode.OK, done.stderr
    results = check_search(parse((out / "results.json").read_bytes()))
    assert results["query"]["box"] is None and results["frames_searched"] == 2
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.size[0] > 500


def test_max_pixels_is_a_limit_that_users_set(weights, preloaded, tmp_path):
    """Row 22: what is a bomb is for the user to say."""
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    (gallery / "bomb.png").write_bytes(bomb())
    (gallery / "picture.png").write_bytes(encoded(scene()))
    arguments = ["--query", gallery / "picture.png", "--gallery", gallery, "--weights", weights, *FEW, "--no-cache"]
    usual = preloaded.run("search", *arguments)
    assert usual.returncode == ExitCode.SKIPPED and check_search(parse(usual.stdout))["frames_searched"] == 1
    low = preloaded.run("search", *arguments, "--max-pixels", str(HEIGHT * WIDTH - 1))
    assert low.returncode == ExitCode.USAGE and b"raise --max-pixels" in low.stderr


def test_a_gallery_of_nothing_but_bad_files(weights, preloaded, tmp_path):
    """Exit 4, with the reasons."""
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    (tmp_path / "q.png").write_bytes(encoded(scene()))
    for name in ("empty.jpg", "cut 2.jpg"):
        (gallery / name).write_bytes(BAD[name].data)
    arguments = ["--gallery", gallery, "--weights", weights, *FEW, "--no-cache"]
    done = preloaded.run("search", "--query", tmp_path / "q.png", *arguments)
    assert done.returncode == ExitCode.NOTHING and done.stdout == b""
    assert b"empty.jpg: the file is empty" in done.stderr and b"cut 2.jpg: " in done.stderr


# Row 25: the same person, whichever way the camera was held


@pytest.fixture(scope="module")
def model(weights) -> qeeps_cli.Engine:
    return qeeps_cli.load_model(weights, device="cpu").with_params(InferenceParams(proposals=20))


@pytest.fixture(scope="module")
def upright(frames) -> Path:
    """A picture of people, as it is."""
    return min(frames.glob("*.jpg"))


@pytest.fixture(scope="module")
def turned(upright, tmp_path_factory) -> Path:
    """The same picture as cameras store it under the EXIF orientations 1 to 8, and nothing else."""
    folder = tmp_path_factory.mktemp("turned") / "gallery"
    folder.mkdir()
    with Image.open(upright) as image:
        rgb = np.asarray(image)
    for way in range(1, 9):
        (folder / f"{way}.png").write_bytes(oriented(rgb, way))
    return folder


def answers(result) -> list[tuple]:
    return [(match.box, match.score, match.person_score) for match in result.matches]


@pytest.mark.parametrize("way", range(1, 9))
def test_a_turned_query_is_the_same_person(model, upright, turned, way):
    """The box is in pixels of the upright picture, wherever its pixels are stored."""
    box, (one, other) = (300, 60, 350, 180), (turned / "1.png", turned / f"{way}.png")
    with Image.open(BytesIO(other.read_bytes())) as image:
        assert (image.width < box[2]) == (way >= 5), "outside of the stored pixels, where they lie on their side"
    expected = qeeps_cli.search(one, upright, box, model=model, cache=False)
    found = qeeps_cli.search(other, upright, box, model=model, cache=False)
    assert answers(found) == answers(expected) and len(answers(found)) > 3 and found.query.box == box


def test_turned_frames_give_the_same_boxes(model, upright, turned):
    result = qeeps_cli.search(upright, turned, (300, 60, 350, 180), model=model, cache=False, mode="exact")
    by_name = {}
    for match in result.matches:
        by_name.setdefault(match.frame.name, []).append((match.box, match.score, match.person_score))
    assert len(by_name) == 8 and len(by_name["1.png"]) > 3
    assert all(found == by_name["1.png"] for found in by_name.values())


# Row 29


def test_5000_files_under_a_limit_of_256_open_ones(weights, preloaded, tmp_path):
    """Names of three pictures, of which each is run once."""
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    pictures = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(pictures):
        path.write_bytes(encoded(scene()[: 60 + i]))
    for i in range(5000):
        os.link(pictures[i % 3], gallery / f"{i}.png")
    arguments = ["--gallery", gallery, "--weights", weights, *FEW, "--mode", "cached", "--top-k", "7"]
    done = preloaded.run("search", "--query", pictures[0], *arguments, limits={"RLIMIT_NOFILE": 256})
    assert done.returncode == ExitCode.OK, done.stderr
    assert check_search(parse(done.stdout))["frames_searched"] == 5000
    assert b"frames computed" in done.stderr
