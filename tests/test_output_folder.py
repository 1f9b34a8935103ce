"""`--out DIR`: what it holds, what it refuses, and what survives in it."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qeeps_cli.errors import NotANumberError, OutputError
from qeeps_cli.gallery import OUTPUT_MARKER, list_gallery
from qeeps_cli.output.annotate import cut_out
from qeeps_cli.output.folder import check_folder, write_folder
from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult

WEIGHTS = {"name": "tiny", "digest": "sha256:00ff"}
NAMES = ["a/1.jpg", "b/1.jpg", "b/1.png", "B/1.JPG", os.fsdecode(b"caf\xe9\n.jpg")]


@pytest.fixture
def gallery(tmp_path):
    """A folder of small pictures under awkward names, and a query beside it."""
    root = tmp_path / "gallery"
    rng = np.random.default_rng(0)
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (90, 160, 3), np.uint8)
        Image.fromarray(pixels).save(root / name, "PNG" if name.endswith(".png") else "JPEG")
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "q.png")
    return root


@pytest.fixture
def result(gallery):
    """Two matches in each picture; the second of each ranks below all the first ones."""
    frames = [GalleryFrame(gallery / name, name) for name in NAMES] * 2
    matches = [
        Match(rank, frame, (10.0 * (rank > len(NAMES)) + 20, 20.0, 60.0, 80.0), 1 / rank, 0.9)
        for rank, frame in enumerate(frames, start=1)
    ]
    return SearchResult(Query(gallery.parent / "q.png", (5, 5, 30, 55), "ab"), matches, [], len(NAMES), {"nms": 0.4})


def write(out, result, **options):
    return write_folder(out, result, WEIGHTS, "exact", **options)


def files(folder):
    """Every file below the folder, relative, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout(tmp_path, result):
    out = tmp_path / "new" / "out"
    check_folder(out)
    assert not out.parent.exists()  # checking creates nothing
    written = write(out, result)
    assert set(files(out)) == {
        OUTPUT_MARKER,
        "results.json",
        "report.html",
        "query.jpg",
        "contact_sheet.jpg",
        f"annotated/{OUTPUT_MARKER}",
        "annotated/001_a_1.jpg",
        "annotated/002_b_1.jpg",
        "annotated/003_b_1.png.jpg",
        "annotated/004_B_1.jpg",
        "annotated/005_caf__.jpg",
    }
    assert [path.name[:3] for path in written.annotated] == ["001", "002", "003", "004", "005"]
    assert written.notes == []
    assert len(json.loads(written.results.read_bytes())["matches"]) == 10
    assert Image.open(out / "query.jpg").size == (80, 60)
    assert Image.open(out / "annotated/001_a_1.jpg").size == (160, 90)
    lowered = [path.name.lower() for path in written.annotated]
    assert len(set(lowered)) == len(NAMES)


def test_no_matches_give_valid_json_and_a_sheet(tmp_path, result):
    written = write(tmp_path / "out", replace(result, matches=[]))
    assert json.loads(written.results.read_bytes())["matches"] == []
    assert Image.open(written.contact_sheet).size[0] > 500
    names = {"results.json", "report.html", "query.jpg", "contact_sheet.jpg"}
    assert set(files(tmp_path / "out")) == {OUTPUT_MARKER, *names}


@pytest.mark.parametrize(
    "options, pictures",
    [({"top": 0}, 0), ({"annotate": False}, 0), ({"top": 2}, 2), ({"min_score": 0.3}, 3), ({"sheet_top": 0}, 5)],
)
def test_the_display_rule_limits_pictures_and_never_the_json(tmp_path, result, options, pictures):
    written = write(tmp_path / "out", result, **options)
    assert len(written.annotated) == pictures
    assert len(json.loads(written.results.read_bytes())["matches"]) == 10


def test_the_same_result_gives_the_same_bytes(tmp_path, result):
    write(tmp_path / "one", result)
    write(tmp_path / "two", result)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    write(tmp_path / "two", result)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_second_search_replaces_what_the_first_wrote_and_nothing_else(tmp_path, result):
    out = tmp_path / "out"
    write(out, result)
    (out / "annotated" / "mine.jpg").write_bytes(b"mine")
    (out / "thesis.txt").write_bytes(b"mine")
    check_folder(out)
    write(out, replace(result, matches=[result.matches[0]]))
    assert set(files(out)) == {
        OUTPUT_MARKER,
        "results.json",
        "report.html",
        "query.jpg",
        "contact_sheet.jpg",
        "thesis.txt",
        f"annotated/{OUTPUT_MARKER}",
        "annotated/001_a_1.jpg",
        "annotated/mine.jpg",
    }


def test_a_marker_that_lists_other_files_removes_none_of_them(tmp_path, result):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "thesis.jpg").write_bytes(b"mine")
    (out / "thesis.txt").write_bytes(b"mine")
    marker = f"thesis.txt\n../thesis.jpg\nannotated/../../thesis.jpg\n{tmp_path}/thesis.jpg\n"
    (out / OUTPUT_MARKER).write_text(marker)
    write(out, result)
    assert (out / "thesis.txt").exists() and (tmp_path / "thesis.jpg").exists()


def test_pictures_that_vanished_are_notes(tmp_path, gallery, result):
    (gallery / "b/1.png").unlink()
    (gallery / "a/1.jpg").write_bytes(b"\xff\xd8 not a picture any more")
    result.query.image.unlink()
    written = write(tmp_path / "out", result)
    assert len(written.annotated) == 3 and len(written.notes) == 3
    assert written.notes[0].startswith("the query picture was not drawn: cannot be read")
    assert {note.split()[0] for note in written.notes[1:]} == {"a/1.jpg", "b/1.png"}
    assert "query.jpg" not in files(tmp_path / "out")
    assert len(json.loads(written.results.read_bytes())["matches"]) == 10


def test_a_score_that_is_not_a_number_writes_nothing(tmp_path, result):
    bad = replace(result, matches=[replace(result.matches[0], score=float("nan"))])
    with pytest.raises(NotANumberError):
        write(tmp_path / "out", bad)
    assert not (tmp_path / "out").exists()


def test_results_inside_the_gallery_are_not_searched_again(gallery, result):
    before = [frame.name for frame in list_gallery(gallery)]
    write(gallery / "found", result)
    assert [frame.name for frame in list_gallery(gallery)] == before


def test_an_interrupted_folder_is_still_known_as_ours(tmp_path, gallery, result):
    out = tmp_path / "out"
    (out / "annotated").mkdir(parents=True)
    (out / "annotated" / "002_b_1.jpg").mkdir()  # in the way of the second picture
    with pytest.raises(OutputError, match="002_b_1.jpg: Is a directory"):
        write(out, result)
    assert json.loads((out / "results.json").read_bytes())["schema"] == "qeeps.search/1"
    (out / "annotated" / "002_b_1.jpg").rmdir()
    check_folder(out)
    write(out, result, top=1)
    assert [name for name in files(out) if name.startswith("annotated/0")] == ["annotated/001_a_1.jpg"]


def crop_names(out):
    return sorted(name for name in files(out) if name.startswith("crops/") and not name.endswith(OUTPUT_MARKER))


def test_crops_have_names_of_their_own_and_are_listed(tmp_path, result):
    """Two matches in each picture, and pictures whose names differ by folder, ending and case only."""
    out = tmp_path / "out"
    written = write(out, result, crops=True)
    matches = json.loads(written.results.read_bytes())["matches"]
    assert [match["crop"] for match in matches[:3]] == [
        "crops/001_a_1.jpg",
        "crops/002_b_1.jpg",
        "crops/003_b_1.png.jpg",
    ]
    assert len({match["crop"].casefold() for match in matches}) == len(matches) == 10
    assert sorted(match["crop"] for match in matches) == crop_names(out)
    assert written.crops == [out / match["crop"] for match in matches]
    for match in matches:
        with Image.open(out / match["crop"]) as crop:
            assert crop.size == tuple(match["box"][2:])


@pytest.mark.parametrize(
    ("options", "parameters", "ranks"),
    [({"top": 0}, {}, 0), ({"top": 3}, {}, 3), ({"top": 3}, {"top_k": 10}, 10), ({"top": 3}, {"min_score": 0.1}, 10)],
)
def test_how_many_crops(tmp_path, result, options, parameters, ranks):
    written = write(tmp_path / "out", replace(result, parameters=parameters), crops=True, annotate=False, **options)
    assert len(written.crops) == ranks


def test_a_crop_that_cannot_be_made_is_not_listed(tmp_path, gallery, result):
    (gallery / "a/1.jpg").unlink()
    written = write(tmp_path / "out", result, crops=True)
    matches = json.loads(written.results.read_bytes())["matches"]
    assert len(written.crops) == 8
    assert [match["image"] for match in matches if "crop" not in match] == ["a/1.jpg"] * 2


def test_a_search_without_crops_removes_those_of_an_earlier_one(tmp_path, result):
    write(tmp_path / "out", result, crops=True)
    write(tmp_path / "out", result)
    assert crop_names(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 8, 6), (8, 6)),
        ((1.5, 2.5, 3.5, 4.5), (3, 3)),
        ((-4, -4, 100, 100), (8, 6)),
        ((7.9, 5.9, 7.95, 5.95), (1, 1)),
        ((20, 20, 30, 30), (1, 1)),
    ],
)
def test_what_is_cut_out(box, size):
    """Every pixel that the box touches; one where the picture has become smaller than it was."""
    rgb = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    crop = cut_out(rgb, box)
    assert crop.size == size
    left, top = min(max(int(box[0]), 0), 7), min(max(int(box[1]), 0), 5)
    assert crop.getpixel((0, 0)) == tuple(rgb[top, left])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_needs_overwrite(tmp_path, result, overwrite):
    (tmp_path / "thesis.txt").write_bytes(b"mine")
    if overwrite:
        check_folder(tmp_path, overwrite=True)
        write(tmp_path, result)
    else:
        with pytest.raises(OutputError, match="--overwrite or another folder"):
            check_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["file", "file/below", "file/far/below"])
def test_a_file_in_the_folders_place_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        check_folder(tmp_path / name, overwrite=True)


def test_an_empty_folder_is_good(tmp_path):
    check_folder(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_sheet_shows_each_frame_once(result):
    best = result.best_of_frames()
    assert [match.rank for match in best] == sorted(match.rank for match in best)
    assert len({match.frame.path for match in best}) == len(best) == len({m.frame.path for m in result.matches})
    for match in best:
        assert match.score == max(m.score for m in result.matches if m.frame.path == match.frame.path)
