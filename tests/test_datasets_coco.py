"""COCO-style sets, crop sets, and the registry."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qeeps_cli.datasets import DATASETS, load, load_crops
from qeeps_cli.datasets.coco import load_coco
from qeeps_cli.errors import DataError, ExitCode, UsageError

SIZE = (120, 80)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 120, 60)).save(path)


def image(number, **changes):
    return {
        "id": number,
        "file_name": f"{number}.jpg",
        "width": SIZE[0],
        "height": SIZE[1],
        "camera": f"c{number}",
        "time": number / 2,
    } | changes


def annotation(number, image_id, bbox=(10, 10, 20, 40), person_id=1, **changes):
    return {"id": number, "image_id": image_id, "bbox": list(bbox), "person_id": person_id, "ignore": 0} | changes


def write_set(root: Path, images, annotations, queries=None) -> Path:
    root.mkdir()
    for entry in images:
        write_image(root / "frames" / entry["file_name"])
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    if queries is not None:
        (root / "queries.json").write_text(json.dumps(queries))
    return root


@pytest.fixture
def three(tmp_path):
    """Three frames: person 1 in all, person 2 in frame 1, an unknown person and an ignored one in frame 2."""
    annotations = [
        annotation(1, 0),
        annotation(2, 1, (5.5, 6.25, 30, 60)),
        annotation(3, 1, person_id=2),
        annotation(4, 2),
        annotation(5, 2, person_id=-1),
        annotation(6, 2, person_id=3, ignore=True),
    ]
    queries = [{"image": "0.jpg", "bbox": [10, 10, 20, 40], "person_id": 1, "ignore_images": ["1.jpg"]}]
    return write_set(tmp_path / "three", [image(i) for i in range(3)], annotations, queries)


def test_an_empty_set(tmp_path):
    frames = load_coco(write_set(tmp_path / "empty", [], []))
    assert (len(frames), frames.num_boxes, frames.identities, frames.queries) == (0, 0, (), ())


def test_frames_boxes_and_identities(three):
    frames = load_coco(three)
    assert (frames.name, len(frames), frames.num_boxes, frames.identities) == ("three", 3, 5, (1, 2))
    second = frames["1.jpg"]
    assert (second.width, second.height, second.camera, second.time) == (*SIZE, "c1", 0.5)
    assert second.path == three / "frames" / "1.jpg"
    np.testing.assert_array_equal(second.boxes, np.array([[5.5, 6.25, 35.5, 66.25], [10, 10, 30, 50]], np.float32))
    assert (second.boxes.dtype, second.person_ids.dtype) == (np.float32, np.int64)
    assert frames["2.jpg"].person_ids.tolist() == [1, -1, 3]
    assert frames["2.jpg"].ignore.tolist() == [False, False, True]


def test_a_frame_without_people(tmp_path):
    frame = load_coco(write_set(tmp_path / "s", [image(0)], [])).frames[0]
    assert (frame.boxes.shape, frame.person_ids.shape, frame.ignore.shape) == ((0, 4), (0,), (0,))


def test_query_leaves_out_its_own_frame_and_the_ignored(three):
    (query,) = load_coco(three).queries
    assert (query.gallery, query.box, query.person_id) == (("2.jpg",), (10.0, 10.0, 30.0, 50.0), 1)
    assert query.path == three / "frames" / "0.jpg"


def test_query_leaves_out_frames_where_the_person_is_marked_ignore(tmp_path):
    annotations = [annotation(1, 0), annotation(2, 1, ignore=1), annotation(3, 2), annotation(4, 2, ignore=1)]
    queries = [{"image": "0.jpg", "bbox": [10, 10, 20, 40], "person_id": 1}]
    root = write_set(tmp_path / "s", [image(i) for i in range(3)], annotations, queries)
    assert load_coco(root).queries[0].gallery == ("2.jpg",)


def test_file_names_with_frames_in_front_and_files_beside_the_annotations(tmp_path):
    root = tmp_path / "s"
    write_image(root / "frames" / "sub" / "a.jpg")
    write_image(root / "b.jpg")
    images = [image(0, file_name="frames/sub/a.jpg"), image(1, file_name="b.jpg")]
    queries = [{"image": "sub/a.jpg", "bbox": [0, 0, 9, 9], "person_id": 0, "ignore_images": ["b.jpg"]}]
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": []}))
    (root / "queries.json").write_text(json.dumps(queries))
    frames = load_coco(root)
    assert [frame.name for frame in frames.frames] == ["sub/a.jpg", "b.jpg"]
    assert [frame.path.exists() for frame in frames.frames] == [True, True]
    assert frames.queries[0].gallery == ()


def test_other_spellings_and_extra_annotations(tmp_path):
    first = image(1, camera="", time_s=4)
    del first["time"]
    root = write_set(tmp_path / "s", [first, image(2, camera=None, time=None)], [annotation(1, 1, iscrowd=1)])
    (root / "more.json").write_text(json.dumps({"annotations": [annotation(2, 1, ignore=1), annotation(3, 2)]}))
    query = {"id": "B_7", "query_image": "1.jpg", "bbox": [10, 10, 20, 40], "person_id": 1, "gap_s": 33}
    (root / "val_queries.json").write_text(json.dumps([query]))
    frames = load_coco(root, queries="val_queries.json", extra=["more.json"])
    assert [frame.time for frame in frames.frames] == [4.0, None]
    assert [frame.ignore.tolist() for frame in frames.frames] == [[True, True], [False]]
    assert frames.queries[0].name == "B_7"
    assert load_coco(root, queries=None).queries == ()


def test_slight_overhang_is_clipped(tmp_path):
    root = write_set(tmp_path / "s", [image(0)], [annotation(1, 0, (-3, -2, 20, 90))])
    np.testing.assert_array_equal(load_coco(root).frames[0].boxes, [[0, 0, 17, 80]])


@pytest.mark.parametrize(
    ("bbox", "says"),
    [
        ([], "four finite numbers"),
        (None, "four finite numbers"),
        ([1, 2, 3], "four finite numbers"),
        ([1, 2, float("nan"), 4], "four finite numbers"),
        (["1", 2, 3, 4], "four finite numbers"),
        ([10, 10, 0, 5], "positive width and height"),
        ([10, 10, 5, -5], "positive width and height"),
        ([100, 10, 60, 20], "120 pixels wide and 80 high"),
        ([-40, 10, 60, 20], "outside its image"),
        ([-5, 10, 5, 20], "outside its image"),
        ([500, 500, 10, 10], "outside its image"),
    ],
)
def test_a_wrong_box_is_told_with_file_and_annotation(tmp_path, bbox, says):
    root = write_set(tmp_path / "s", [image(0)], [annotation(1, 0), annotation(77, 0) | {"bbox": bbox}])
    with pytest.raises(DataError, match="annotation 77") as error:
        load_coco(root)
    assert says in str(error.value) and str(root / "annotations.json") in str(error.value)
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("images", "annotations", "says"),
    [
        ([image(0), image(0, file_name="1.jpg")], [], "image 0: this id stands twice"),
        ([image(0), image(1, file_name="0.jpg")], [], "file_name 0.jpg: this id stands twice"),
        ([image(0, id=None)], [], "image: expected an id"),
        ([image(0, width=None)], [], "image 0: expected a positive width"),
        ([image(0)], [annotation(5, 0), annotation(5, 0)], "annotation 5: this id stands twice"),
        ([image(0)], [annotation(None, 0)], "annotation: expected an id"),
        ([image(0)], [annotation(5, 8)], "annotation 5: image_id 8 is not the id of any image"),
        ([image(0)], [annotation(5, [0])], "annotation 5: image_id"),
        ([image(0)], [annotation(5, 0, person_id="Bob")], "annotation 5: expected an integer person_id"),
        ([image(0)], ["box"], "list of objects 'annotations'"),
    ],
)
def test_wrong_entries_are_told(tmp_path, images, annotations, says):
    root = write_set(tmp_path / "s", images, annotations)
    with pytest.raises(DataError) as error:
        load_coco(root)
    assert says in str(error.value) and "annotations.json" in str(error.value)


def test_a_file_name_is_expected(tmp_path):
    root = write_set(tmp_path / "s", [image(0)], [])
    (root / "annotations.json").write_text(json.dumps({"images": [image(0, file_name=3)], "annotations": []}))
    with pytest.raises(DataError, match="image 0: expected a file_name, got 3"):
        load_coco(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "9.jpg"}, "image '9.jpg' is not among the annotated images"),
        ({"image": None}, "image None"),
        ({"person_id": -1}, "person_id of 0 or more"),
        ({"ignore_images": ["1.jpg", "x.jpg"]}, "x.jpg"),
        ({"bbox": [300, 300, 10, 10]}, "outside its image"),
    ],
)
def test_wrong_queries_are_told(three, change, says):
    query = {"image": "0.jpg", "bbox": [10, 10, 20, 40], "person_id": 1} | change
    (three / "queries.json").write_text(json.dumps([query]))
    with pytest.raises(DataError) as error:
        load_coco(three)
    assert says in str(error.value) and "queries.json" in str(error.value)


@pytest.mark.parametrize("content", ["{}", "[3]", '[{"id": 1}, {"id": 1}]'])
def test_queries_of_another_shape_are_refused(three, content):
    (three / "queries.json").write_text(content)
    with pytest.raises(DataError, match="queries.json"):
        load_coco(three)


def test_missing_images_are_counted_and_named(three):
    (three / "frames" / "0.jpg").unlink()
    (three / "frames" / "2.jpg").unlink()
    with pytest.raises(DataError, match="2 image files exist neither under .*frames nor under .*: 0.jpg, 2.jpg"):
        load_coco(three)


def test_missing_and_malformed_files(tmp_path, three):
    with pytest.raises(DataError, match="nowhere does not exist; expected the root"):
        load_coco(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file; expected the root"):
        load_coco(three / "annotations.json")
    with pytest.raises(DataError, match="train.json does not exist.* holds: annotations.json, frames, queries.json"):
        load_coco(three, "train.json")
    with pytest.raises(DataError, match="my_queries.json does not exist"):
        load_coco(three, queries="my_queries.json")
    (three / "annotations.json").write_text('{"images": [\n{,')
    with pytest.raises(DataError, match="not valid JSON at line 2, column 2"):
        load_coco(three)
    (three / "annotations.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        load_coco(three)


def test_unknown_frame(three):
    with pytest.raises(DataError, match="three has no frame named 'x'"):
        load_coco(three)["x"]


def test_registry(three):
    assert len(load("coco", three)) == 3
    assert set(DATASETS) == {"coco", "cuhk-sysu", "examples", "prw", "prw-mini"}
    with pytest.raises(UsageError, match="unknown dataset 'market'; known are coco"):
        load("market", three)
    with pytest.raises(UsageError, match="coco has no option split; it has annotations, queries, extra"):
        load("coco", three, split="train")


@pytest.mark.parametrize(
    ("name", "option", "value", "expected"),
    [
        ("coco", "annotations", 3, "a text, got 3"),
        ("coco", "queries", ["q.json"], "a text"),
        ("coco", "extra", "more.json", "a list of texts, got 'more.json'"),
        ("coco", "extra", [3], "a list of texts"),
        ("prw", "split", True, "a text"),
        ("prw", "cross_camera", 1, "true or false"),
        ("cuhk-sysu", "gallery_size", True, 'a whole number or "all", got True'),
    ],
)
def test_options_of_another_type(three, name, option, value, expected):
    with pytest.raises(UsageError, match=f"dataset {name}: expected {option} to be {expected}"):
        load(name, three, **{option: value})


def test_every_option_of_a_reader_has_a_type():
    for name, reader in DATASETS.items():
        for option in set(inspect.signature(reader).parameters) - {"root"}:
            with pytest.raises(UsageError, match=f"expected {option} to be"):
                load(name, None, **{option: object()})


def write_crops(root: Path, index: str) -> Path:
    for name in ("0_a.jpg", "0_b.jpg", "7_a.jpg"):
        write_image(root / "images" / name)
    (root / "index.csv").write_text(index)
    return root


def test_crops(tmp_path):
    lines = "file,person_id,camera\r\nimages/0_a.jpg,0,A\r\nimages/0_b.jpg,0,B\r\nimages/7_a.jpg,7,A\r\n"
    crops = load_crops(write_crops(tmp_path / "crops", lines))
    assert (crops.name, len(crops), crops.identities) == ("crops", 3, (0, 7))
    assert [(c.path.name, c.person_id, c.camera) for c in crops.crops][1] == ("0_b.jpg", 0, "B")


def test_crop_index_without_rows(tmp_path):
    assert len(load_crops(write_crops(tmp_path / "crops", "file,person_id,camera\n"))) == 0


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("", "3 columns are missing"),
        ("file,camera\nimages/0_a.jpg,A\n", "person_id"),
        ("file,person_id,camera\nimages/0_a.jpg,Bob,A\n", "line 2"),
        ("file,person_id,camera\nimages/0_a.jpg,-1,A\n", "integer person_id of 0 or more"),
        ("file,person_id,camera\nimages/0_a.jpg\n", "line 2"),
        ("file,person_id,camera\nimages/no.jpg,1,A\n", "no.jpg"),
    ],
)
def test_wrong_crop_indices_are_told(tmp_path, index, says):
    root = write_crops(tmp_path / "crops", index)
    with pytest.raises(DataError) as error:
        load_crops(root)
    assert says in str(error.value) and "index.csv" in str(error.value)


def test_crops_without_index(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="index.csv does not exist; .* is empty"):
        load_crops(tmp_path / "empty")
