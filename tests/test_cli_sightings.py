"""`qeeps search --sightings` from the command line, with a random network on small frames."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from command_line import FEW
from json_contract import check_search, check_sighting, parse
from PIL import ExifTags, Image

from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures"]

NUMBERS = (0, 50, 100, 450, 500)  # of the example's frames
ALL = ("--sighting-score", "0")  # random weights score anything


@pytest.fixture(scope="module")
def place(tmp_path_factory, examples) -> Path:
    """frames/ with five frames of the CCTV example, and dated/ with three of them, of which two say when."""
    from cli_fixtures import shrink

    place = tmp_path_factory.mktemp("sightings")
    for number in NUMBERS:
        name = f"vtest_{number:04}.jpg"
        shrink(examples / "cctv" / "frames" / name, place / "frames" / name)
    for number, seconds in zip(NUMBERS, (58, 59, None), strict=False):
        frame = place / "dated" / "gate" / f"{9 - number // 50}.jpg"  # names in the other order
        frame.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(place / "frames" / f"vtest_{number:04}.jpg") as image:
            exif = Image.Exif()
            if seconds is not None:
                exif[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: f"2024:05:03 23:59:{seconds}"}
            image.save(frame, exif=exif)
    shutil.copy(place / "frames" / "vtest_0000.jpg", place / "q.jpg")
    return place


@pytest.fixture
def search(place, weights, monkeypatch, capsysbinary):
    """Runs a search inside this process: its exit code, stdout and stderr."""
    from qeeps_cli.cli.app import app

    monkeypatch.chdir(place)
    common = ["search", "--weights", str(weights), "--device", "cpu", *FEW, "--cache", "cache"]

    def search(*more, gallery="frames", query=("--query", "q.jpg", "--box", "80,40,40,90")):
        code = app([*common, *query, "--gallery", gallery, *map(str, more)], prog_name="qeeps", standalone_mode=False)
        stdout, stderr = capsysbinary.readouterr()
        return code, stdout, stderr.decode()

    return search


def spans(document: dict) -> list[tuple]:
    return [(one["camera"], one["first"], one["last"], one["frames"]) for one in document["sightings"]]


def test_nothing_changes_for_those_who_do_not_ask(search):
    plain, grouped = parse(search()[1]), parse(search("--sightings", *ALL)[1])
    assert "sightings" not in check_search(plain)
    del grouped["sightings"], grouped["parameters"]["sightings"]
    assert {**grouped, "notes": []} == {**plain, "notes": []}


@pytest.mark.parametrize(
    ("pattern", "gap", "expected"),
    [
        (None, 10, [("frames/", 1, 5, 5)]),
        ("vtest_{frame}", 100, [("frames/", 0, 100, 3), ("frames/", 450, 500, 2)]),
        ("{camera}_{frame/10}", 10, [("vtest", 0.0, 10.0, 3), ("vtest", 45.0, 50.0, 2)]),
        ("*_{frame/10}", 4.9, [("frames/", number / 10, number / 10, 1) for number in NUMBERS]),
    ],
)
def test_the_example_grouped_by_names(search, pattern, gap, expected):
    names = ("--time-pattern", pattern) if pattern else ()
    code, stdout, _ = search("--sightings", *ALL, *names, "--sighting-gap", gap)
    document = check_search(parse(stdout))
    assert code == 0 and spans(document) == expected


def test_exif_data_says_when(search):
    _, stdout, stderr = search("--sightings", *ALL, gallery="dated")
    document = check_search(parse(stdout))
    assert spans(document) == [("gate", "2024-05-03T23:59:58", "2024-05-03T23:59:59", 2), ("gate", 1, 1, 1)]
    assert document["sightings"][0]["ranks"] != [] and document["sightings"][1]["clock"] == "order"
    assert "seen by 1 camera in 2 sightings: frames of score 0 or more, at most 10 s or frames apart" in stderr
    assert "2024-05-03 23:59:58  2024-05-03 23:59:59" in stderr
    assert "note: the time of 1 of 3 frames with sightings is not known" in stderr


def test_the_threshold_is_that_of_calibrated_scores(search):
    document = check_search(parse(search("--sightings")[1]))
    assert document["parameters"]["sightings"] == {"gap": 10.0, "score": 0.5, "time_pattern": None}
    best = {}
    for match in document["matches"]:
        best.setdefault(match["image"], match["score"])
    sighted = sum(one["frames"] for one in document["sightings"])
    assert sighted == sum(score >= 0.5 for score in best.values())
    _, stdout, stderr = search("--sightings", "--sighting-score", "1.5")
    assert parse(stdout)["sightings"] == [] and "no sightings: frames of score 1.5 or more" in stderr


def test_lines_are_sightings_also_in_a_pipe(search):
    given = ("--sightings", *ALL, "--time-pattern", "{camera}_{frame/10}", "-q")
    sightings = parse(search(*given)[1])["sightings"]
    code, lines, stderr = search(*given, "--format", "jsonl")
    assert code == 0 and stderr == "" and [check_sighting(parse(line)) for line in lines.splitlines()] == sightings
    rows = list(csv.DictReader(io.StringIO(search(*given, "--format", "csv")[1].decode())))
    assert [(row["camera"], float(row["first"]), int(row["rank"])) for row in rows] == [
        (one["camera"], one["first"], one["best"]["rank"]) for one in sightings
    ]


def test_several_people_and_a_folder(search, place):
    people = [{"image": "q.jpg", "box": [80, 40, 40, 90], "id": "a"}, {"image": "q.jpg", "id": "b"}]
    (place / "people.jsonl").write_text("\n".join(map(json.dumps, people)))
    given = ("--sightings", *ALL, "--time-pattern", "{camera}_{frame/10}", "--out", "out", "--no-annotate")
    code, _, stderr = search(*given, query=("--queries", "people.jsonl"))
    assert code == 0 and "query  sightings  score" in stderr
    for id in "ab":
        rows = (place / "out" / id / "sightings.csv").read_text().splitlines()
        assert len(rows) == 3 and rows[1].startswith('"vtest","start",0.0,10.0,10.0,3,')
    assert (place / "out" / "report.html").read_text().count('<section class="timeline"') == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--sighting-gap", "5"), "are of sightings: add --sightings"),
        (("--time-pattern", "{camera}"), "add --sightings"),
        (("--sightings", "--sighting-gap", "-1"), "--sighting-gap expects seconds or frames, 0 or more, got -1.0"),
        (("--sightings", "--sighting-score", "nan"), "--sighting-score expects a finite number"),
        (("--sightings", "--time-pattern", "%H%M"), "without year, month and day"),
        (("--sightings", "--time-pattern", "cam_{frame}"), "fits none of 5 names, of which the first is 'vtest_0"),
        (("--sightings", "--format", "coco"), "coco cannot hold them"),
        (("--sightings", "-o", "x.coco"), "coco cannot hold them"),
    ],
)
def test_mistakes_show_before_the_network_is_loaded(search, given, told):
    code, stdout, stderr = search(*given, "--weights", "absent")
    assert code == ExitCode.USAGE and told in stderr and stdout == b""
