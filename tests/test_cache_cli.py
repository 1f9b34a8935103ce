"""`qeeps cache` as people type it."""

import json
import os
import pty
import resource

import h5py
import pytest
from cache_samples import FINGERPRINT, fill, reseal, segments
from command_line import environment, qeeps, start

from qeeps_cli.errors import ExitCode


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "frames.qeeps"
    fill(folder, "ab")
    fill(folder, "abc", {**FINGERPRINT, "weights": "cd" * 32})
    (folder / "x\x1b[31m\udce9.txt").write_text("mine")
    return folder


def test_info(folder):
    done = qeeps("cache", "info", folder)
    lines = done.stdout.decode("ascii").splitlines()
    assert done.returncode == 0 and done.stderr == b""
    assert lines[0].startswith(f"{folder}: 2 segments, ") and lines[1].split()[0] == "rows"
    assert [line.split()[0] for line in lines[2:4]] == ["2", "3"] and "frames, abababababab, float32" in lines[2]
    assert lines[4:] == ["not used:", "  x\\x1b[31m\\udce9.txt: not named like a segment of this version"]


def test_info_as_json(folder):
    document = json.loads(qeeps("cache", "info", folder, "--json").stdout)
    assert document["schema"] == "qeeps.cache/1" and document["folder"] == str(folder)
    assert document["bytes"] == sum(path.stat().st_size for path in segments(folder))
    first = document["contents"][0]
    assert (first["kind"], first["rows"], first["superseded"], first["segments"]) == ("frames", 2, 0, 1)
    assert first["fingerprint"] == FINGERPRINT
    assert os.fsencode(document["unused"][0]["name"]) == b"x\x1b[31m\xe9.txt"


def test_a_cache_may_be_named_by_its_gallery_or_by_the_environment(folder):
    gallery = folder.with_suffix("")
    gallery.mkdir()
    expected = qeeps("cache", "info", folder).stdout
    assert qeeps("cache", "info", gallery).stdout == expected
    assert qeeps("cache", "info", env=environment(QEEPS_CACHE=str(folder))).stdout == expected
    nothing = qeeps("cache", "info", env=environment(QEEPS_CACHE=""))
    assert nothing.returncode == ExitCode.USAGE and b"expected a cache" in nothing.stderr
    missing = qeeps("cache", "info", folder.with_name("other.qeeps"))
    assert missing.returncode == ExitCode.CACHE and b"there is no cache" in missing.stderr


def test_verify(folder):
    done = qeeps("cache", "verify", folder)
    assert (done.returncode, done.stdout) == (0, f"2 segments of {folder} intact\n".encode())
    damaged = segments(folder)[0]
    os.truncate(damaged, damaged.stat().st_size - 1)
    done = qeeps("cache", "verify", folder)
    assert done.returncode == ExitCode.CACHE and done.stderr == b""
    assert done.stdout.decode().startswith(f"{damaged.name}: damaged") and b"1 segment of" in done.stdout
    document = json.loads(qeeps("cache", "verify", folder, "--json").stdout)
    assert document["segments"] == 1 and [item["name"] for item in document["damaged"]] == [damaged.name]
    assert damaged.exists()  # looking changes nothing


def test_compact(folder):
    fill(folder, "xyz")
    done = qeeps("cache", "compact", folder)
    assert done.returncode == 0 and done.stdout == b"" and b"3 files" in done.stderr and b"now 2 files" in done.stderr
    wrong = qeeps("cache", "compact", folder, "--keep-weights", "cd", "--keep-weights", "ff")
    assert wrong.returncode == ExitCode.USAGE and b"Nothing was removed" in wrong.stderr and len(segments(folder)) == 2
    assert qeeps("cache", "compact", folder, "--keep-weights", "cdcd", "--quiet").stderr == b""
    contents = json.loads(qeeps("cache", "info", folder, "--json").stdout)["contents"]
    assert [group["fingerprint"]["weights"] for group in contents] == ["cd" * 32]


def test_compacting_on_a_full_disk(folder):
    fill(folder, "xyz")
    before = segments(folder)
    limit = (resource.RLIMIT_FSIZE, (1000, 1000))
    done = qeeps("cache", "compact", folder, preexec_fn=lambda: resource.setrlimit(*limit))
    assert done.returncode == ExitCode.OUTPUT and b"cannot write to the cache" in done.stderr
    assert segments(folder) == before and not list(folder.glob(".*"))


def test_clear_needs_consent(folder):
    done = qeeps("cache", "clear", folder)
    assert done.returncode == ExitCode.USAGE and b"--yes" in done.stderr and len(segments(folder)) == 2
    done = qeeps("cache", "clear", folder, "--yes")
    assert done.returncode == 0 and [path.suffix for path in folder.iterdir()] == [".txt"]


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 2), (b"\n", 2), (b"y\n", 0)])
def test_clear_asks_on_a_terminal(folder, answer, left):
    ours, theirs = pty.openpty()
    process = start("cache", "clear", folder, stdin=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer)
    assert process.communicate(timeout=60)[0] == b""
    os.close(ours)
    assert process.returncode == (0 if left == 0 else ExitCode.USAGE)
    assert len(segments(folder)) == left


def test_a_newer_cache_is_shown(folder):
    with h5py.File(segments(folder)[0], "r+") as hdf5:
        hdf5.attrs.modify("schema", 2)
    reseal(segments(folder)[0])
    info, verify = qeeps("cache", "info", folder), qeeps("cache", "verify", folder)
    assert info.returncode == 0 and b"newer version of qeeps" in info.stdout
    assert verify.returncode == 0 and b"1 segment of" in verify.stdout


@pytest.mark.parametrize("command", ["info", "verify", "compact", "clear"])
def test_help(command):
    done = qeeps("cache", command, "--help")
    assert done.returncode == 0 and b"CACHE|GALLERY" in done.stdout
