"""`qeeps` on videos: what each command gives, in every format, and what a damaged video costs."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import FEW, SIZE
from docs_samples import make_samples_video
from json_contract import check_match, check_search, parse
from PIL import Image
from video_files import cut, greys, make_video

from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

BOX = ("--box", "80,40,40,90")
MOMENTS = [f"video.mp4@00:00:0{second}.000" for second in range(4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory, frames, weights) -> Path:
    """video.mp4 of four frames, g/ with it and a picture, q.jpg."""
    place = tmp_path_factory.mktemp("place")
    make_samples_video(place / "video.mp4", frames)
    first = sorted(frames.rglob("*.jpg"))[0]
    (place / "g").mkdir()
    shutil.copy(place / "video.mp4", place / "g" / "video.mp4")
    shutil.copy(first, place / "g" / "a.jpg")
    shutil.copy(first, place / "q.jpg")
    return place


@pytest.fixture(scope="module")
def run(preloaded, place, weights):
    def run(command: str, *arguments: str, query=("--query", "q.jpg", *BOX), code: int = ExitCode.OK):
        given = query if command == "search" else ()
        common = ["--weights", weights, "--device", "cpu", *(FEW if command != "detect" else ())]
        done = preloaded.run(command, *given, *common, *arguments, cwd=place)
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def out(run, place) -> Path:
    """Results of a search of video.mp4 and a picture, as a folder."""
    run("search", "--gallery", "g", "--out", "out", "--crops", "--top-k", "12")
    return place / "out"


def test_results_name_the_moment(out):
    document = check_search(parse((out / "results.json").read_bytes()))
    assert document["frames_searched"] == 5 and document["parameters"]["every"] == "1s"
    assert document["notes"][0].startswith("of videos, one frame a second is searched: 4 of 4 frames")
    for match in document["matches"]:
        if match["image"] == "a.jpg":
            assert "video" not in match
        else:
            assert match["image"] == f"video.mp4@{match['time']}" == MOMENTS[match["frame"]]
    assert {"a.jpg"} < {match["image"] for match in document["matches"]} <= {"a.jpg", *MOMENTS}


def test_pictures_of_a_folder_show_the_frames(out):
    """Annotated frames, crops, the sheet and the page, under names that do not collide and can be read."""
    document = json.loads((out / "results.json").read_bytes())
    annotated = {path.name.partition("_")[2] for path in (out / "annotated").glob("*.jpg")}
    images = {match["image"] for match in document["matches"]}
    assert annotated == {"a.jpg" if name == "a.jpg" else f"{name.replace(':', '-')}.jpg" for name in images}
    for path in (out / "annotated").glob("*.jpg"):
        with Image.open(path) as picture:
            assert picture.size == SIZE
    for match in document["matches"]:
        with Image.open(out / match["crop"]) as crop:
            assert np.abs(np.subtract(crop.size, match["box"][2:])).max() <= 2
    assert (out / "contact_sheet.jpg").stat().st_size > 10_000
    assert b"could not be shown" not in (out / "report.html").read_bytes()


def test_a_report_of_results_is_the_page_of_the_search(out, preloaded, place):
    done = preloaded.run("report", "out/results.json", "--out", "again.html", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "again.html").read_bytes() == (out / "report.html").read_bytes()


def test_every_format_names_the_moment(run):
    arguments = ("--gallery", "video.mp4", "--top-k", "5")
    lines = run("search", *arguments, "--format", "jsonl").stdout.splitlines()
    matches = [check_match(json.loads(line)) for line in lines]
    assert len(matches) == 5 and {match["video"] for match in matches} == {"video.mp4"}
    table = list(csv.DictReader(io.StringIO(run("search", *arguments, "--format", "csv").stdout.decode())))
    assert list(table[0]) == ["rank", "image", "x", "y", "w", "h", "score", "person_score", "video", "time", "frame"]
    for row, match in zip(table, matches, strict=True):
        assert [row[key] for key in ("image", "video", "time")] == [match[key] for key in ("image", "video", "time")]
        assert int(row["frame"]) == match["frame"]
    coco = json.loads(run("search", *arguments, "--format", "coco").stdout)
    assert {image["file_name"] for image in coco["images"]} == {match["image"] for match in matches}
    assert all((image["width"], image["height"]) == SIZE and image["video"] == "video.mp4" for image in coco["images"])


def test_a_video_and_pictures_in_one_csv(run):
    text = run("search", "--gallery", "g", "--format", "csv").stdout.decode()
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(text))}
    assert rows["a.jpg"]["video"] == rows["a.jpg"]["frame"] == "" and rows[MOMENTS[1]]["frame"] == "1"


def test_a_moment_is_a_query(run, place):
    """By a box, and by the number that detect gives a person."""
    moment = "video.mp4@00:00:01"
    detected = run("detect", moment, "--json", "--min-score", "0", "--out", "people")
    people = json.loads(detected.stdout)
    assert people["image"] == moment and people["size"] == list(SIZE)
    assert os.listdir(place / "people") and (place / "people" / "video.mp4@00-00-01.people.jpg").exists()
    query = ("--query", moment, "--person", "1")
    found = json.loads(run("search", "--gallery", "video.mp4", "--exclude-query", query=query).stdout)
    assert found["query"]["image"] == moment and found["query"]["box"] == people["people"][0]["box"]
    assert found["frames_searched"] == 3
    assert "video.mp4@00:00:01.000 is the query's own picture and was left out" in " ".join(found["notes"])
    run("search", "--gallery", "g/a.jpg", "--out", "of_moment", query=("--query", moment, *BOX))
    assert (place / "of_moment" / "query.jpg").exists()
    assert b"could not be shown" not in (place / "of_moment" / "report.html").read_bytes()


def test_mistakes(run):
    wrong = [
        (("--gallery", "g", "--every", "1m"), "--every expects"),
        (("--gallery", "g", "--start", "x"), "--start expects hh:mm:ss.mmm"),
        (("--gallery", "g/a.jpg", "--end", "1"), "--start and --end are for videos"),
    ]
    for arguments, told in wrong:
        assert told in run("search", *arguments, code=ExitCode.USAGE).stderr.decode()
    for query, told in (("video.mp4", "name a moment of it"), ("video.mp4@9", "no such moment")):
        done = run("search", "--gallery", "g", query=("--query", query), code=ExitCode.USAGE)
        assert told in done.stderr.decode()


def test_a_dry_run_counts_frames_and_an_index_finds_their_people(run, tmp_path):
    cache = ("--cache", os.fspath(tmp_path / "cache"), "--gallery", "g")
    arguments = (*cache, "--every", "2f", "--start", "0", "--end", "00:03", "--json")
    plan = json.loads(run("index", *arguments, "--dry-run").stdout)
    assert (plan["frames"], plan["frames_to_index"], plan["frames_cached"]) == (3, 3, 0)
    assert (plan["first"], plan["last"]) == ("a.jpg", MOMENTS[2])
    assert (plan["every"], plan["start"], plan["end"]) == ("2f", "0", "00:03")
    summary = json.loads(run("index", *arguments).stdout)
    assert (summary["frames"], summary["computed"], summary["skipped"]) == (3, 3, [])
    plan = json.loads(run("index", *cache, "--json", "--dry-run").stdout)
    assert plan["frames"] == 5 and plan["frames_cached"] in (0, 3), "files of the last two seconds are not trusted"
    done = run("search", *cache, "--mode", "cached")
    assert b"2 frames computed, 3 from the cache" in done.stderr


def test_a_video_that_was_cut_short_is_searched_and_told(run, place):
    cut(make_video(place / "cut" / "cut.mp4", greys(30, SIZE), movflags="faststart"), 0.5)
    (place / "cut" / "text.mp4").write_text("no video")
    done = run("search", "--gallery", "cut", "--every", "5f", code=ExitCode.SKIPPED)
    document = check_search(parse(done.stdout))
    assert document["frames_searched"] >= 2, "two keyframes lie before the cut"
    skipped = {item["image"]: item["reason"] for item in document["skipped"]}
    assert skipped["cut.mp4"].startswith("cut short: ") and " of 30 frames are there; " in skipped["cut.mp4"]
    assert skipped["text.mp4"].startswith("expected a video")
    told = done.stderr.decode("ascii")
    assert "text.mp4: expected a video" in told and "mov,mp4" not in told, "FFmpeg itself says nothing"


def test_many_queries_and_several_galleries(run, place):
    make_video(place / "more" / "video.mp4", greys(11, SIZE))
    query = ("--query", "q.jpg", "--query", "video.mp4@2")
    done = run("search", "--gallery", "video.mp4", "more", "--format", "csv", query=query)
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert {row["query"] for row in rows} == {"1", "2"}
    assert {row["video"] for row in rows} >= {"video.mp4"} and all("@00:00:0" in row["image"] for row in rows)
