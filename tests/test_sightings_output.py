"""Sightings in JSON, JSONL and CSV, in a folder, and as the timeline of a report."""

import copy
import csv
import io
import json
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_contract import check_search, check_sighting, parse
from PIL import Image
from sighting_samples import PATTERN, dated, frame, result_of

from qeeps_cli.errors import UsageError
from qeeps_cli.output.folder import write_folder
from qeeps_cli.output.json_writer import dump, search_document
from qeeps_cli.output.report import report_of_results
from qeeps_cli.output.report_timeline import Scale
from qeeps_cli.output.searches import SearchesFolder
from qeeps_cli.output.writers import check_format, encode_result, get_writer
from qeeps_cli.sightings.of_result import SightingRules, with_sightings
from qeeps_cli.types import GalleryFrame, SearchResult

WEIGHTS = {"name": "tiny", "digest": f"sha256:{'0' * 64}"}
NOT_UTF8 = os.fsdecode(b"caf\xe9")
SECONDS = [0, 8, 12, 40]


def with_times(frames, pattern: str | None = PATTERN, **options) -> SearchResult:
    result = result_of(frames, **options)
    rules = SightingRules(time_pattern=pattern)
    return with_sightings(result, rules, rules.timetable(result.frames))


def several_clocks() -> SearchResult:
    """Dates of two cameras, of which one has a name that is no UTF-8, a video, and a frame without a time."""
    dates = [dated(camera, seconds) for camera in ("=gate", NOT_UTF8) for seconds in SECONDS]
    return with_times([*dates, frame("yard.mp4", 0.04), frame("yard.mp4", 7.5), frame("yard/old.jpg")])


def encode(result: SearchResult, name: str) -> bytes:
    return encode_result(name, result, WEIGHTS, "exact")


@pytest.mark.parametrize("frames", [[], [dated("a", 0)], [dated("a", second) for second in range(0, 3000, 3)]])
def test_json_keeps_its_contract(frames):
    document = parse(encode(with_times(frames), "json"))
    assert len(check_search(document)["sightings"]) == min(len(frames), 1)


def test_a_search_without_sightings_has_none():
    document = parse(encode(result_of([dated("a", 0)]), "json"))
    assert "sightings" not in document and "sightings" not in document["parameters"]


def test_what_a_sighting_says():
    document = parse(encode(several_clocks(), "json"))
    for sighting in document["sightings"]:
        check_sighting(sighting)
    shown = [(*list(one.values())[:6], one["ranks"]) for one in document["sightings"]]
    first, last, alone = "2024-05-03T23:59:50", "2024-05-04T00:00:02", "2024-05-04T00:00:30"
    assert shown == [
        ("=gate", "date", first, last, 12.0, 3, [1, 2, 3]),
        (NOT_UTF8, "date", first, last, 12.0, 3, [5, 6, 7]),
        ("=gate", "date", alone, alone, 0.0, 1, [4]),
        (NOT_UTF8, "date", alone, alone, 0.0, 1, [8]),
        ("yard.mp4", "start", 0.04, 7.5, 7.46, 2, [9, 10]),
        ("yard", "order", 1, 1, None, 1, [11]),
    ]
    best = document["sightings"][0]["best"]
    assert best == {"rank": 1, "image": dated("=gate", 0).name, "box": [1.0, 2.0, 10.0, 20.0], "score": 0.9}
    assert document["parameters"]["sightings"] == {"gap": 10.0, "score": 0.5, "time_pattern": PATTERN}


def test_a_line_is_a_sighting():
    result = several_clocks()
    sightings = parse(encode(result, "json"))["sightings"]
    assert list(map(parse, encode(result, "jsonl").splitlines())) == sightings
    text = encode(result, "csv").decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["camera"] for row in rows] == ["./=gate", NOT_UTF8, "./=gate", NOT_UTF8, "yard.mp4", "yard"]
    for row, sighting in zip(rows, sightings, strict=True):
        assert [row[key] for key in ("first", "last", "frames")] == [
            str(sighting[key]) for key in ("first", "last", "frames")
        ]
        assert row["seconds"] == ("" if sighting["seconds"] is None else str(sighting["seconds"]))
        assert [float(row[key]) for key in ("x", "y", "w", "h", "score")] == [*sighting["best"]["box"], 0.9]
    assert encode(with_times([]), "csv").decode().splitlines() == [",".join(rows[0])]
    assert encode(with_times([]), "jsonl") == b""


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_a_line_says_whose_sighting_it_is(name):
    writer = get_writer(name, WEIGHTS, "exact", several=True, sightings=True)
    for id in ("red, coat", "2"):
        writer.take(id, with_times([dated("a", 0)]))
    data = writer.finish().decode()
    lines = list(csv.DictReader(io.StringIO(data))) if name == "csv" else list(map(json.loads, data.splitlines()))
    assert [line["query"] for line in lines] == ["red, coat", "2"] and all(line["camera"] == "a" for line in lines)


def test_coco_has_no_place_for_sightings():
    check_format("coco")
    with pytest.raises(UsageError, match="--sightings expects a format of json, jsonl, csv; coco cannot hold them"):
        check_format("coco", sightings=True)


# Folders and the report


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The pictures of `located`: q.png, and gallery/ with a camera each for a and b."""
    folder = tmp_path_factory.mktemp("sightings")
    Image.new("RGB", (80, 60), "teal").save(folder / "q.png")
    for camera in "ab":
        (folder / "gallery" / camera).mkdir(parents=True)
        for seconds in SECONDS:
            Image.new("RGB", (60, 40), "olive").save(folder / "gallery" / dated(camera, seconds).name)
    return folder


def located(folder: Path, cameras: str = "ab") -> SearchResult:
    """In files that are there."""
    names = [dated(camera, seconds).name for camera in cameras for seconds in SECONDS]
    frames = [GalleryFrame(folder / "gallery" / name, name) for name in names]
    result = with_times(frames, parameters={"gallery": [str(folder / "gallery")], "top_k": None})
    return replace(result, query=replace(result.query, image=folder / "q.png", digest=""))


@pytest.fixture(scope="module")
def document(folder) -> dict:
    return search_document(located(folder), WEIGHTS, "exact")


def page(document: dict, **options) -> str:
    return report_of_results(dump(document), "results.json", lambda name: b"", **options).html.decode()


def test_a_folder_gets_a_table_and_a_timeline(tmp_path, folder, document):
    written = write_folder(tmp_path / "out", located(folder), WEIGHTS, "exact")
    assert written.sightings.read_bytes() == encode(located(folder), "csv")
    assert parse(written.results.read_bytes()) == document
    assert written.report.read_text() == page(document)
    again = replace(located(folder), sightings=None)
    assert write_folder(tmp_path / "out", again, WEIGHTS, "exact").sightings is None
    assert not written.sightings.exists()
    assert '<section class="timeline"' not in written.report.read_text()


def test_the_overview_counts_sightings(tmp_path, folder):
    searches = SearchesFolder(tmp_path, ["one", "none"])
    searches.write(located(folder), WEIGHTS, "exact")
    searches.write(located(folder, ""), WEIGHTS, "exact")
    entries = parse(searches.finish(WEIGHTS, "exact").read_bytes())["searches"]
    assert [entry["sightings"] for entry in entries] == [4, 0]
    html = (tmp_path / "report.html").read_text()
    assert "Seen by 2 cameras in 4 sightings" in html and "No sightings: frames of score 0.5 or more" in html
    assert 'href="#m1-5" data-sighting="1"' in html


def test_a_lane_for_each_camera_and_a_bar_for_each_sighting(document):
    html = page(document)
    assert re.findall(r'class="camera" title="(\w+)"', html) == ["a", "b"]
    assert re.findall(r'href="#m1-(\d)" data-sighting="(\d)"', html) == [("1", "0"), ("4", "2"), ("5", "1"), ("8", "3")]
    assert 'aria-label="a, 2024-05-03 23:59:50 to 2024-05-04 00:00:02, 3 frames, score 0.900"' in html
    assert "Seen by 2 cameras in 4 sightings: frames of score 0.5 or more, at most 10 s apart" in html
    assert re.findall(r'<text class="tick"[^>]*>([^<]*)', html) == [
        *("23:59:50", "2024-05-03", "00:00:00", "2024-05-04", "00:00:10", "00:00:20", "00:00:30")
    ]
    assert "style=" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.DOTALL)


def test_the_best_of_each_sighting_is_in_the_page(document):
    assert re.findall(r'class="card" id="m1-(\d)"', page(document, matches=4)) == ["1", "4", "5", "8"]


def test_the_timeline_is_bounded_and_says_so():
    many = with_times([dated("a", 11 * place) for place in range(400)])
    html = page(search_document(many, WEIGHTS, "exact"), matches=1)
    assert html.count('class="sighting"') == 300 and "Seen by 1 camera in 400 sightings" in html
    assert "Of 400 sightings, it shows 300 in the timelines" in html


@pytest.mark.parametrize("clock", ["date", "start", "number", "order"])
@pytest.mark.parametrize("span", [0, 1, 40, 400_000, 6_000_000, 59_000_000, 7_200_000_000, 4 * 86_400_000_000, 10**15])
def test_scales_have_a_few_round_marks(clock, span):
    first = 1_714_737_601_000_000 if clock == "date" else 3
    scale = Scale(clock, first, first + span)
    ticks = scale.ticks()
    assert len(ticks) == 1 if span == 0 else 1 < len(ticks) <= 7
    places = [scale.percent(tick.reading) for tick in ticks]
    assert places == sorted(places) and 0 < places[0] <= places[-1] < 100
    if span >= 2_000_000 or clock in ("number", "order"):
        assert len({(tick.label, tick.day) for tick in ticks}) == len(ticks)


def test_a_day_is_told_where_it_begins():
    day = timedelta(days=1) // timedelta(microseconds=1)
    days = [tick.day for tick in Scale("date", 0, day).ticks()]
    assert days == ["1970-01-01", *[""] * (len(days) - 2), "1970-01-02"]
    assert [tick.label for tick in Scale("date", 0, 3 * day).ticks()][-1] in ("00:00", "1970-01-04")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sightings": {}}, "expects a list under 'sightings', got an object"),
        ({"sightings": [1]}, "sighting 1 of results.json expects text under 'clock', got nothing"),
        ({"parameters": {}}, "expects an object under 'sightings', got nothing"),
        ({"clock": "sundial"}, "expects a clock of date, start, number, order, got 'sundial'"),
        ({"first": 3}, "expects text under 'first', got a whole number"),
        ({"first": "noon"}, "expects dates as ISO 8601, got 'noon'"),
        ({"first": "0001-01-01T00:00:00+14:00"}, "expects dates as ISO 8601"),
        ({"clock": "start", "first": 1e300, "last": 1}, "up to 1e+12"),
        ({"ranks": ["1"]}, "expects the ranks of its matches"),
        ({"best": {"rank": 1}}, "under 'score', got nothing"),
    ],
)
def test_sightings_that_are_none_are_refused(document, changed, message):
    broken = copy.deepcopy(document)
    (broken if changed.keys() <= broken.keys() else broken["sightings"][0]).update(changed)
    with pytest.raises(UsageError, match=re.escape(message)):
        page(broken)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
    | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_sighting_gives_a_page_or_a_clear_error(document, data):
    broken = copy.deepcopy(document) | {"matches": document["matches"][:1]}
    sighting = data.draw(st.sampled_from(broken["sightings"]))
    sighting[data.draw(st.sampled_from(sorted(sighting)))] = data.draw(ANY_JSON)
    sighting["clock"] = data.draw(st.sampled_from(["date", "start", "number", "order"]))
    try:
        page(broken)
    except UsageError:
        pass
