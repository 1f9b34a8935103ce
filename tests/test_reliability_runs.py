"""Kills, interrupts, damaged caches and numbers that are none in whole runs (docs/reliability.md: 1–5, 8, 43, 49)."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import h5py
import pytest
import torch
from cache_samples import fill, in_child, read, reseal
from command_line import FEW, FRAMES
from networks import small_network
from PIL import Image

from qeeps_cli.cache.maintenance import inspect
from qeeps_cli.errors import ExitCode
from qeeps_cli.weights import save_checkpoint

pytest_plugins = ["cli_fixtures", "preloaded"]


# Row 49
@pytest.mark.parametrize("layer", ["roi_head.cls_net", "roi_head.reg_net", "rpn.cls_logits"])
def test_a_score_that_is_not_a_number_is_not_cached(frames, tmp_path, preloaded, layer):
    """Not as a frame without people, either. Of a search see test_cli_weights.py."""
    network = small_network(shorter_side=128, longest_side=192)
    with torch.no_grad():
        network.get_submodule(layer).bias.fill_(torch.nan)
    save_checkpoint(tmp_path / "nan.safetensors", network, {})
    arguments = ["--gallery", frames, "--weights", tmp_path / "nan.safetensors", *FEW, "--cache", tmp_path / "c"]
    done = preloaded.run("index", *arguments)
    assert done.returncode == ExitCode.UNEXPECTED and done.stdout == b""
    assert b"number" in done.stderr and b"--device cpu" in done.stderr and b"bug" not in done.stderr
    assert not list((tmp_path / "c").glob("frames-*"))


# Rows 1 and 43


@pytest.fixture(scope="module")
def many(tmp_path_factory, frames) -> Path:
    """A gallery that takes some seconds: different small pictures."""
    folder = tmp_path_factory.mktemp("many") / "gallery"
    folder.mkdir()
    with Image.open(frames / FRAMES[0]) as image:
        for i in range(40):
            image.crop((i, i, i + 192, i + 128)).save(folder / f"{i}.png", compress_level=1)
    return folder


def start(preloaded, stderr: int, *arguments):
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        return preloaded.start("search", *arguments, streams=(nothing, nothing, stderr))
    finally:
        os.close(nothing)


def wait_until(done) -> None:
    deadline = time.monotonic() + 100
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def exact(many: Path, weights: Path, *more) -> list:
    return ["--query", many / "0.png", "--box", "10,10,50,90", "--gallery", many, "--weights", weights, *FEW, *more]


def test_a_kill_in_mid_search_changes_no_later_result(many, weights, preloaded, tmp_path):
    """Row 1, for pairs; of the index see test_cli_index.py."""
    cache = ["--mode", "exact", "--cache", tmp_path / "c"]
    nothing = os.open(os.devnull, os.O_RDWR)
    process = start(preloaded, nothing, *exact(many, weights, *cache))
    os.close(nothing)
    wait_until(lambda: list((tmp_path / "c").glob("pairs-*.h5")))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was not over yet"
    assert not inspect(tmp_path / "c").damaged
    resumed = preloaded.run("search", *exact(many, weights, *cache))
    whole = preloaded.run("search", *exact(many, weights, "--mode", "exact", "--no-cache"))
    assert resumed.returncode == whole.returncode == ExitCode.OK and resumed.stdout == whole.stdout
    assert b", 0 from the cache" not in resumed.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see that a signal was taken")
def test_a_second_interrupt_ends_the_process_at_once(many, weights, preloaded, tmp_path):
    """Row 43: also one that waits, after the first one, for somebody to read what it says."""
    reader, writer = full_pipe()
    process = start(preloaded, writer, *exact(many, weights, "--mode", "exact", "--cache", tmp_path / "c"))
    wait_until(lambda: list((tmp_path / "c").glob("pairs-*.h5")))
    assert catches_interrupts(process.pid)
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: not catches_interrupts(process.pid))
    time.sleep(0.2)
    assert Path(f"/proc/{process.pid}/status").exists(), "it waits"
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == -signal.SIGINT, "which a shell calls 130"
    os.close(reader)
    os.close(writer)
    assert not inspect(tmp_path / "c").damaged


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no more bytes until some are read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    return reader, writer


def catches_interrupts(pid: int) -> bool:
    caught = re.search("SigCgt:\t([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)


# Rows 2 to 5, through a search


def cached(many, weights, cache: Path, preloaded) -> subprocess.CompletedProcess:
    gallery = ["--gallery", many / "0.png", "--gallery", many / "1.png"]
    arguments = ["--query", many / "0.png", *gallery, "--weights", weights, *FEW, "--mode", "cached"]
    return preloaded.run("search", *arguments, "--cache", cache)


def segments(cache: Path) -> list[Path]:
    return [path for path in cache.glob("frames-*.h5") if path.is_file()]


def test_a_search_survives_a_damaged_cache(many, weights, preloaded, tmp_path):
    """A segment cut short, a flipped bit, and files of others: the same bytes on stdout, and a word on stderr."""
    cache = tmp_path / "c"
    first = cached(many, weights, cache, preloaded)
    assert first.returncode == ExitCode.OK
    (cache / f"frames-{'1' * 32}.h5").mkdir()
    (cache / "notes.txt").write_text("text")
    for damage in (lambda data: data[:-1], lambda data: data[:96], lambda data: bytes([data[0] ^ 1]) + data[1:]):
        [segment] = segments(cache)
        segment.write_bytes(damage(segment.read_bytes()))
        again = cached(many, weights, cache, preloaded)
        assert again.returncode == ExitCode.OK and again.stdout == first.stdout
        assert b"damaged" in again.stderr and b"set aside" in again.stderr
        assert not segment.exists() and len(segments(cache)) == 1, "computed again"
    assert len(list(cache.glob("*.damaged"))) == 3


def test_a_cache_of_a_newer_version_is_refused(many, weights, preloaded, tmp_path):
    cache = tmp_path / "c"
    assert cached(many, weights, cache, preloaded).returncode == ExitCode.OK
    [segment] = cache.glob("frames-*.h5")
    with h5py.File(segment, "r+") as hdf5:
        hdf5.attrs.modify("schema", 2)
    reseal(segment)
    before = sorted(os.listdir(cache))
    done = cached(many, weights, cache, preloaded)
    assert done.returncode == ExitCode.CACHE and done.stdout == b"" and b"newer" in done.stderr
    assert sorted(os.listdir(cache)) == before


# Row 8


def test_no_hdf5_handle_outlives_a_call(tmp_path):
    """So none can cross a fork: neither here nor in a child that uses the cache itself."""

    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_ATTR

    def handles() -> int:
        return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds)

    folder = tmp_path / "c.qeeps"
    with h5py.File(tmp_path / "open.h5", "w"):
        assert handles() == 1, "they are counted"
    assert handles() == 0
    fill(folder, range(30))
    fill(folder, range(20, 50))
    assert len(read(folder, range(50))) == 50 and handles() == 0
    assert in_child(lambda: handles() == 0 and len(read(folder, range(50))) == 50 and handles() == 0) == 0
