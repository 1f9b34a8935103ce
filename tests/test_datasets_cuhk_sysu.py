"""CUHK-SYSU, on a small set in the original layout: struct arrays, cells of structs, and narrow integers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from qeeps_cli.datasets import load
from qeeps_cli.datasets.cuhk_sysu import load_cuhk_sysu
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.evaluation.protocols import score_query

IMAGES = {
    "s1.jpg": [(10, 20, 30, 60), (100, 20, 250, 200)],
    "s2.jpg": [(5, 5, 20, 40), (50, 5, 0, 40), (60, 5, 20, -1)],  # two without area
    "s3.jpg": [(1, 1, 20, 40)],
    "s4.jpg": [(200, 100, 100, 200)],  # x + w passes 255
    "s5.jpg": [],
    "s6.jpg": [(7, 7, 30, 30), (8, 8, 30, 30)],
}
POOL = ["s3.jpg", "s4.jpg", "s5.jpg", "s6.jpg"]
TRAIN = [("p1", [("s1.jpg", (10, 20, 30, 60)), ("s2.jpg", (5, 5, 20, 40))]), ("p2", [("s1.jpg", (9, 9, 9, 9))])]
TEST = [
    (("s3.jpg", (1, 1, 20, 40)), [("s4.jpg", (200, 100, 100, 200)), ("s5.jpg", None), ("s4.jpg", None)]),
    (("s6.jpg", (7, 7, 30, 30)), [("s5.jpg", None)]),
]


def struct(fields, rows, shape=None):
    """A MATLAB struct array, (1, N) unless told otherwise."""
    array = np.empty(len(rows), dtype=[(name, object) for name in fields])
    for index, row in enumerate(rows):
        for name, value in zip(fields, row, strict=True):
            array[name][index] = value
    return array.reshape(shape or (1, -1))


def location(box):
    """MATLAB keeps whole numbers in the narrowest type that holds them."""
    return np.empty((0, 0)) if box is None else np.array([box], np.uint8 if min(box) >= 0 else np.int16)


def scenes(entries):
    return struct(["imname", "idlocate", "ishard"], [(name, location(box), 0) for name, box in entries])


def query_entry(query, gallery):
    name, box = query
    return struct(["imname", "idlocate", "ishard"], [(name, location(box), 0)]), scenes(gallery)


def write_test_file(root: Path, size: int, entries) -> None:
    rows = [query_entry(query, gallery) for query, gallery in entries]
    path = root / "annotation" / "test" / "train_test" / f"TestG{size}.mat"
    savemat(path, {f"TestG{size}": struct(["Query", "Gallery"], rows)})


def write_images_file(root: Path) -> None:
    rows = []
    for name, boxes in IMAGES.items():
        people = struct(["idlocate", "ishard"], [(location(box), 0) for box in boxes])
        rows.append((name, len(boxes), people))
    savemat(root / "annotation" / "Images.mat", {"Img": struct(["imname", "nAppear", "box"], rows)})


def write_cuhk(root: Path) -> Path:
    (root / "Image" / "SSM").mkdir(parents=True)
    (root / "annotation" / "test" / "train_test").mkdir(parents=True)
    for name in IMAGES:
        Image.new("RGB", (32, 24)).save(root / "Image" / "SSM" / name)
    write_images_file(root)
    savemat(root / "annotation" / "pool.mat", {"pool": np.array(POOL, dtype=object).reshape(-1, 1)})
    train = np.empty((len(TRAIN), 1), dtype=object)  # a cell array of 1 x 1 structs
    for index, (name, entries) in enumerate(TRAIN):
        train[index, 0] = struct(["idname", "nAppear", "scene"], [(name, len(entries), scenes(entries))])
    savemat(root / "annotation" / "test" / "train_test" / "Train.mat", {"Train": train})
    write_test_file(root, 50, TEST)
    write_test_file(
        root, 100, [(query, [*gallery, ("s6.jpg", None)][: 4 - i]) for i, (query, gallery) in enumerate(TEST)]
    )
    return root


@pytest.fixture
def cuhk(tmp_path):
    return write_cuhk(tmp_path / "CUHK-SYSU")


def test_train_split(cuhk):
    frames = load_cuhk_sysu(cuhk, split="train")
    assert ([frame.name for frame in frames.frames], frames.queries) == (["s1.jpg", "s2.jpg"], ())
    first, second = frames.frames
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 80], [100, 20, 350, 220]])
    assert (first.person_ids.tolist(), second.person_ids.tolist()) == ([0, -1], [0])
    np.testing.assert_array_equal(second.boxes, [[5, 5, 25, 45]])
    assert "1 labelled people" in frames.notes[0]  # p2's box equals none


def test_test_split(cuhk):
    frames = load_cuhk_sysu(cuhk, gallery_size=50)
    assert [frame.name for frame in frames.frames] == POOL
    assert [frame.person_ids.tolist() for frame in frames.frames] == [[0], [0], [], [1, -1]]
    np.testing.assert_array_equal(frames["s4.jpg"].boxes, [[200, 100, 300, 300]])
    assert frames["s5.jpg"].boxes.shape == (0, 4)


def test_queries_and_duplicated_gallery_frames(cuhk):
    first, second = load_cuhk_sysu(cuhk, gallery_size=50).queries
    assert (first.gallery, first.box) == (("s4.jpg", "s5.jpg", "s4.jpg"), (1.0, 1.0, 21.0, 41.0))
    assert first.truth == ((0, (200.0, 100.0, 300.0, 300.0)),)
    assert (first.path, first.person_id) == (cuhk / "Image" / "SSM" / "s3.jpg", 0)
    assert (second.gallery, second.truth, second.person_id) == (("s5.jpg",), (), 1)


def test_a_duplicated_frame_is_wrong_where_the_protocol_gives_no_box(cuhk):
    frames = load_cuhk_sysu(cuhk, gallery_size=50)
    answers = [("s4.jpg", frames["s4.jpg"].boxes, [0.9]), ("s5.jpg", [], [])]
    score = score_query(frames, frames.queries[0], answers)
    assert (score.count_gt, score.count_tp, score.detections, score.ap) == (1, 1, 2, 0.5)


def test_the_default_gallery_has_a_hundred_frames(cuhk):
    assert load("cuhk-sysu", cuhk).queries[0].gallery == ("s4.jpg", "s5.jpg", "s4.jpg", "s6.jpg")


def test_all_frames_as_gallery(cuhk):
    first, second = load_cuhk_sysu(cuhk, gallery_size="all").queries
    assert (first.gallery, first.truth) == (("s4.jpg", "s5.jpg", "s6.jpg"), ((0, (200.0, 100.0, 300.0, 300.0)),))
    assert second.gallery == ("s3.jpg", "s4.jpg", "s5.jpg")


def test_the_folder_around_dataset_will_do(cuhk, tmp_path):
    cuhk.rename(tmp_path / "dataset")
    assert len(load_cuhk_sysu(tmp_path)) == len(POOL)


def spoil(root, what):
    test_file = root / "annotation" / "test" / "train_test" / "TestG100.mat"
    if what == "annotation":
        (root / what).rename(root / "annotations")
    elif what == "Image":
        (root / what).rename(root / "images")
    elif what == "variable":
        savemat(test_file, {"TestG50": 1})
    elif what == "no queries":
        savemat(test_file, {"TestG100": np.empty((0, 0))})
    elif what == "fields":
        savemat(test_file, {"TestG100": struct(["Query", "Frames"], [query_entry(*TEST[0])])})
    elif what == "empty query":
        write_test_file(root, 100, [(("s3.jpg", None), [])])
    elif what == "gallery frame":
        write_test_file(root, 100, [(TEST[0][0], [("s1.jpg", None)])])
    elif what == "query image":
        write_test_file(root, 100, [(("s99.jpg", (1, 1, 2, 2)), [])])
    elif what == "pool":
        savemat(root / "annotation" / "pool.mat", {"pool": np.array([["s3.jpg"], ["s77.jpg"]], dtype=object)})
    elif what == "no images":
        savemat(root / "annotation" / "Images.mat", {"Img": np.empty((0, 0))})
    else:
        (root / what).unlink()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("annotation", "annotation does not exist; expected CUHK-SYSU's annotations; --root should hold Image/"),
        ("Image", "SSM does not exist; expected CUHK-SYSU's images"),
        ("annotation/Images.mat", "Images.mat does not exist; expected CUHK-SYSU's boxes"),
        ("annotation/test/train_test/TestG100.mat", "TestG100.mat does not exist"),
        ("Image/SSM/s5.jpg", "SSM: 1 of the 4 test images are missing: s5.jpg"),
        ("variable", "expected the variable TestG100, found TestG50"),
        ("no queries", "expected a struct array TestG100 with a record per query, found none"),
        ("fields", "expected a struct with the field 'Gallery', found ('Query', 'Frames')"),
        ("empty query", "query 0: expected a Query with imname and idlocate"),
        ("gallery frame", "frames of the galleries are not among its test frames: s1.jpg"),
        ("query image", "query images are missing: s99.jpg"),
        ("pool", "test frames are not in Images.mat: s77.jpg"),
        ("no images", "expected a struct array Img with a record per image, found none"),
    ],
)
def test_mistakes_are_told_with_what_was_looked_for_and_where(cuhk, what, says):
    spoil(cuhk, what)
    with pytest.raises(DataError) as error:
        load_cuhk_sysu(cuhk)
    assert says in str(error.value) and str(cuhk) in str(error.value)


@pytest.mark.parametrize("options", [{"split": "val"}, {"gallery_size": 123}])
def test_unknown_options(cuhk, options):
    with pytest.raises(UsageError, match="CUHK-SYSU has"):
        load_cuhk_sysu(cuhk, **options)
