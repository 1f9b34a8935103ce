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


def row(*values):
    """A struct array of 1 x N, as MATLAB's `s(end + 1) = ...` makes it."""
    return struct(*values)


def column(*values):
    return struct(*values).reshape(-1, 1)


def structs_in_cells(*values):
    """A cell array of 1 x 1 structs, as Train.mat has it."""
    array = struct(*values).ravel()
    out = np.empty((len(array), 1), dtype=object)
    for index in range(len(array)):
        out[index, 0] = array[index : index + 1].reshape(1, 1)
    return out


def struct_in_nested_cells(*values):
    inner = np.empty((1, 1), dtype=object)
    inner[0, 0] = struct(*values)
    outer = np.empty((1, 1), dtype=object)
    outer[0, 0] = inner
    return outer


def in_cell(name):
    out = np.empty((1, 1), dtype=object)
    out[0, 0] = name
    return out


@pytest.mark.parametrize("shape", [row, column, structs_in_cells, struct_in_nested_cells])
@pytest.mark.parametrize("names", [str, in_cell])
def test_structs_in_whatever_shape_matlab_gives_them(cuhk, shape, names):
    people = {name: [(location(box), 0) for box in boxes] for name, boxes in IMAGES.items()}
    images = [(names(name), len(p), shape(["idlocate", "ishard"], p)) for name, p in people.items() if p]
    images.append((names("s5.jpg"), 0, np.empty((0, 0))))
    savemat(cuhk / "annotation" / "Images.mat", {"Img": shape(["imname", "nAppear", "box"], images)})

    def seen(entries):
        return shape(["imname", "idlocate", "ishard"], [(names(name), location(box), 0) for name, box in entries])

    folder = cuhk / "annotation" / "test" / "train_test"
    train = [(names(name), len(entries), seen(entries)) for name, entries in TRAIN]
    savemat(folder / "Train.mat", {"Train": shape(["idname", "nAppear", "scene"], train)})
    test = [(seen([query]), seen(gallery)) for query, gallery in TEST]
    savemat(folder / "TestG50.mat", {"TestG50": shape(["Query", "Gallery"], test)})
    savemat(cuhk / "annotation" / "pool.mat", {"pool": in_cell(in_cell(np.array(POOL, dtype=object)))[0, 0][0, 0]})

    test_train_split(cuhk)
    test_test_split(cuhk)
    test_queries_and_duplicated_gallery_frames(cuhk)


def test_one_of_everything(tmp_path):
    """1 x 1 structs and cells, which MATLAB and scipy like to squeeze."""
    root = write_cuhk(tmp_path / "CUHK-SYSU")
    person = struct(["idlocate", "ishard"], [(location((1, 1, 20, 40)), 0)])
    savemat(root / "annotation" / "Images.mat", {"Img": struct(["imname", "nAppear", "box"], [("s3.jpg", 1, person)])})
    savemat(root / "annotation" / "pool.mat", {"pool": "s3.jpg"})
    write_test_file(root, 50, [(("s3.jpg", (1, 1, 20, 40)), [("s3.jpg", (1, 1, 20, 40))])])
    frames = load_cuhk_sysu(root, gallery_size=50)
    assert [frame.person_ids.tolist() for frame in frames.frames] == [[0]]
    assert (frames.queries[0].gallery, len(frames.queries[0].truth)) == (("s3.jpg",), 1)


@pytest.mark.parametrize("empty", [(0, 0), (1, 0), (0, 4)])
def test_empty_boxes_of_any_shape(cuhk, empty):
    rows = [("s4.jpg", location((200, 100, 100, 200)), 0), ("s5.jpg", np.empty(empty), 0)]
    entry = (scenes([TEST[0][0]]), struct(["imname", "idlocate", "ishard"], rows))
    path = cuhk / "annotation" / "test" / "train_test" / "TestG50.mat"
    savemat(path, {"TestG50": struct(["Query", "Gallery"], [entry])})
    (query,) = load_cuhk_sysu(cuhk, gallery_size=50).queries
    assert (query.gallery, [position for position, _ in query.truth]) == (("s4.jpg", "s5.jpg"), [0])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_identities_meet_boxes_whatever_type_either_is_kept_in(cuhk, kind):
    query = struct(["imname", "idlocate", "ishard"], [("s3.jpg", np.array([[1, 1, 20, 40]], kind), 0)])
    gallery = struct(["imname", "idlocate", "ishard"], [("s4.jpg", np.array([[200, 100, 100, 200]], kind), 0)])
    path = cuhk / "annotation" / "test" / "train_test" / "TestG50.mat"
    savemat(path, {"TestG50": struct(["Query", "Gallery"], [(query, gallery)])})
    frames = load_cuhk_sysu(cuhk, gallery_size=50)
    assert [frame.person_ids.tolist() for frame in frames.frames] == [[0], [0], [], [-1, -1]]
    assert frames.queries[0].truth == ((0, (200.0, 100.0, 300.0, 300.0)),)
    assert frames.notes == ()


def test_more_fields_than_are_needed(cuhk):
    """The query's struct of the original files has its identity too."""
    query = struct(["imname", "idlocate", "ishard", "idname"], [("s3.jpg", location((1, 1, 20, 40)), 0, "p1")])
    path = cuhk / "annotation" / "test" / "train_test" / "TestG50.mat"
    savemat(path, {"TestG50": struct(["Query", "Gallery"], [(query, scenes([("s5.jpg", None)]))])})
    assert load_cuhk_sysu(cuhk, gallery_size=50).queries[0].box == (1.0, 1.0, 21.0, 41.0)


def test_names_that_are_not_ascii(cuhk):
    name = "人物 é.jpg"
    (cuhk / "Image" / "SSM" / "s5.jpg").rename(cuhk / "Image" / "SSM" / name)
    people = struct(["idlocate", "ishard"], [])
    rows = [(n, 0, people) for n in [*(set(POOL) - {"s5.jpg"}), name]]
    savemat(cuhk / "annotation" / "Images.mat", {"Img": struct(["imname", "nAppear", "box"], rows)})
    savemat(cuhk / "annotation" / "pool.mat", {"pool": np.array(["s3.jpg", name], dtype=object)})
    write_test_file(cuhk, 50, [(("s3.jpg", (1, 1, 20, 40)), [(name, None)])])
    assert load_cuhk_sysu(cuhk, gallery_size=50).queries[0].gallery == (name,)


def test_test_frames_stand_in_the_order_of_the_pool(cuhk):
    savemat(cuhk / "annotation" / "pool.mat", {"pool": np.array(POOL[::-1], dtype=object).reshape(-1, 1)})
    assert [frame.name for frame in load_cuhk_sysu(cuhk).frames] == POOL[::-1]
    assert load_cuhk_sysu(cuhk, gallery_size="all").queries[1].gallery == ("s5.jpg", "s4.jpg", "s3.jpg")


def test_two_people_who_share_a_box_and_one_person_seen_twice(cuhk):
    """The last identity that claims a box has it; the protocol's own list of places stays whole."""
    box = (200, 100, 100, 200)
    write_test_file(cuhk, 50, [(("s3.jpg", (1, 1, 20, 40)), [("s4.jpg", box), ("s4.jpg", box)])] * 2)
    frames = load_cuhk_sysu(cuhk, gallery_size=50)
    assert frames["s4.jpg"].person_ids.tolist() == [1]
    assert [position for position, _ in frames.queries[0].truth] == [0, 1]


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
    elif what == "numbers for structs":
        entry = (scenes([TEST[0][0]]), np.ones((3, 3)))
        savemat(test_file, {"TestG100": struct(["Query", "Gallery"], [entry])})
    elif what == "half a box":
        gallery = struct(["imname", "idlocate", "ishard"], [("s4.jpg", np.array([[1, 2]]), 0)])
        savemat(test_file, {"TestG100": struct(["Query", "Gallery"], [(scenes([TEST[0][0]]), gallery)])})
    elif what == "box of text":
        people = struct(["idlocate", "ishard"], [("none", 0)])
        savemat(
            root / "annotation" / "Images.mat", {"Img": struct(["imname", "nAppear", "box"], [("s1.jpg", 1, people)])}
        )
    elif what == "cut short":
        test_file.write_bytes(test_file.read_bytes()[:-200])
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
        ("annotation", "has no annotation/; expected the folder of CUHK-SYSU, which holds Image/SSM and annotation"),
        ("annotation", "holds: Image, annotations."),
        ("Image", "has no Image/SSM/; expected the folder of CUHK-SYSU"),
        ("annotation/pool.mat", "pool.mat does not exist; expected the names of CUHK-SYSU's test frames"),
        ("annotation/Images.mat", "Images.mat does not exist; expected CUHK-SYSU's boxes"),
        ("annotation/test/train_test/TestG100.mat", "TestG100.mat does not exist"),
        ("Image/SSM/s5.jpg", "SSM: 1 of the 4 test images are missing: s5.jpg"),
        ("variable", "expected the variable TestG100, found TestG50"),
        ("no queries", "expected a struct array TestG100 with a record per query, found none"),
        ("fields", "expected a struct with the field 'Gallery', found ('Query', 'Frames')"),
        ("numbers for structs", "TestG100.mat: query 0: expected structs, found an array of"),
        ("half a box", "TestG100.mat: query 0: expected idlocate [x, y, w, h], found [1, 2]"),
        ("box of text", "Images.mat: s1.jpg: expected idlocate [x, y, w, h], found ['none']"),
        ("cut short", "TestG100.mat: cannot be read as a MATLAB file"),
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


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere", "nowhere does not exist; expected the folder of CUHK-SYSU"),
        ("sets/CUHK-SYSU/annotation", "Did you mean {root}?"),
        ("sets/CUHK-SYSU/Image/SSM", "Did you mean {root}?"),
        ("sets", "Did you mean {root}?"),
        ("", "has no Image/SSM/ and annotation/"),
    ],
)
def test_a_wrong_root(tmp_path, place, says):
    root = write_cuhk(tmp_path / "sets" / "CUHK-SYSU")
    with pytest.raises(DataError) as error:
        load_cuhk_sysu(tmp_path / place)
    assert says.format(root=root) in str(error.value)


@pytest.mark.parametrize("options", [{"split": "val"}, {"gallery_size": 123}])
def test_unknown_options(cuhk, options):
    with pytest.raises(UsageError, match="CUHK-SYSU has"):
        load_cuhk_sysu(cuhk, **options)
