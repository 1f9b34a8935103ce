"""`qeeps search` and `qeeps detect` as users run them, with a random network, to which anything may be a person."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import FEW, FRAMES, SIZE
from PIL import Image

from qeeps_cli.boxes import iou
from qeeps_cli.errors import ExitCode
from qeeps_cli.gallery import OUTPUT_MARKER

pytest_plugins = ["cli_fixtures", "preloaded"]

BOX = "80,40,40,90"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, frames) -> Path:
    """A folder with gallery/, in which one file is broken."""
    place = tmp_path_factory.mktemp("workplace")
    shutil.copytree(frames, place / "gallery")
    (place / "gallery" / "broken [x].jpg").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def found(workplace, weights, preloaded) -> subprocess.CompletedProcess:
    """A search into out/, of one of the gallery's own frames."""
    query = f"gallery/{FRAMES[0]}"
    arguments = ["--query", query, "--box", BOX, "--gallery", "gallery", "--weights", weights, *FEW]
    return preloaded.run("search", *arguments, "--out", "out", cwd=workplace)


@pytest.fixture(scope="module")
def results(found, workplace) -> dict:
    return json.loads((workplace / "out" / "results.json").read_bytes())


def test_the_results_keep_their_contract(found, results, weights):
    assert results["schema"] == "qeeps.search/1" and results["mode"] == "exact"
    assert results["query"]["image"] == f"gallery/{FRAMES[0]}" and results["query"]["box"] == [80, 40, 40, 90]
    assert results["weights"]["name"] == weights.stem and results["weights"]["digest"].startswith("sha256:")
    assert results["frames_searched"] == 3
    parameters = results["parameters"]
    assert parameters["proposals"] == 20 and parameters["nms"] == 0.4 and parameters["min_person_score"] == 0.2
    assert parameters["top_k"] is None and parameters["gallery"] == ["gallery"] and parameters["device"]


def test_matches_are_ranked_and_inside_their_frames(results):
    matches = results["matches"]
    assert len(matches) > 10
    assert [match["rank"] for match in matches] == list(range(1, len(matches) + 1))
    assert [m["score"] for m in matches] == sorted((m["score"] for m in matches), reverse=True)
    assert {m["image"] for m in matches} == {FRAMES[0], FRAMES[1], f"later/{FRAMES[2]}"}
    for match in matches:
        x, y, w, h = match["box"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= SIZE[0] + 0.01 and y + h <= SIZE[1] + 0.01
        assert 0 <= match["score"] <= 1 and 0.2 <= match["person_score"] <= 1


def test_detections_of_a_frame_do_not_overlap_more_than_nms_allows(results):
    """Loosely: the boxes were pooled again after NMS on the network's own pixels, and rounded."""
    boxes = [m["box"] for m in results["matches"] if m["image"] == FRAMES[1]]
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    overlaps = iou(corners, corners)
    assert len(boxes) > 2 and (overlaps - (overlaps >= 0.999)).max() < 0.5


def test_what_was_skipped_and_what_is_odd_is_told(found, results):
    assert found.returncode == ExitCode.SKIPPED and found.stdout == b""
    assert [item["image"] for item in results["skipped"]] == ["broken [x].jpg"]
    stderr = found.stderr.decode("ascii")  # and so without escape codes, bars or box drawing
    assert "\x1b" not in stderr
    assert "1 input skipped" in stderr and f"broken [x].jpg: {results['skipped'][0]['reason']}" in stderr
    assert "3 frames searched" in stderr and "out/contact_sheet.jpg" in stderr
    best = results["matches"][0]
    assert any(f"{best['score']:.3f}" in line and best["image"] in line for line in stderr.splitlines())
    assert any(FRAMES[0] in note and "--exclude-query" in note for note in results["notes"])
    assert "--exclude-query" in stderr


def test_the_pictures_are_there(found, workplace):
    out = workplace / "out"
    assert {"query.jpg", "contact_sheet.jpg", "annotated", OUTPUT_MARKER} < set(os.listdir(out))
    annotated = [out / "annotated" / name for name in os.listdir(out / "annotated") if name.endswith(".jpg")]
    assert len(annotated) == 3
    for path in [out / "query.jpg", *annotated]:
        with Image.open(path) as image:
            assert image.size == SIZE


def test_again_in_another_order_gives_the_same_bytes(found, workplace, frames, weights, tmp_path, preloaded):
    """The gallery is copied file by file, backwards; the output goes to stdout, quietly."""
    gallery = tmp_path / "gallery"
    files = sorted(path.relative_to(workplace / "gallery") for path in (workplace / "gallery").rglob("*.jpg"))
    for file in reversed(files):
        (gallery / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(workplace / "gallery" / file, gallery / file)
    shutil.copy(weights, tmp_path / weights.name)
    arguments = ["--query", f"gallery/{FRAMES[0]}", "--box", BOX, "--gallery", "gallery", *FEW, "-q"]
    done = preloaded.run("search", *arguments, cwd=tmp_path, QEEPS_WEIGHTS=weights.name)
    assert done.returncode == ExitCode.SKIPPED
    assert done.stdout == (workplace / "out" / "results.json").read_bytes()
    assert done.stderr == b""


def test_person_n_is_what_detect_numbers_n(frames, weights, tmp_path, preloaded):
    image = frames / FRAMES[0]
    common = ["--json", "--min-score", "0.48", "--weights", weights]
    detected = preloaded.run("detect", image, *common, "--out", tmp_path / "new")
    assert detected.returncode == 0, detected.stderr
    document = json.loads(detected.stdout)
    assert document["schema"] == "qeeps.detect/1" and document["size"] == list(SIZE)
    people = document["people"]
    assert len(people) > 2 and [person["number"] for person in people] == list(range(1, len(people) + 1))
    assert all(a["person_score"] >= b["person_score"] >= 0.48 for a, b in zip(people, people[1:], strict=False))
    with Image.open(tmp_path / "new" / f"{FRAMES[0]}.people.jpg") as drawn:
        assert drawn.size == SIZE

    arguments = ["--query", image, "--person", "2", "--gallery", frames, "--weights", weights, *FEW]
    searched = preloaded.run("search", *arguments, "--exclude-query", "--no-recursive", "--top-k", "4")
    assert searched.returncode == 0, searched.stderr
    results = json.loads(searched.stdout)
    assert results["query"]["box"] == people[1]["box"]
    assert results["frames_searched"] == 1 and {m["image"] for m in results["matches"]} == {FRAMES[1]}
    assert len(results["matches"]) == 4 and results["parameters"]["exclude_query"]
    assert any(f"{FRAMES[0]} is the query's own picture and was left out" in note for note in results["notes"])


def test_every_number_that_a_search_takes_is_one_that_detect_shows(frames, weights, preloaded):
    """By the command that a search names for them, without further options."""
    arguments = ["--query", frames / FRAMES[0], "--gallery", frames / FRAMES[1], "--weights", weights, *FEW]
    refused = preloaded.run("search", *arguments, "--person", "999")
    assert refused.returncode == ExitCode.USAGE and refused.stdout == b""
    message = rb"from 1 to (\d+) for .*, got 999\. They are those of `qeeps (.*?)`"
    most, told = (part.decode() for part in re.search(message, refused.stderr).groups())
    people = json.loads(preloaded.run(*shlex.split(told), "--json", "--weights", weights).stdout)["people"]
    assert [person["number"] for person in people] == list(range(1, int(most) + 1))
    assert people[-1]["person_score"] < 0.5, "also those that may be no people"
    found = json.loads(preloaded.run("search", *arguments, "--person", most).stdout)
    assert found["query"]["box"] == people[-1]["box"]
    everybody = preloaded.run("detect", frames / FRAMES[0], "--min-score", "0", "--json", "--weights", weights)
    assert json.loads(everybody.stdout)["people"] == people


def test_a_whole_crop_into_a_closed_pipe(frames, weights, preloaded):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    arguments = ["--query", frames / FRAMES[1], "--gallery", frames / FRAMES[0], "--weights", weights, *FEW]
    done = preloaded.run("search", *arguments, stdout=reader.stdin.fileno())
    assert done.stderr == b"" and done.returncode == ExitCode.SIGPIPE
    reader.stdin.close()


LIST = [
    {"image": FRAMES[0], "box": [80, 40, 40, 90], "id": "a/b"},
    {"image": FRAMES[0], "box": None, "id": "a_b"},
    {"image": FRAMES[1], "person": 1},
]


def test_a_list_of_queries(workplace, weights, preloaded):
    """From standard input, into a folder for each; then the first two by options, to standard output."""
    common = ["--gallery", "gallery", "--weights", weights, *FEW, "--no-cache", "--mode", "exact"]
    lines = "".join(json.dumps({**entry, "image": f"gallery/{entry['image']}"}) + "\n" for entry in LIST)
    given = ["--queries", "-", "--out", "many", *common]
    done = preloaded.run("search", *given, stdin=lines.encode(), cwd=workplace)
    stderr = done.stderr
    assert done.returncode == ExitCode.SKIPPED and done.stdout == b"", stderr
    overview = json.loads((workplace / "many" / "results.json").read_bytes())
    expected = [f"{name}/results.json" for name in ("a_b", "a_b-2", "3")]
    assert [entry["results"] for entry in overview["searches"]] == expected
    assert stderr.count(b"broken [x].jpg") == 1 and b"3 frames searched for 3 queries" in stderr
    for entry in overview["searches"]:
        folder = workplace / "many" / entry["results"].split("/")[0]
        assert {"results.json", "contact_sheet.jpg", "query.jpg", "annotated"} < set(os.listdir(folder))
        assert f"{entry['best']['score']:.3f}" in stderr.decode()

    query = f"gallery/{FRAMES[0]}"
    two = ["--query", query, "--box", BOX, "--query", query, "--box", "200,100,60,180"]
    both = preloaded.run("search", *two, *common, cwd=workplace)
    document = json.loads(both.stdout)
    assert both.returncode == ExitCode.SKIPPED and document["schema"] == "qeeps.searches/1"
    assert [search["id"] for search in document["searches"]] == ["1", "2"]
    first = json.loads((workplace / "many" / "a_b" / "results.json").read_bytes())
    assert document["searches"][0] == {"id": "1", **first}
    assert document["searches"][1]["query"]["box"] == [200, 100, 60, 180]


def test_a_mistake_in_a_list_names_its_line(frames, tmp_path, preloaded):
    (tmp_path / "list.jsonl").write_text('{"image": "%s"}\n{"image": "absent.jpg"}\n' % (frames / FRAMES[0]))
    given = ["--queries", tmp_path / "list.jsonl", "--gallery", frames, "--weights", "absent"]
    done = preloaded.run("search", *given)
    assert done.returncode == ExitCode.USAGE and done.stdout == b""
    assert f"{tmp_path / 'list.jsonl'}, line 2: {tmp_path / 'absent.jpg'}: cannot be read" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected --query IMAGE, or a list of queries"),
        (("--queries", "absent"), "--queries absent cannot be read"),
        (("--queries", "absent", "--query", FRAMES[0]), "either --queries or --query"),
        (("--query", FRAMES[0], "--query", FRAMES[1], "--box", "1,2,3,4"), "one value for each --query, got 1 for 2"),
        (("--query", FRAMES[0], "--mode", "fast"), "--mode expects one of exact, cached, cascade, auto, got 'fast'"),
        (("--query", FRAMES[0], "--shortlist", "0%"), "--shortlist expects"),
        (("--query", FRAMES[0], "--mode", "cached", "--shortlist", "5"), "--shortlist belongs to --mode cascade"),
        (("--query", FRAMES[0], "--no-cache", "--refresh"), "--no-cache leaves nothing"),
    ],
)
def test_mistakes_in_how_to_search(frames, arguments, told, preloaded):
    done = preloaded.run("search", "--gallery", ".", "--weights", "absent", *arguments, cwd=frames)
    assert done.returncode == ExitCode.USAGE and told in done.stderr.decode() and done.stdout == b""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--box", ""), "four numbers"),
        (("--box", "1,2,3"), "four numbers"),
        (("--box", "1,2,3,x"), "four numbers"),
        (("--box", "nan,2,3,4"), "finite"),
        (("--box", "1,2,0,4"), "positive"),
        (("--box", "400,10,20,20"), "384 pixels wide and 288 high"),
        (("--box", "1,2,30,40", "--person", "1"), "either --box or --person"),
        (("--person", "0"), "a number from 1 as `qeeps detect` gives them, got 0"),
        (("--top-k", "0"), "--top-k"),
        (("--nms", "1.5"), "--nms"),
        (("--query", "absent.jpg"), "absent.jpg"),
        (("--gallery", "absent"), "absent"),
        (("--out", "new.csv"), "new.csv is named as a file. Use -o"),
        (("--out", "new.csv", "--format", "csv"), "new.csv is named as a file. Use -o"),
    ],
)
def test_mistakes_show_before_weights_are_looked_for(frames, arguments, told, preloaded):
    given = ["--query", FRAMES[0], "--gallery", ".", "--weights", "absent", *arguments]
    done = preloaded.run("search", *given, cwd=frames)
    assert done.returncode == ExitCode.USAGE and told in done.stderr.decode() and done.stdout == b""


def test_the_output_is_checked_before_weights_are_looked_for(frames, tmp_path, preloaded):
    (tmp_path / "mine.txt").write_text("mine")
    given = ["--query", frames / FRAMES[0], "--gallery", frames, "--weights", "absent"]
    done = preloaded.run("search", *given, "--out", tmp_path)
    assert done.returncode == ExitCode.OUTPUT and b"--overwrite" in done.stderr
    assert os.listdir(tmp_path) == ["mine.txt"]
    (tmp_path / "old.csv").mkdir()  # a folder all the same: only the weights are missing
    assert preloaded.run("search", *given, "--out", tmp_path / "old.csv").returncode == ExitCode.WEIGHTS
    long = preloaded.run("search", *given, "--out", tmp_path / ("x" * 300 + ".csv"))
    assert long.returncode == ExitCode.USAGE and b"is named as a file" in long.stderr


def test_an_empty_gallery(frames, tmp_path, preloaded):
    done = preloaded.run("search", "--query", frames / FRAMES[0], "--gallery", tmp_path, "--weights", "absent")
    assert done.returncode == ExitCode.NOTHING and str(tmp_path) in done.stderr.decode()


@pytest.mark.parametrize(
    ("out", "code"),
    [("picture.jpg", ExitCode.OUTPUT), ("other.jpg", ExitCode.OUTPUT), ("people.png", ExitCode.USAGE)],
)
def test_detect_overwrites_nothing(frames, tmp_path, out, code, preloaded):
    shutil.copy(frames / FRAMES[0], tmp_path / "picture.jpg")
    (tmp_path / "other.jpg").write_bytes(b"mine")
    done = preloaded.run("detect", "picture.jpg", "--out", out, "--weights", "absent", cwd=tmp_path)
    assert done.returncode == code and out in done.stderr.decode()
    assert (tmp_path / "picture.jpg").read_bytes() == (frames / FRAMES[0]).read_bytes()
    assert (tmp_path / "other.jpg").read_bytes() == b"mine"


def test_detect_prints_a_table(frames, weights, capsysbinary):
    from qeeps_cli.cli.detect import detect

    detect(frames / FRAMES[0], min_score=0.4, weights=str(weights), device="cpu", quiet=True)
    head, *rows = capsysbinary.readouterr().out.decode("ascii").splitlines()
    assert head.split() == ["number", "person", "x,y,w,h"]
    assert rows and [row.split()[0] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
    assert all(len(row.split()[2].split(",")) == 4 for row in rows)
