"""`qeeps cache` as people type it."""

import json
import os
import pty
import tempfile

import h5py
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, refuse, reseal, segments

from qeeps_cli.cache import store
from qeeps_cli.errors import ExitCode

pytest_plugins = ["preloaded"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "frames.qeeps"
    fill(folder, "ab")
    fill(folder, "abc", {**FINGERPRINT, "weights": "cd" * 32})
    (folder / "x\x1b[31m\udce9.txt").write_text("mine")
    return folder


def test_info(folder, preloaded):
    done = preloaded.run("cache", "info", folder)
    lines = done.stdout.decode("ascii").splitlines()
    assert done.returncode == 0 and done.stderr == b""
    assert lines[0].startswith(f"{folder}: 2 segments, ") and lines[1].split()[0] == "rows"
    assert [line.split()[0] for line in lines[2:4]] == ["2", "3"] and "frames, abababababab, float32" in lines[2]
    assert lines[4:] == ["not used:", "  x\\x1b[31m\\udce9.txt: not named like a segment of this version"]


def test_info_tells_pairs_of_another_version(folder, preloaded, monkeypatch):
    for made_by in (store.PAIR_COMPUTATION, 1):
        monkeypatch.setattr(store, "PAIR_COMPUTATION", made_by)
        with store.Cache(folder, warn=refuse) as cache:
            cache.pairs(FINGERPRINT, digest("query"), None).add(digest("a"), "a", SIZE, found("a"))
    lines = preloaded.run("cache", "info", folder).stdout.decode("ascii").splitlines()
    titles = [line.partition("pairs")[2] for line in lines[2:] if "pairs" in line]
    assert sorted(titles) == [", abababababab, float32", ", abababababab, float32, as another version compares"]


def test_info_as_json(folder, preloaded):
    document = json.loads(preloaded.run("cache", "info", folder, "--json").stdout)
    assert document["schema"] == "qeeps.cache/1" and document["folder"] == str(folder)
    assert document["bytes"] == sum(path.stat().st_size for path in segments(folder))
    first = document["contents"][0]
    assert (first["kind"], first["rows"], first["superseded"], first["segments"]) == ("frames", 2, 0, 1)
    assert first["fingerprint"] == FINGERPRINT
    assert os.fsencode(document["unused"][0]["name"]) == b"x\x1b[31m\xe9.txt"


def test_a_cache_may_be_named_by_its_gallery_or_by_the_environment(folder, preloaded):
    gallery = folder.with_suffix("")
    gallery.mkdir()
    expected = preloaded.run("cache", "info", folder).stdout
    assert preloaded.run("cache", "info", gallery).stdout == expected
    assert preloaded.run("cache", "info", QEEPS_CACHE=str(folder)).stdout == expected
    nothing = preloaded.run("cache", "info", QEEPS_CACHE="")
    assert nothing.returncode == ExitCode.USAGE and b"expected a cache" in nothing.stderr
    missing = preloaded.run("cache", "info", folder.with_name("other.qeeps"))
    assert missing.returncode == ExitCode.CACHE and b"there is no cache" in missing.stderr


def test_a_gallery_whose_runs_keep_what_they_compute_elsewhere(folder, preloaded):
    gallery = folder.with_name("far")
    gallery.mkdir()
    done = preloaded.run("cache", "info", gallery, QEEPS_CACHE=str(folder))
    assert done.returncode == ExitCode.CACHE and f"$QEEPS_CACHE is set to {folder}" in done.stderr.decode()
    absent = preloaded.run("cache", "info", gallery, QEEPS_CACHE=str(folder.with_name("absent.qeeps")))
    assert absent.returncode == ExitCode.CACHE and b"there is no cache" in absent.stderr
    folder.with_suffix("").mkdir()
    own = preloaded.run("cache", "info", folder.with_suffix(""), QEEPS_CACHE=str(folder.with_name("absent.qeeps")))
    assert own.stdout == preloaded.run("cache", "info", folder).stdout


def test_verify(folder, preloaded):
    done = preloaded.run("cache", "verify", folder)
    assert (done.returncode, done.stdout) == (0, f"2 segments of {folder} intact\n".encode())
    damaged = segments(folder)[0]
    os.truncate(damaged, damaged.stat().st_size - 1)
    done = preloaded.run("cache", "verify", folder)
    assert done.returncode == ExitCode.CACHE and done.stderr == b""
    assert done.stdout.decode().startswith(f"{damaged.name}: damaged") and b"1 segment of" in done.stdout
    document = json.loads(preloaded.run("cache", "verify", folder, "--json").stdout)
    assert document["segments"] == 1 and [item["name"] for item in document["damaged"]] == [damaged.name]
    assert damaged.exists()  # looking changes nothing


def test_compact(folder, preloaded):
    fill(folder, "xyz")
    done = preloaded.run("cache", "compact", folder)
    assert done.returncode == 0 and done.stdout == b"" and b"3 files" in done.stderr and b"now 2 files" in done.stderr
    wrong = preloaded.run("cache", "compact", folder, "--keep-weights", "cd", "--keep-weights", "ff")
    assert wrong.returncode == ExitCode.USAGE and b"Nothing was removed" in wrong.stderr and len(segments(folder)) == 2
    assert preloaded.run("cache", "compact", folder, "--keep-weights", "cdcd", "--quiet").stderr == b""
    contents = json.loads(preloaded.run("cache", "info", folder, "--json").stdout)["contents"]
    assert [group["fingerprint"]["weights"] for group in contents] == ["cd" * 32]


def test_compacting_on_a_full_disk(folder, preloaded):
    fill(folder, "xyz")
    before = segments(folder)
    done = preloaded.run("cache", "compact", folder, limits={"RLIMIT_FSIZE": 1000})
    assert done.returncode == ExitCode.OUTPUT and b"cannot write to the cache" in done.stderr
    assert segments(folder) == before and not list(folder.glob(".*"))


def test_clear_needs_consent(folder, preloaded):
    done = preloaded.run("cache", "clear", folder)
    assert done.returncode == ExitCode.USAGE and b"--yes" in done.stderr and len(segments(folder)) == 2
    done = preloaded.run("cache", "clear", folder, "--yes")
    assert done.returncode == 0 and [path.suffix for path in folder.iterdir()] == [".txt"]


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 2), (b"\n", 2), (b"y\n", 0)])
def test_clear_asks_on_a_terminal(folder, preloaded, answer, left):
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile() as stdout:
        process = preloaded.start("cache", "clear", folder, streams=(theirs, stdout.fileno(), theirs))
        os.close(theirs)
        os.write(ours, answer)
        assert process.wait() == (0 if left == 0 else ExitCode.USAGE)
        assert os.fstat(stdout.fileno()).st_size == 0
    os.close(ours)
    assert len(segments(folder)) == left


def test_a_newer_cache_is_shown(folder, preloaded):
    with h5py.File(segments(folder)[0], "r+") as hdf5:
        hdf5.attrs.modify("schema", 2)
    reseal(segments(folder)[0])
    info, verify = preloaded.run("cache", "info", folder), preloaded.run("cache", "verify", folder)
    assert info.returncode == 0 and b"newer version of qeeps" in info.stdout
    assert verify.returncode == 0 and b"1 segment of" in verify.stdout


@pytest.mark.parametrize("command", ["info", "verify", "compact", "clear"])
def test_help(command, preloaded):
    done = preloaded.run("cache", command, "--help")
    assert done.returncode == 0 and b"CACHE|GALLERY" in done.stdout
