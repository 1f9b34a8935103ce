"""`qeeps index` and `qeeps search` with a cache, as processes: kept, killed, interrupted, refused."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from command_line import FEW, FRAMES
from PIL import Image

from qeeps_cli.cache.maintenance import inspect
from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

BOX = "80,40,40,90"
MANY = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory, frames) -> Path:
    """A gallery that takes some seconds: MANY different small pictures."""
    folder = tmp_path_factory.mktemp("many") / "gallery"
    folder.mkdir()
    with Image.open(frames / FRAMES[0]) as image:
        for i in range(MANY):
            image.crop((i, i, i + 192, i + 128)).save(folder / f"{i}.png", compress_level=1)
    return folder


def arguments(gallery: Path, weights: Path, *more) -> list:
    return ["--gallery", gallery, "--weights", weights, "--device", "cpu", *FEW, *more]


def indexed(preloaded, gallery: Path, weights: Path, *more) -> dict:
    done = preloaded.run("index", *arguments(gallery, weights, "--json", *more))
    assert done.returncode in (ExitCode.OK, ExitCode.SKIPPED), done.stderr
    return json.loads(done.stdout)


def search_arguments(gallery: Path, weights: Path, *more) -> list:
    query = min(gallery.glob("*.*"))
    return ["--query", query, "--box", "10,10,50,90", *arguments(gallery, weights, *more)]


def test_an_index_and_the_search_that_uses_it(frames, weights, tmp_path, preloaded):
    gallery = tmp_path / "gallery"
    shutil.copytree(frames, gallery)
    (gallery / "broken [x].jpg").write_bytes(b"no picture")
    first = preloaded.run("index", *arguments(gallery, weights, "--json"))
    assert first.returncode == ExitCode.SKIPPED
    document, stderr = json.loads(first.stdout), first.stderr.decode("ascii")
    assert document["schema"] == "qeeps.index/1" and document["cache"] == str(tmp_path / "gallery.qeeps")
    assert (document["frames"], document["computed"], document["cached"]) == (3, 3, 0) and document["people"] > 10
    assert [item["image"] for item in document["skipped"]] == ["broken [x].jpg"]
    assert document["weights"]["digest"].startswith("sha256:") and document["parameters"]["proposals"] == 20
    assert "3 frames indexed" in stderr and "gallery.qeeps" in stderr and "1 input skipped" in stderr

    again = indexed(preloaded, gallery, weights)
    assert (again["computed"], again["cached"], again["people"]) == (0, 3, document["people"])
    query = ["--query", gallery / FRAMES[0], "--box", BOX, "--mode", "cached"]
    found = preloaded.run("search", *query, *arguments(gallery, weights))
    assert found.returncode == ExitCode.SKIPPED and b"0 frames computed, 3 from the cache" in found.stderr
    assert json.loads(found.stdout)["mode"] == "cached"
    shutil.rmtree(tmp_path / "gallery.qeeps")
    fresh = preloaded.run("search", *query, *arguments(gallery, weights))
    assert b"3 frames computed, 0 from the cache" in fresh.stderr and fresh.stdout == found.stdout


def frames_in(folder: Path) -> int:
    found = inspect(folder)
    assert not found.damaged
    return sum(len(segment.map()["digests"]) for segment in found.segments if segment.kind.name == "frames")


def test_a_kill_in_mid_index_loses_nothing_that_was_published(many, weights, tmp_path, preloaded):
    """Row 1."""
    cache = tmp_path / "c"
    process = preloaded.begin("index", *arguments(many, weights, "--cache", cache))
    process.wait_for(lambda: list(cache.glob("frames-*.h5")))
    os.kill(process.pid, signal.SIGKILL)
    assert process.finish().returncode == -signal.SIGKILL
    published = frames_in(cache)
    rest = indexed(preloaded, many, weights, "--cache", cache)
    assert rest["cached"] >= published > 0 and rest["cached"] + rest["computed"] == MANY and rest["computed"] > 0
    resumed = preloaded.run("search", *search_arguments(many, weights, "--mode", "cached", "--cache", cache))
    whole = preloaded.run("search", *search_arguments(many, weights, "--mode", "cached", "--no-cache"))
    assert resumed.returncode == whole.returncode == 0 and resumed.stdout == whole.stdout


@pytest.mark.parametrize(
    ("command", "sent", "code"),
    [("index", signal.SIGINT, ExitCode.SIGINT), ("search", signal.SIGTERM, ExitCode.SIGTERM)],
)
def test_who_interrupts_is_told_how_to_go_on(many, weights, tmp_path, preloaded, command, sent, code):
    """Rows 42 and 44."""
    cache = tmp_path / "c"
    options = ["--cache", cache]
    if command == "search":
        options += ["--mode", "exact", "--query", many / "0.png"]
    process = preloaded.begin(command, *arguments(many, weights, *options))
    kind = "frames" if command == "index" else "pairs"
    process.wait_for(lambda: list(cache.glob(f"{kind}-*.h5")))
    time.sleep(0.1)
    os.kill(process.pid, sent)
    done = process.finish()
    assert done.returncode == code and done.stdout == b""
    last = done.stderr.decode().splitlines()[-2:]
    assert str(cache) in last[0] and "the same command goes on from there" in last[0]
    assert last[1] in ("interrupted", "terminated")
    assert not inspect(cache).damaged and not list(cache.glob(".*"))
    resumed = preloaded.run(command, *arguments(many, weights, *options))
    assert resumed.returncode == 0 and b"mode exact; 0 pairs" not in resumed.stderr
    words = resumed.stderr.split()
    cached = int(words[words.index(b"were") - 1] if command == "index" else words[words.index(b"from") - 1])
    assert 0 < cached < MANY


def test_two_processes_on_one_cache_give_the_same(frames, weights, tmp_path, preloaded):
    """Row 7."""
    options = search_arguments(frames, weights, "--mode", "cascade", "--shortlist", "1", "--cache", tmp_path / "c")
    one, other = [process.finish() for process in [preloaded.begin("search", *options) for _ in range(2)]]
    assert one.returncode == other.returncode == 0 and one.stdout == other.stdout
    assert preloaded.run("search", *options).stdout == one.stdout
    assert not inspect(tmp_path / "c").damaged


@pytest.fixture
def locked():
    """Commands to which a folder without write permission is closed, also where the tests are run by root."""
    from preloaded import Preloaded

    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root writes everywhere, and there is no setpriv to take that away")
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    server = Preloaded(*drop)
    yield server
    server.close()


def test_a_cache_that_cannot_be_written(frames, weights, tmp_path, locked):
    """Row 9."""
    place = tmp_path / "locked" / "c.qeeps"
    place.parent.mkdir()
    place.parent.chmod(0o555)
    common = arguments(frames, weights, "--cache", place)
    search = ["search", "--query", frames / FRAMES[0], "--box", BOX, *common]
    searched, required = locked.run(*search), locked.run(*search, "--require-cache")
    index = locked.run("index", *common)
    place.parent.chmod(0o755)
    assert searched.returncode == 0 and json.loads(searched.stdout)["frames_searched"] == 3
    assert b"note: the cache" in searched.stderr and b"cannot be written" in searched.stderr
    for refused, needed_by in ((required, "--require-cache"), (index, "an index")):
        assert refused.returncode == ExitCode.CACHE and refused.stdout == b""
        assert f"{needed_by} needs a cache folder that can be written, and {place} cannot" in refused.stderr.decode()
    assert not place.exists()


def test_a_full_disk(frames, weights, tmp_path, preloaded):
    """Row 10, by a limit on the size of files."""
    cache = tmp_path / "c"
    limits = {"RLIMIT_FSIZE": 2_000}
    done = preloaded.run("index", *arguments(frames, weights, "--cache", cache), limits=limits)
    assert done.returncode == ExitCode.OUTPUT and str(cache) in done.stderr.decode() and done.stdout == b""
    assert not cache.exists() or os.listdir(cache) == []


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--gallery", "absent"], ExitCode.USAGE, "absent"),
        (["--gallery", "empty"], ExitCode.NOTHING, "holds no image"),
        ([], ExitCode.USAGE, "--gallery"),
    ],
)
def test_mistakes_show_before_weights_are_looked_for(tmp_path, preloaded, options, code, told):
    (tmp_path / "empty").mkdir()
    done = preloaded.run("index", *options, "--weights", "absent", cwd=tmp_path)
    assert done.returncode == code and told in done.stderr.decode() and done.stdout == b""


def test_a_gallery_of_broken_files(weights, tmp_path, preloaded):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "a.jpg").write_bytes(b"no picture")
    done = preloaded.run("index", *arguments(tmp_path / "gallery", weights))
    assert done.returncode == ExitCode.NOTHING and b"a.jpg: expected a JPEG" in done.stderr
