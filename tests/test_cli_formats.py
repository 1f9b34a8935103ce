"""The formats and places of `qeeps search`'s results: pipes, full devices, signals, terminals.

A random network and small frames. What is no matter of the process runs inside this one, so that torch is loaded once.
"""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import FEW, FRAMES, environment
from networks import small_network

from qeeps_cli.errors import ExitCode
from qeeps_cli.gallery import list_gallery
from qeeps_cli.weights import save_checkpoint

pytest_plugins = ["cli_fixtures", "preloaded"]

BOX = ["--box", "80,40,40,90"]
NOT_UTF8 = os.fsdecode(b"=\xe9.jpg")
MANY = 40  # frames, so that a search takes long enough to be interrupted
PEOPLE = {"red, coat": [80, 40, 40, 90], "2": [200, 100, 60, 180]}


@pytest.fixture(scope="module")
def place(tmp_path_factory, frames) -> Path:
    """gallery/ with three frames, of which one has a name that is no UTF-8; many/ with forty; a cache for each."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(frames, place / "gallery")
    os.rename(place / "gallery" / FRAMES[1], place / "gallery" / NOT_UTF8)
    (place / "many").mkdir()
    for number in range(MANY):  # a few bytes behind the picture, which no decoder reads, make another digest
        data = (frames / FRAMES[0]).read_bytes() + b"%d" % number
        (place / "many" / f"{number}.jpg").write_bytes(data)
    lines = (json.dumps({"image": f"gallery/{FRAMES[0]}", "box": box, "id": id}) for id, box in PEOPLE.items())
    (place / "people.jsonl").write_text("\n".join(lines))
    return place


@pytest.fixture
def arguments(weights):
    """Of a search of gallery/ for one person, unless told otherwise."""

    def arguments(*more, gallery="gallery", query=("--query", f"gallery/{FRAMES[0]}", *BOX), mode="exact"):
        common = ["--gallery", gallery, "--weights", weights, "--device", "cpu", *FEW, "--mode", mode]
        short = ["--shortlist", "1"] if mode == "cascade" else []
        return ["search", *query, *common, *short, "--cache", f"{gallery}.qeeps", *more]

    return arguments


@pytest.fixture
def search(place, arguments, monkeypatch, capsysbinary):
    """Runs a search inside this process: its exit code, stdout and stderr."""
    from qeeps_cli.cli.app import app

    monkeypatch.chdir(place)

    def search(*more, **changes):
        code = app(list(map(str, arguments(*more, **changes))), prog_name="qeeps", standalone_mode=False)
        return code, *capsysbinary.readouterr()

    return search


@pytest.fixture
def document(search) -> dict:
    code, stdout, stderr = search("-q")
    assert code == 0 and stderr == b""
    return json.loads(stdout)


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))


def lines_of(data: bytes) -> list[dict]:
    """Of JSONL that is whole lines."""
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def unranked(matches: list[dict]) -> list[dict]:
    return sorted(({key: match[key] for key in match if key != "rank"} for match in matches), key=json.dumps)


# What the formats hold


@pytest.mark.parametrize("mode", ["exact", "cached", "cascade"])
def test_jsonl_holds_every_match_with_its_final_score(search, place, mode):
    _, flowing, _ = search("--format", "jsonl", "-v", mode=mode)
    _, ranked, _ = search("-o", "-", mode=mode)
    lines, matches = lines_of(flowing), json.loads(ranked)["matches"]
    assert len(lines) > 10 and all(set(line) == {"image", "box", "score", "person_score"} for line in lines)
    assert sorted(lines, key=json.dumps) == unranked(matches)
    frames = list(dict.fromkeys(line["image"] for line in lines))
    if mode == "exact":
        assert frames == [frame.name for frame in list_gallery(place / "gallery")]
        groups = [[line["score"] for line in lines if line["image"] == frame] for frame in frames]
    else:  # those compared exactly first: one frame in the cascade
        exact = frames[:1] if mode == "cascade" else []
        groups = [[line["score"] for line in lines if (line["image"] in exact) == first] for first in (True, False)]
    assert all(scores == sorted(scores, reverse=True) for scores in groups)


def test_jsonl_is_ranked_with_top_k(search, document):
    code, stdout, stderr = search("--format", "jsonl", "--top-k", "4", "-q")
    assert code == 0 and stderr == b"" and lines_of(stdout) == document["matches"][:4]


def test_a_file_and_a_folder_and_crops_in_one_run(search, place, document):
    given = ("--out", "results", "-o", "matches.csv", "--top-k", "5")
    code, stdout, stderr = search(*given, "--crops")
    assert code == 0 and stdout == b""
    rows = rows_of((place / "matches.csv").read_bytes())
    assert [row["image"].removeprefix("./") for row in rows] == [m["image"] for m in document["matches"][:5]]
    assert [float(row["score"]) for row in rows] == [m["score"] for m in document["matches"][:5]]
    results = json.loads((place / "results" / "results.json").read_bytes())
    assert all((place / "results" / match["crop"]).is_file() for match in results["matches"])
    assert b"matches.csv" in stderr and b"results/crops/ (5 matches cut out)" in stderr
    code, _, stderr = search(*given)
    assert code == ExitCode.OUTPUT and b"matches.csv exists. Use --overwrite" in stderr


def test_several_queries_in_one_table(search):
    query = ("--queries", "people.jsonl")
    rows = rows_of(search("--format", "csv", query=query)[1])
    assert {row["query"] for row in rows} == set(PEOPLE)
    for id in PEOPLE:
        assert [row["rank"] for row in rows if row["query"] == id][:3] == ["1", "2", "3"]
    lines = lines_of(search("--format", "jsonl", query=query)[1])
    table = sorted((row["query"], row["image"].removeprefix("./"), float(row["score"])) for row in rows)
    assert sorted((line["query"], line["image"], line["score"]) for line in lines) == table
    order = list(dict.fromkeys((line["image"], line["query"]) for line in lines))
    assert [id for _, id in order[:2]] == list(PEOPLE), "frame by frame, for both"


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "coco"])
def test_nobody_passes(search, document, format):
    code, stdout, stderr = search("--format", format, "--min-score", "1")
    best = document["best_score"]
    assert code == 0 and f"not found in 3 frames; the best candidate scored {best:.2f}" in stderr.decode()
    if format == "json":
        found = json.loads(stdout)
        assert found["matches"] == [] and found["best_score"] == best == document["matches"][0]["score"]
    elif format == "coco":
        assert json.loads(stdout)["annotations"] == []
    else:
        assert stdout == (b"" if format == "jsonl" else b"rank,image,x,y,w,h,score,person_score\n")


@pytest.mark.parametrize("mode", ["cached", "cascade"])
def test_the_best_candidate_is_that_of_all_frames_in_every_mode(search, mode):
    everybody, nobody = (json.loads(search("--min-score", score, mode=mode)[1]) for score in ("0", "1"))
    assert nobody["matches"] == [] and nobody["best_score"] == everybody["matches"][0]["score"]
    assert everybody["best_score"] == nobody["best_score"]


@pytest.mark.parametrize("verbosity", ["-q", "-v", "--no-progress"])
def test_stdout_parses_at_every_verbosity(search, document, verbosity, monkeypatch):
    """Row 40."""
    code, stdout, stderr = search(verbosity)
    assert code == 0 and json.loads(stdout) == document and b"\x1b" not in stderr


# Mistakes show before the network is loaded


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (("--format", "xml"), ExitCode.USAGE, "--format expects one of json, jsonl, csv, coco, got 'xml'"),
        (("--format", "csv", "--out", "new"), ExitCode.USAGE, "add -o FILE, or -o -"),
        (("-o", "x.xml"), ExitCode.USAGE, "x.xml has the ending of no format: expected one of json, jsonl, csv, coco"),
        (("-o", "x.csv", "--format", "json"), ExitCode.USAGE, "--format json and the ending of --output x.csv"),
        (("--min-score", "1.5"), ExitCode.USAGE, "--min-score expects a number from 0 to 1, which is what scores are"),
        (("--min-score", "-1.5"), ExitCode.USAGE, "got -1.5"),
        (("--min-score", "nan"), ExitCode.USAGE, "got nan"),
        (("--crops",), ExitCode.USAGE, "--crops writes into the folder of --out"),
        (("--out", "new", "-o", "new/results.json"), ExitCode.USAGE, "is a file that --out writes itself"),
        (("-o", "absent/x.csv"), ExitCode.OUTPUT, "absent/x.csv: there is no folder absent. Make it"),
        (("-o", "gallery"), ExitCode.OUTPUT, "gallery is a folder"),
        (("-o", f"gallery/{FRAMES[0]}", "--format", "csv"), ExitCode.OUTPUT, "exists. Use --overwrite"),
    ],
)
def test_mistakes(search, place, given, code, told):
    before = sorted(os.listdir(place))
    got, stdout, stderr = search(*given, "--weights", "absent")
    assert got == code and told in stderr.decode() and stdout == b""
    assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_probabilities_are_not_negative(search, place, more):
    before = sorted(os.listdir(place))
    code, stdout, stderr = search("--min-score", "-0.5", "--out", "absent", *more)
    assert code == ExitCode.USAGE and "got -0.5: the scores of these weights are prob" in stderr.decode()
    assert stdout == b"" and sorted(os.listdir(place)) == before


def test_cosines_may_be(search, tmp_path):
    """Of a network without QSimNet."""
    network = small_network("oim", shorter_side=128, longest_side=192)
    save_checkpoint(tmp_path / "cosines.safetensors", network, {})
    everybody = ("--min-objectness", "0", "--min-person-score", "0")
    given = ("--weights", tmp_path / "cosines.safetensors", "--no-cache", "-q", *everybody, "--min-score")
    code, stdout, _ = search(*given, "-1")
    scores = [match["score"] for match in json.loads(stdout)["matches"]]
    assert code == 0 and len(scores) > 10
    gap, place = max((scores[i - 1] - scores[i], i) for i in range(1, len(scores)))
    _, stdout, _ = search(*given, str(scores[place] + gap / 2))
    assert [match["score"] for match in json.loads(stdout)["matches"]] == scores[:place]


# Pipes and devices: rows 37, 38


@contextmanager
def flowing(preloaded, place: Path, *arguments) -> Iterator[tuple]:
    """A search in `place`, and its stdout to be read as it comes."""
    reader, writer = os.pipe()
    process = preloaded.begin(*arguments, stdout=writer, cwd=place)
    os.close(writer)
    with open(reader, "rb") as stdout:
        yield process, stdout


def test_a_reader_that_takes_one_line(place, arguments, preloaded):
    """Row 37: `| head -1`."""
    with flowing(preloaded, place, *arguments("--format", "jsonl", gallery="many")) as (process, stdout):
        assert json.loads(stdout.readline())["image"] == "0.jpg"
    done = process.finish()
    assert done.stderr == b"" and done.returncode == ExitCode.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this system")
@pytest.mark.parametrize("given", [("--format", "jsonl"), ("-o", "/dev/full")])
def test_a_full_device(place, arguments, preloaded, given):
    """Row 38."""
    with open(os.devnull if "-o" in given else "/dev/full", "wb") as stdout:
        done = preloaded.run(*arguments(*given, "-q"), cwd=place, stdout=stdout.fileno())
    stderr = done.stderr.decode()
    assert done.returncode == ExitCode.OUTPUT
    assert "No space left on device" in stderr and stderr.count("\n") == 1


def test_closed_standard_output_shows_before_the_network_is_loaded(place):
    given = ["search", "--query", f"gallery/{FRAMES[0]}", "--gallery", "gallery", "--weights", "absent"]
    command = [sys.executable, "-m", "qeeps_cli", *given]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closed, cwd=place, env=environment(), capture_output=True)
    assert done.returncode == ExitCode.OUTPUT and b"standard output is closed" in done.stderr


# Signals: rows 42, 44, 45


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_search_gives_valid_lines_and_says_how_to_go_on(
    place, arguments, search, preloaded, sent, code
):
    """Rows 42, 44; and what was computed is found again."""
    shutil.rmtree(place / "many.qeeps", ignore_errors=True)
    with flowing(preloaded, place, *arguments("--format", "jsonl", gallery="many")) as (process, stdout):
        written = stdout.readline()
        os.kill(process.pid, sent)
        written += stdout.read()
    done = process.finish()
    assert done.returncode == code
    lines, stderr = lines_of(written), done.stderr
    assert 0 < len({line["image"] for line in lines}) < MANY
    assert b"the same command goes on from there" in stderr and b"Traceback" not in stderr
    assert stderr.splitlines()[-1] == (b"interrupted" if sent == signal.SIGINT else b"terminated")
    _, again, stderr = search("--format", "jsonl", gallery="many")
    assert again.startswith(written)
    assert f"{MANY} pairs computed" not in stderr.decode() and "from the cache" in stderr.decode()


def test_an_interrupted_file_leaves_the_old_one(place, arguments, preloaded):
    """Row 45."""
    shutil.rmtree(place / "many.qeeps", ignore_errors=True)
    (place / "old").mkdir()
    (place / "old" / "found.jsonl").write_bytes(b"old\n")
    process = preloaded.begin(*arguments("-o", "old/found.jsonl", "--overwrite", gallery="many"), cwd=place)
    deadline = time.monotonic() + 100
    while not any(name.endswith(".tmp") and size for name, size in sizes(place / "old").items()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.finish().returncode == 130
    assert sizes(place / "old") == {"found.jsonl": 4}


def sizes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
