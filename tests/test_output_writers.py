"""The contract of results as data: JSON, JSONL, CSV, COCO, and the JSON of `qeeps detect`."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qeeps_cli.errors import NotANumberError, UsageError
from qeeps_cli.output import json_writer
from qeeps_cli.output.detections import detections_document
from qeeps_cli.output.writers import WRITERS, choose_format, encode_result, get_writer
from qeeps_cli.types import Detections, GalleryFrame, Match, Query, SearchResult, Skipped

WEIGHTS = {"name": "tiny", "digest": "sha256:00ff"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
NOT_UTF8 = os.fsdecode(b"caf\xe9/1.jpg")
AWKWARD = ["plain.jpg", "a b/[x].jpg", "-rf.jpg", 'quo"te,comma.jpg', "new\nline\r.jpg", "中文/é.jpg", NOT_UTF8]


def match(rank, name, box=(1.0, 2.0, 11.0, 22.0), score=0.5, person_score=0.9):
    return Match(rank, GalleryFrame(Path("/gallery") / name, name), box, score, person_score)


def search_result(matches=(), box=(10.0, 20.0, 40.5, 90.25), **fields):
    query = Query(Path("q.jpg"), box, digest="ab12")
    return SearchResult(query, list(matches), fields.pop("skipped", []), 7, {"nms": 0.4, "device": "cpu"}, **fields)


def encode(result, name="json"):
    return encode_result(name, result, WEIGHTS, "exact")


def encode_several(results, name, **options):
    writer = get_writer(name, WEIGHTS, "exact", several=True, **options)
    for id, result in results.items():
        writer.take(id, result)
    return writer.finish()


def named_by_cell(cell):
    """The name that a cell of the CSV stands for."""
    return cell[2:] if cell.startswith("./") and cell[2:].startswith(FORMULA) else cell


@pytest.mark.parametrize("names", [[], AWKWARD])
def test_json_holds_the_whole_contract(names):
    matches = [match(i, name, score=1 / i) for i, name in enumerate(names, start=1)]
    skipped = [Skipped("z.jpg", "the file is empty"), Skipped(NOT_UTF8, "cut short")]
    document = json.loads(encode(search_result(matches, skipped=skipped, notes=["cut to the picture"])))
    assert document == {
        "schema": "qeeps.search/1",
        "query": {"image": "q.jpg", "box": [10.0, 20.0, 30.5, 70.25], "digest": "ab12"},
        "weights": WEIGHTS,
        "mode": "exact",
        "parameters": {"device": "cpu", "nms": 0.4},
        "frames_searched": 7,
        "best_score": None,
        "notes": ["cut to the picture"],
        "skipped": [
            {"image": NOT_UTF8, "reason": "cut short"},
            {"image": "z.jpg", "reason": "the file is empty"},
        ],
        "matches": [
            {
                "rank": i,
                "image": name,
                "box": [1.0, 2.0, 10.0, 20.0],
                "score": round(1 / i, 6),
                "person_score": 0.9,
            }
            for i, name in enumerate(names, start=1)
        ],
    }


def test_a_whole_picture_query_has_a_null_box():
    assert json.loads(encode(search_result(box=None)))["query"]["box"] is None


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_names_that_are_not_utf8_come_back_byte_for_byte(name):
    data = encode(search_result([match(1, NOT_UTF8)]), name)
    assert data.isascii()
    document = json.loads(data)
    image = (document["matches"][0] if name == "json" else document)["image"]
    assert os.fsencode(image) == b"caf\xe9/1.jpg"


def test_each_match_is_a_line_of_its_own():
    lines = encode(search_result([match(i, "a.jpg") for i in range(1, 4)])).decode().splitlines()
    assert [json.loads(line.strip().rstrip(","))["rank"] for line in lines if '"rank"' in line] == [1, 2, 3]


@pytest.mark.parametrize("names", [[], AWKWARD])
def test_jsonl_lines_are_the_matches_of_the_json(names):
    result = search_result([match(i, name) for i, name in enumerate(names, start=1)])
    lines = encode(result, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(encode(result))["matches"]


@pytest.mark.parametrize("names", [[], AWKWARD])
def test_csv_reads_back(names):
    matches = [match(i, name, (0.5, 1, 2.75, 4), 0.125) for i, name in enumerate(names, start=1)]
    text = encode(search_result(matches), "csv").decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert text.startswith("rank,image,x,y,w,h,score,person_score\n")
    assert [named_by_cell(row["image"]) for row in rows] == names
    assert all([float(row[key]) for key in "xywh"] == [0.5, 1, 2.25, 3] and row["score"] == "0.125" for row in rows)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_result_gives_the_same_bytes(name):
    matches = [match(1, "a.jpg", tuple(np.float32([0.1, -0.0001, 5.3, 9])), np.float32(0.1))]
    skipped = [Skipped("b.jpg", "empty"), Skipped("a.jpg", "empty")]
    one = search_result(matches, skipped=skipped)
    other = replace(one, skipped=skipped[::-1], parameters=dict(reversed(one.parameters.items())))
    assert encode(one, name) == encode(other, name)


def test_numbers_are_rounded_and_zero_has_no_sign():
    document = json_writer.match_document(match(1, "a.jpg", (-0.001, 1 / 3, 10, 20), 1 / 3, -1e-9))
    assert document["box"] == [0.0, 0.33, 10.0, 19.67]
    assert document["score"] == 0.333333
    assert "-0.0" not in json_writer.dump_line(document).decode()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
@pytest.mark.parametrize("field", ["score", "person_score", "box"])
def test_what_is_not_a_number_is_an_error_that_names_the_frame(name, value, field):
    bad = match(2, "cam/9.jpg", **{field: (1.0, value, 3.0, 4.0) if field == "box" else value})
    with pytest.raises(NotANumberError, match=r"match 2 in cam/9\.jpg"):
        encode(search_result([match(1, "a.jpg"), bad]), name)


def test_a_parameter_that_is_not_a_number_is_an_error():
    with pytest.raises(NotANumberError, match="parameters"):
        encode(replace(search_result(), parameters={"nms": float("nan")}))


@pytest.mark.parametrize("score", [None, 0.1234567])
def test_json_says_how_well_the_best_candidate_scored(score):
    document = json.loads(encode(replace(search_result(), best_score=score)))
    assert document["best_score"] == (None if score is None else 0.123457)


def test_the_best_candidate_must_have_a_number():
    with pytest.raises(NotANumberError, match="the best candidate"):
        encode(replace(search_result(), best_score=float("nan")))


@pytest.mark.parametrize("first", FORMULA)
def test_no_name_is_a_formula_in_a_spreadsheet(first):
    text = encode(search_result([match(1, f"{first}cmd.jpg")]), "csv").decode()
    row = next(csv.DictReader(io.StringIO(text, newline="")))
    assert row["image"] == f"./{first}cmd.jpg"


def test_matches_without_a_ranking_have_no_rank():
    lines = get_writer("jsonl", WEIGHTS, "exact", flows=True).lines("", [match(0, "a.jpg", score=0.25)])
    assert [json.loads(line) for line in lines] == [
        {"image": "a.jpg", "box": [1.0, 2.0, 10.0, 20.0], "score": 0.25, "person_score": 0.9}
    ]


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b\n\udce9"]])
def test_of_several_queries_every_format_says_whose_a_match_is(ids):
    results = {id: search_result([match(1, f"{i}.jpg"), match(2, "c.jpg")]) for i, id in enumerate(ids)}
    expected = [(id, image) for i, id in enumerate(ids) for image in (f"{i}.jpg", "c.jpg")]

    searches = json.loads(encode_several(results, "json"))["searches"]
    assert [(search["id"], found["image"]) for search in searches for found in search["matches"]] == expected
    lines = [json.loads(line) for line in encode_several(results, "jsonl").splitlines()]
    assert [(line["query"], line["image"]) for line in lines] == expected
    assert encode_several(results, "jsonl", flows=True) == b"", "they were lines already"
    text = encode_several(results, "csv").decode("utf-8", "surrogateescape")
    assert text.startswith("query,rank,image,x,y,w,h,score,person_score\n")
    assert [(row["query"], row["image"]) for row in csv.DictReader(io.StringIO(text, newline=""))] == expected
    dataset = json.loads(encode_several(results, "coco"))
    names = {entry["id"]: entry["name"] for entry in dataset["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in dataset["images"]}
    assert [(names[a["category_id"]], files[a["image_id"]]) for a in dataset["annotations"]] == expected
    assert len(files) == len({image for _, image in expected})


@pytest.fixture
def pictures(tmp_path) -> dict[str, GalleryFrame]:
    """A wide picture, one that EXIF turns upright, and one that has gone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "wide.png")
    Image.new("RGB", (64, 32)).save(tmp_path / "turned.jpg", exif=exif)
    return {name: GalleryFrame(tmp_path / name, name) for name in ("wide.png", "turned.jpg", "gone.jpg")}


def test_coco_is_a_dataset_that_readers_take(pictures):
    """The keys are those of cocodataset.org's "Data format" for datasets, and for results."""
    matches = [
        replace(match(rank, name), frame=pictures[name])
        for rank, name in enumerate(["turned.jpg", "wide.png", "turned.jpg", "gone.jpg"], start=1)
    ]
    dataset = json.loads(encode(search_result(matches), "coco"))
    assert {"info", "licenses", "images", "annotations", "categories"} == set(dataset)
    (category,) = dataset["categories"]
    assert (category["id"], category["name"], category["supercategory"]) == (1, "query", "person")
    assert category["query"]["box"] == [10.0, 20.0, 30.5, 70.25]
    sizes = [(image["id"], image["file_name"], image["width"], image["height"]) for image in dataset["images"]]
    assert sizes == [(1, "turned.jpg", 32, 64), (2, "wide.png", 64, 32), (3, "gone.jpg", None, None)]
    assert [a["id"] for a in dataset["annotations"]] == [a["rank"] for a in dataset["annotations"]] == [1, 2, 3, 4]
    assert [a["image_id"] for a in dataset["annotations"]] == [1, 2, 1, 3]
    for annotation in dataset["annotations"]:
        assert annotation["bbox"] == [1.0, 2.0, 10.0, 20.0] and annotation["area"] == 200.0
        assert (annotation["iscrowd"], annotation["category_id"], annotation["score"]) == (0, 1, 0.5)


def test_coco_without_matches_has_its_category():
    dataset = json.loads(encode(search_result(), "coco"))
    assert dataset["images"] == dataset["annotations"] == [] and len(dataset["categories"]) == 1


def test_an_unknown_format_names_those_there_are():
    with pytest.raises(UsageError, match="json, jsonl, csv, coco, got 'xml'"):
        encode(search_result(), "xml")


@given(
    name=st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw).map(os.fsdecode),
    box=st.tuples(*[st.floats(-1e5, 1e5)] * 4),
    score=st.floats(0, 1),
)
def test_any_name_and_number_survive_every_format(name, box, score):
    result = search_result([match(1, name, box, score)])
    document = json.loads(encode(result))["matches"][0]
    assert os.fsencode(document["image"]) == os.fsencode(name)
    assert abs(document["score"] - score) <= 5e-7
    assert np.allclose(document["box"], [box[0], box[1], box[2] - box[0], box[3] - box[1]], rtol=0, atol=0.0051)
    assert json.loads(encode(result, "jsonl")) == document
    text = encode(result, "csv").decode("utf-8", "surrogateescape")
    cell = list(csv.DictReader(io.StringIO(text, newline="")))[0]["image"]
    assert not cell.startswith(FORMULA) and named_by_cell(cell) == name


@pytest.mark.parametrize("count", [0, 2])
def test_detections_are_numbered_from_one(count):
    boxes = np.float32([[1, 2, 4, 8], [0, 0, 10.5, 20]])[:count]
    scores = np.float32([0.99, 0.5])[:count]
    people = Detections(boxes, scores, scores, np.zeros((count, 4), np.float32))
    document = json.loads(json_writer.dump(detections_document(Path("a.jpg"), (480, 640), people)))
    assert document == {
        "schema": "qeeps.detect/1",
        "image": "a.jpg",
        "size": [640, 480],
        "people": [
            {"number": 1, "box": [1.0, 2.0, 3.0, 6.0], "person_score": 0.99},
            {"number": 2, "box": [0.0, 0.0, 10.5, 20.0], "person_score": 0.5},
        ][:count],
    }


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        (None, None, "json"),
        (None, "found", "json"),
        (None, ".csv", "json"),
        (None, "x.JSONL", "jsonl"),
        (None, "x.csv", "csv"),
        (None, "x.coco", "coco"),
        ("csv", None, "csv"),
        ("csv", "found", "csv"),
        ("csv", "x.txt", "csv"),
        ("csv", "x.csv", "csv"),
        ("coco", "x.json", "coco"),
    ],
)
def test_the_format_of_a_file(name, file, expected):
    assert choose_format(name, None if file is None else Path(file)) == expected


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        (None, "x.xml", "x.xml has the ending of no format: expected one of json, jsonl, csv, coco"),
        (None, "x.csv.gz", "x.csv.gz has the ending of no format"),
        ("xml", "x.xml", "--format expects one of json, jsonl, csv, coco, got 'xml'"),
        ("json", "x.csv", "--format json and the ending of --output x.csv contradict each other"),
        ("jsonl", "x.json", "contradict each other"),
        ("json", "x.coco", "contradict each other"),
    ],
)
def test_a_format_that_is_not_certain(name, file, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        choose_format(name, Path(file))
