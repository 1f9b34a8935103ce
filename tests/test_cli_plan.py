"""Which frames a command looks through, and `--dry-run`."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import FEW, FRAMES, environment, start

from qeeps_cli.cache.files import RACY_NS
from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

QUERY = ("--query", FRAMES[0], "--box", "80,40,40,90")
COMMON = ("--weights", "w.safetensors", "--device", "cpu", *FEW)


class Done(NamedTuple):
    returncode: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def settled(workplace) -> Path:
    """The workplace, with files that are old enough for the cache to know them by their times."""
    time.sleep(RACY_NS / 1e9 + 0.1)
    return workplace


@pytest.fixture
def workplace(frames, weights, tmp_path, monkeypatch) -> Path:
    """The current folder, with the frames in g/ and the weights w.safetensors."""
    shutil.copytree(frames, tmp_path / "g")
    shutil.copy(frames / FRAMES[0], tmp_path)
    shutil.copy(weights, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    for name in ("QEEPS_DEVICE", "QEEPS_CACHE", "QEEPS_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(capsysbinary, monkeypatch):
    """Runs the command line in this process, which has torch loaded already."""
    from qeeps_cli.cli.app import app

    def command(*arguments: str, data: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(SystemExit) as ended:
            app(list(arguments), prog_name="qeeps")
        return Done(ended.value.code, *capsysbinary.readouterr())

    return command


@pytest.fixture
def run(workplace, command):
    """The same with a query for a search, and small weights."""

    def run(name: str, *arguments: str, data: bytes = b"") -> Done:
        return command(name, *(QUERY if name == "search" else ()), *COMMON, *arguments, data=data)

    return run


def images(done) -> list[str]:
    return sorted({match["image"] for match in json.loads(done.stdout)["matches"]})


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


# Lists, patterns, every, limit


def test_a_list_on_standard_input(workplace, run, preloaded):
    """As find writes it, with a missing file, a broken one, and names that are no UTF-8."""
    odd = os.fsdecode(b"g/caf\xe9 [x]\n.jpg")
    shutil.copy(workplace / FRAMES[0], workplace / odd)
    (workplace / "g" / "broken.jpg").write_bytes(b"no picture")
    files = [b"./g/" + FRAMES[1].encode(), os.fsencode(odd), b"g/absent.jpg", b"g/broken.jpg"]
    arguments = ("--files-from", "-", "-0", "--no-cache")
    data = b"\0".join(files) + b"\0"
    done = preloaded.run("search", *QUERY, *COMMON, *arguments, cwd=workplace, stdin=data)
    assert done.returncode == ExitCode.SKIPPED, done.stderr
    document = json.loads(done.stdout)
    assert images(done) == sorted([f"g/{FRAMES[1]}", odd]) and document["frames_searched"] == 2
    assert [item["image"] for item in document["skipped"]] == ["g/absent.jpg", "g/broken.jpg"]
    assert document["parameters"]["files_from"] == "-" and document["parameters"]["gallery"] == []
    assert b"g/absent.jpg: cannot be read: No such file" in done.stderr and b"2 inputs skipped" in done.stderr

    reverse = b"\0".join(reversed(files))
    again = run("search", *arguments, data=reverse)
    assert again.stdout == done.stdout


def test_a_list_in_a_file_for_an_index(workplace, run):
    """Made elsewhere: CRLF, blank lines. The cache lies beside the folder of the first frame."""
    (workplace / "list.txt").write_bytes(f"g/{FRAMES[0]}\r\n\r\ng/{FRAMES[1]}\r\n".encode())
    done = run("index", "--files-from", "list.txt", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    assert document["frames"] == 2 and document["cache"] == str(workplace / "g.qeeps")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--gallery", f"g/*/{FRAMES[2]}"), [f"g/later/{FRAMES[2]}"]),
        (("--gallery", "g/**/vtest_*.jpg", "--every", "2"), [f"g/later/{FRAMES[2]}", f"g/{FRAMES[1]}"]),
        (("--gallery", "g", "--limit", "1"), [f"later/{FRAMES[2]}"]),
        (("--gallery", "g", "--no-recursive"), list(FRAMES[:2])),
    ],
)
def test_which_frames_are_searched(run, arguments, expected):
    done = run("search", "--no-cache", *arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    assert images(done) == sorted(expected)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), ExitCode.USAGE, "expected --gallery"),
        (("--null", "--gallery", "g"), ExitCode.USAGE, "--null belongs to --files-from"),
        (("--files-from", "absent"), ExitCode.USAGE, "--files-from absent cannot be read: No such file"),
        (("--files-from", "g"), ExitCode.USAGE, "Is a directory"),
        (("--files-from", "empty.txt"), ExitCode.NOTHING, "empty.txt names no file"),
        (("--files-from", "gone.txt"), ExitCode.NOTHING, "gone.jpg: cannot be read"),
        (("--files-from", FRAMES[0]), ExitCode.USAGE, "expected a name a line"),
        (("--gallery", "*.webp"), ExitCode.NOTHING, "no image or video matches *.webp"),
        (("--gallery", "g", "--every", "0"), ExitCode.USAGE, "--every"),
        (("--gallery", "g", "--limit", "0"), ExitCode.USAGE, "--limit"),
    ],
)
@pytest.mark.parametrize("name", ["search", "index"])
def test_mistakes_before_weights_are_looked_for(
    frames, tmp_path, monkeypatch, command, name, arguments, code, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g").mkdir()
    (tmp_path / "empty.txt").write_bytes(b"\n\r\n")
    (tmp_path / "gone.txt").write_bytes(b"gone.jpg\n")
    shutil.copy(frames / FRAMES[0], tmp_path)
    shutil.copy(frames / FRAMES[0], tmp_path / "g")
    given = QUERY if name == "search" else ()
    done = command(name, *given, *arguments, "--weights", "absent")
    assert done.returncode == code and told in done.stderr.decode() and done.stdout == b""


def test_standard_input_is_read_once(command):
    done = command("search", "--queries", "-", "--files-from", "-")
    assert done.returncode == ExitCode.USAGE and b"both read standard input" in done.stderr


def test_standard_input_that_is_closed(tmp_path):
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *start("index", "--files-from", "-", stdin=subprocess.DEVNULL).args],
        capture_output=True,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == ExitCode.USAGE and b"which is closed" in done.stderr


# --dry-run


def test_a_plan_before_and_after(settled, run):
    """Nothing is computed or written; what an earlier run cached is counted."""
    before = tree(settled)
    plan = run("search", "--gallery", "g", "--out", "out", "--dry-run")
    assert plan.returncode == ExitCode.OK, plan.stderr
    lines = dict(line.split(maxsplit=1) for line in plan.stdout.decode().splitlines())
    assert lines["frames"] == f"3: later/{FRAMES[2]} to {FRAMES[1]}"
    assert lines["queries"] == "1" and lines["mode"] == "exact (3 pairs of query and frame, at most 200)"
    assert "(cpu, " in lines["device"] and lines["cache"] == str(settled / "g.qeeps")
    assert lines["compute"] == "3 pairs to compare, 0 from the cache"
    assert lines["time"].endswith("going by 3 frames that were tried; others may differ")
    assert tree(settled) == before

    assert run("search", "--gallery", "g", "--limit", "2").returncode == ExitCode.OK
    before = tree(settled)
    again = run("search", "--gallery", "g", "--dry-run").stdout.decode()
    assert "1 pair to compare, 2 from the cache" in again
    refreshed = run("search", "--gallery", "g", "--dry-run", "--refresh").stdout.decode()
    assert "3 pairs to compare, 0 from the cache" in refreshed
    without = run("search", "--gallery", "g", "--dry-run", "--no-cache").stdout.decode()
    assert "3 pairs to compare, 0 from the cache" in without and "cache    none" in without
    cascade = run("search", "--gallery", "g", "--dry-run", "--mode", "cascade", "--shortlist", "2")
    assert "3 frames to index, 0 from the cache; at most 2 pairs to compare" in cascade.stdout.decode()
    assert tree(settled) == before


def test_the_plan_of_an_index(settled, run):
    assert run("index", "--gallery", "g", "--limit", "1").returncode == ExitCode.OK
    before = tree(settled)
    done = run("index", "--gallery", "g", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert plan["schema"] == "qeeps.plan/1" and plan["frames"] == 3 and plan["mode"] is None
    assert (plan["frames_to_index"], plan["frames_cached"], plan["pairs_to_compare"]) == (3, 1, 0)
    least, most = plan["seconds_range"]
    assert 0 <= least <= plan["seconds_roughly"] <= most > 0 and plan["frames_tried"] == 3
    assert plan["cache"] == str(settled / "g.qeeps")
    assert run("index", "--gallery", "g").returncode == ExitCode.OK
    done = run("index", "--gallery", "g", "--dry-run")
    assert b"0 frames to index, 3 from the cache" in done.stdout and b"next to none" in done.stdout
    assert set(tree(settled)) - set(before) and done.returncode == ExitCode.OK
    cached = run("search", "--gallery", "g", "--dry-run", "--mode", "cached")
    assert b"0 frames to index, 3 from the cache" in cached.stdout


def test_a_plan_with_missing_files_and_a_person(workplace, command):
    """The person's box would take a run of the network: its pairs count as not cached."""
    data = f"g/{FRAMES[1]}\nabsent.jpg\n".encode()
    query = ("--query", FRAMES[0], "--person", "1")
    done = command("search", *query, *COMMON, "--files-from", "-", "--dry-run", data=data)
    assert done.returncode == ExitCode.SKIPPED and b"absent.jpg: cannot be read" in done.stderr
    assert b"1 pair to compare, 0 from the cache" in done.stdout and not (workplace / "g.qeeps").exists()


# Environment variables


def test_variables_stand_for_options(workplace, command, monkeypatch):
    plan = ("search", *QUERY, "--gallery", "g", "--dry-run", *FEW)
    variables = {"QEEPS_DEVICE": "cpu", "QEEPS_CACHE": "elsewhere.qeeps", "QEEPS_WEIGHTS": "w.safetensors"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = command(*plan)
    assert done.returncode == ExitCode.OK and b"(cpu, " in done.stdout and b"elsewhere.qeeps" in done.stdout
    monkeypatch.setenv("QEEPS_DEVICE", "tpu")
    bad, given = command(*plan), command(*plan, "--device", "cpu")
    assert bad.returncode == ExitCode.USAGE and b"got 'tpu'" in bad.stderr and given.returncode == ExitCode.OK
    for name in variables:
        monkeypatch.setenv(name, "")
    empty = command(*plan, "--weights", "w.safetensors")
    assert empty.returncode == ExitCode.OK and b"elsewhere" not in empty.stdout


@pytest.mark.parametrize("name", ["search", "index", "detect", "train", "benchmark", "info"])
def test_help_names_the_variables(command, name):
    text = command(name, "--help").stdout.decode()
    for option, variable in (("--device", "QEEPS_DEVICE"), ("--cache", "QEEPS_CACHE"), ("--weights", "QEEPS_WEIGHTS")):
        assert (f"\n  {option} " in text) == (variable in text)
