"""PRW and PRW-mini, on small sets in the original layout."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from qeeps_cli.datasets import load
from qeeps_cli.datasets.prw import load_prw
from qeeps_cli.datasets.prw_mini import PRW_MINI
from qeeps_cli.errors import DataError, UsageError

TRAIN = ["c1s1_000151", "c2s1_000151"]
TEST = ["c1s1_001000", "c1s1_001025", "c2s1_001000", "c6s2_050000"]
# Keys, ids and coordinates as the original files have them: id -2 is unknown, coordinates can be negative.
ANNOTATIONS = {
    "c1s1_000151": ("box_new", [[1, 10.9, 20.2, 30.7, 60.1], [900, 50, 10, 20, 40], [-2, 5, 5, 20, 50]]),
    "c2s1_000151": ("anno_file", [[2, 0, 0, 10, 20]]),
    "c1s1_001000": ("box_new", [[5, 100.6, 50.5, 40.9, 80.9], [-2, 0, 0, 10, 20]]),
    "c1s1_001025": ("anno_file", [[5, -3.7, -1.2, 40.5, 80.5]]),
    "c2s1_001000": ("anno_previous", [[6, 10, 10, 30, 60], [5, 1, 2, 30, 40], [5, 200, 2, 30, 40]]),
    "c6s2_050000": ("box_new", []),
}
QUERIES = ["5 100.6200 50.5100 40.9000 80.9000 c1s1_001000", "6 10.0 10.0 30.0 60.0 c2s1_001000"]


def cells(names):
    return np.array(names, dtype=object).reshape(-1, 1)


def write_prw(root: Path, test=TEST, queries=QUERIES) -> Path:
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name in {*TRAIN, *test}:
        Image.new("RGB", (32, 24)).save(root / "frames" / f"{name}.jpg")
        key, rows = ANNOTATIONS.get(name, ("box_new", [[1, 0, 0, 10, 20]]))
        savemat(root / "annotations" / f"{name}.jpg.mat", {key: np.array(rows, float).reshape(-1, 5)})
    savemat(root / "frame_train.mat", {"img_index_train": cells(TRAIN)})
    savemat(root / "frame_test.mat", {"img_index_test": cells(test)})
    savemat(root / "ID_train.mat", {"ID_train": np.array([[1, 2, 3]])})
    (root / "query_info.txt").write_bytes("".join(f"{line}\r\n" for line in queries).encode())
    return root


@pytest.fixture
def prw(tmp_path):
    return write_prw(tmp_path / "PRW-v16.04.20")


def test_test_split(prw):
    frames = load_prw(prw)
    assert (frames.name, [frame.name for frame in frames.frames]) == ("prw", [f"{name}.jpg" for name in TEST])
    assert [len(frame.boxes) for frame in frames.frames] == [2, 1, 3, 0]
    first = frames["c1s1_001000.jpg"]
    np.testing.assert_array_equal(first.boxes, [[100, 50, 140, 130], [0, 0, 10, 20]])  # truncated before x + w
    assert (first.person_ids.tolist(), first.camera, first.path) == ([5, -1], "c1", prw / "frames" / "c1s1_001000.jpg")
    assert frames["c6s2_050000.jpg"].boxes.shape == (0, 4)


def test_the_newest_labels_of_a_frame_count(prw):
    rows = {"anno_previous": [[7, 1, 1, 9, 9]], "anno_file": [[8, 2, 2, 9, 9]], "box_new": [[9, 3, 3, 9, 9]]}
    path = prw / "annotations" / "c6s2_050000.jpg.mat"
    for key in ("anno_previous", "anno_file", "box_new"):
        savemat(path, {"other": 1.0, **{k: np.array(rows[k], float) for k in list(rows)[: list(rows).index(key) + 1]}})
        assert load_prw(prw)["c6s2_050000.jpg"].person_ids.tolist() == [int(rows[key][0][0])]


def wrapped(names):
    return cells([np.array([[name]], dtype=object) for name in names])


@pytest.mark.parametrize(
    "as_matlab", [cells, lambda names: cells(names).T, wrapped, np.array], ids=["Nx1", "1xN", "cells in cells", "chars"]
)
def test_names_in_whatever_shape_matlab_gives_them(prw, as_matlab):
    savemat(prw / "frame_test.mat", {"img_index_test": as_matlab(TEST)})
    assert [frame.name for frame in load_prw(prw).frames] == [f"{name}.jpg" for name in TEST]


@pytest.mark.parametrize("ids", [[[1, 2, 3]], [[1], [2], [3]], [[1.0, 2.0]]])
def test_identities_as_row_or_column(prw, ids):
    savemat(prw / "ID_train.mat", {"ID_train": np.array(ids)})
    assert load_prw(prw, split="train").identities == (1, 2)


def test_a_single_frame_person_and_identity(tmp_path):
    root = write_prw(tmp_path / "prw", test=TEST[:1], queries=QUERIES[:1])
    savemat(root / "ID_train.mat", {"ID_train": 2})
    frames = load_prw(root)
    assert (len(frames), frames.queries[0].gallery) == (1, ())
    assert load_prw(root, split="train").identities == (2,)


def test_negative_coordinates_are_truncated_towards_zero_and_kept(prw):
    np.testing.assert_array_equal(load_prw(prw)["c1s1_001025.jpg"].boxes, [[-3, -1, 37, 79]])


def test_queries_with_crlf_lines(prw):
    first, second = load_prw(prw).queries
    assert (first.name, first.person_id, first.box) == ("5 c1s1_001000", 5, (100.0, 50.0, 140.0, 130.0))
    assert first.path == prw / "frames" / "c1s1_001000.jpg"
    assert first.gallery == ("c1s1_001025.jpg", "c2s1_001000.jpg", "c6s2_050000.jpg")
    assert second.person_id == 6


def test_an_id_that_stands_twice_in_a_frame_counts_with_its_first_box(prw):
    assert load_prw(prw).appearances[5]["c2s1_001000.jpg"] == (1.0, 2.0, 31.0, 42.0)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n", "\r\n\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "mark"])
def test_line_ends_blank_lines_and_byte_order_marks(prw, start, end):
    (prw / "query_info.txt").write_bytes((start + end.join([*QUERIES, ""])).encode())
    assert [query.name for query in load_prw(prw).queries] == ["5 c1s1_001000", "6 c2s1_001000"]


def test_query_boxes_are_truncated_before_they_are_added(prw):
    (prw / "query_info.txt").write_text("5 -3.7 -0.2 40.9 80.5 c1s1_001000\n")
    assert load_prw(prw).queries[0].box == (-3.0, 0.0, 37.0, 80.0)


def test_cross_camera_galleries(prw):
    first, second = load_prw(prw, cross_camera=True).queries
    assert first.gallery == ("c2s1_001000.jpg", "c6s2_050000.jpg")
    assert second.gallery == ("c1s1_001000.jpg", "c1s1_001025.jpg", "c6s2_050000.jpg")


def test_train_split_has_the_training_identities_only(prw):
    frames = load_prw(prw, split="train")
    assert (frames.identities, frames.queries) == ((1, 2), ())
    assert frames["c1s1_000151.jpg"].person_ids.tolist() == [1, -1, -1]
    np.testing.assert_array_equal(frames["c1s1_000151.jpg"].boxes[0], [10, 20, 40, 80])


def test_the_folder_that_holds_prw_will_do(prw):
    assert len(load_prw(prw.parent)) == len(TEST)


def test_no_queries_asked_for(prw):
    (prw / "query_info.txt").unlink()
    assert load_prw(prw, queries=None).queries == ()


def test_prw_mini_takes_its_boxes_from_query_info(tmp_path):
    names = sorted({frame for _, frame in PRW_MINI})
    lines = [f"{person} {10 + i} 20.9 30 60 {frame}" for i, (person, frame) in enumerate(PRW_MINI)]
    root = write_prw(tmp_path / "prw", test=names, queries=["1 0 0 9 9 " + names[0], *lines[::-1]])
    frames = load("prw-mini", root)
    assert (frames.name, len(frames.queries)) == ("prw-mini", 30)
    assert [(query.person_id, query.path.stem) for query in frames.queries] == list(PRW_MINI)
    assert frames.queries[3].box == (13.0, 20.0, 43.0, 80.0)
    assert all(len(query.gallery) == len(names) - 1 for query in frames.queries)


def test_prw_mini_tells_which_queries_are_missing(prw):
    with pytest.raises(
        DataError, match=r"query_info.txt: 30 of PRW-mini's 30 queries are missing: 484 in c2s1_159941.jpg"
    ):
        load_prw(prw, queries="mini")


def test_boxes_without_area_are_dropped_with_one_note(prw):
    rows = np.array([[4, 1, 1, 0.5, 9], [4, 1, 1, 5, 9]])
    savemat(prw / "annotations" / "c6s2_050000.jpg.mat", {"box_new": rows})
    savemat(prw / "annotations" / "c1s1_001025.jpg.mat", {"box_new": rows * [1, 1, 1, 1, -1]})
    frames = load_prw(prw)
    np.testing.assert_array_equal(frames["c6s2_050000.jpg"].boxes, [[1, 1, 6, 10]])
    assert frames.notes == ("3 boxes without area were dropped, the first in c1s1_001025.jpg",)


def test_sound_sets_have_no_notes(prw):
    assert load_prw(prw).notes == ()


def spoil(root, what):
    if what in ("frames", "annotations"):
        (root / what).rename(root / f"{what}_away")
    elif what == "variable":
        savemat(root / "annotations" / "c1s1_001000.jpg.mat", {"boxes": np.zeros((1, 5))})
    elif what == "shape":
        savemat(root / "annotations" / "c1s1_001000.jpg.mat", {"box_new": np.zeros((2, 4))})
    elif what == "damaged":
        (root / "frame_test.mat").write_bytes(b"not a mat file at all")
    elif what == "no names":
        savemat(root / "frame_test.mat", {"img_index_test": cells([])})
    elif what == "query line":
        (root / "query_info.txt").write_text(QUERIES[0] + "\r\n5 100 50 40 c1s1_001000\r\n")
    elif what == "not a number":
        savemat(root / "annotations" / "c1s1_001000.jpg.mat", {"box_new": np.array([[1, 2, np.nan, 4, 5]])})
    elif what == "no area":
        (root / "query_info.txt").write_text("5 100 50 0.9 40 c1s1_001000\n")
    elif what == "infinite":
        (root / "query_info.txt").write_text("5 100 50 inf 40 c1s1_001000\n")
    elif what == "not text":
        (root / "query_info.txt").write_bytes(b"\xff\xfe5\x00 \x00")
    elif what == "new MATLAB format":
        (root / "frame_test.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n")
    elif what == "query frame":
        (root / "query_info.txt").write_text("5 1 2 3 4 c9s9_000000\n")
    else:
        (root / what).unlink()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("frames", "has no frames/; expected the folder PRW-v16.04.20, which holds frames and annotations. The folder"),
        ("annotations", "has no annotations/; expected the folder PRW-v16.04.20, which holds frames and annotations"),
        ("ID_train.mat", "ID_train.mat does not exist; expected the identities of PRW's train split"),
        ("frame_test.mat", "frame_test.mat does not exist; expected the names of PRW's test frames"),
        ("query_info.txt", "query_info.txt does not exist; expected PRW's queries"),
        (
            "frames/c1s1_001025.jpg",
            "frames: 1 of the 4 files that frame_test.mat asks for are missing: c1s1_001025.jpg",
        ),
        ("annotations/c1s1_001025.jpg.mat", "annotations: 1 of the 4 files"),
        ("variable", "expected the variable box_new or anno_file or anno_previous, found boxes"),
        ("shape", "expected finite rows [id, x, y, w, h], got an array of shape (2, 4)"),
        ("not a number", "c1s1_001000.jpg.mat: expected finite rows [id, x, y, w, h]"),
        ("damaged", "frame_test.mat: cannot be read as a MATLAB file"),
        ("no names", "found none"),
        ("new MATLAB format", "frame_test.mat: cannot be read as a MATLAB file"),
        ("query line", 'query_info.txt, line 2: expected "id x y w h frame" with'),
        ("query line", "got '5 100 50 40 c1s1_001000'"),
        ("no area", "a width and height of 1 or more, got '5 100 50 0.9 40 c1s1_001000'"),
        ("infinite", "query_info.txt, line 1: expected"),
        ("not text", "query_info.txt, line 1: expected"),
        ("query frame", "query frames are not among the frames of frame_test.mat: c9s9_000000.jpg"),
    ],
)
def test_mistakes_are_told_with_what_was_looked_for_and_where(prw, what, says):
    spoil(prw, what)
    with pytest.raises(DataError) as error:
        load_prw(prw, split="train" if what == "ID_train.mat" else "test")
    assert says in str(error.value) and str(prw) in str(error.value)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere", "nowhere does not exist; expected the folder PRW-v16.04.20"),
        ("sets/PRW-v16.04.20/query_info.txt", "query_info.txt is a file; expected the folder PRW-v16.04.20"),
        ("sets/PRW-v16.04.20/frames", "frames has no frames/ and annotations/"),
        ("sets/PRW-v16.04.20/frames", "Did you mean {root}?"),
        ("", "Did you mean {root}?"),
        ("empty", "The folder {empty} is empty."),
    ],
)
def test_a_wrong_root(tmp_path, place, says):
    root = write_prw(tmp_path / "sets" / "PRW-v16.04.20")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        load_prw(tmp_path / place)
    assert says.format(root=root, empty=tmp_path / "empty") in str(error.value)


def test_a_root_of_another_name(prw):
    assert len(load_prw(prw.rename(prw.parent / "my prw"))) == len(TEST)


def test_without_a_set_nearby_nothing_is_suggested(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        load_prw(tmp_path / "a")
    assert "Did you mean" not in str(error.value) and "holds: b." in str(error.value)


def test_scipy_is_asked_for_only_when_a_mat_file_is_read(prw, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)  # importing it now fails, as where it is not installed
    with pytest.raises(DataError, match="frame_test.mat needs scipy, which is not installed"):
        load_prw(prw)


@pytest.mark.parametrize("options", [{"split": "val"}, {"queries": "some"}])
def test_unknown_options(prw, options):
    with pytest.raises(UsageError, match="PRW has the splits"):
        load_prw(prw, **options)


def test_prw_mini_table_has_thirty_pairs():
    assert len(set(PRW_MINI)) == len(PRW_MINI) == 30
    lines = "".join(f"{person_id} {frame}\n" for person_id, frame in PRW_MINI)
    assert (
        hashlib.sha256(lines.encode()).hexdigest() == "75e0cf4b884b089f4ae2edc4ba830ff4b7aa5fa90378d6858d3cb36286c9c4a1"
    )


def test_one_missing_query_of_prw_mini_is_named(tmp_path):
    names = sorted({frame for _, frame in PRW_MINI})
    lines = [f"{person} 10 20 30 60 {frame}" for person, frame in PRW_MINI]
    root = write_prw(tmp_path / "prw", test=names, queries=lines[:16] + lines[17:])
    with pytest.raises(DataError) as error:
        load("prw-mini", root)
    person, frame = PRW_MINI[16]
    assert f"query_info.txt: 1 of PRW-mini's 30 queries are missing: {person} in {frame}.jpg." in str(error.value)
