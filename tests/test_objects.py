"""Galleries that are URIs of an object store: how they are named and listed. test_ray.py has workers read them."""

import json
import os
import shutil
from importlib.util import find_spec

import pytest
from command_line import FEW, FRAMES
from typer.testing import CliRunner, Result

from qeeps_cli.cli.app import app
from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures"]
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'qeeps-cli[ray]'")

RAY = ("--engine", "ray")  # none is started here: a dry run computes a few frames itself


@pytest.fixture
def given(weights, tmp_path) -> list:
    return ["--weights", weights, *FEW, "--cache", tmp_path / "c.qeeps", *RAY]


@pytest.fixture(autouse=True)
def memory():
    """The store of memory:// URIs, which is one for the whole process: empty before a test and after it."""
    import fsspec

    store = fsspec.filesystem("memory")
    kept = store.store.copy(), store.pseudo_dirs.copy()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()
    store.store.update(kept[0])
    store.pseudo_dirs[:] = kept[1]


def invoke(*arguments) -> Result:
    """A command in this process, finished."""
    return CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])


def test_a_dry_run_tries_objects_too(frames, given):
    """No cluster is needed for it."""
    plan = json.loads(invoke("index", "--gallery", frames.as_uri(), *given, "--dry-run", "--json").stdout)
    assert plan["frames"] == 3 and plan["frames_tried"] >= 1


def test_objects_are_listed_as_a_folder_is(frames, tmp_path):
    from qeeps_cli.distributed.objects import list_objects
    from qeeps_cli.gallery import list_gallery

    shutil.copytree(frames, tmp_path / "g")
    for name in ("sub/0.png", ".hidden/1.png", "c.qeeps/2.png", "sub/text.txt"):
        (tmp_path / "g" / name).parent.mkdir(exist_ok=True)
        shutil.copy(frames / FRAMES[0], tmp_path / "g" / name)
    root = (tmp_path / "g").as_uri()
    for recursive in (True, False):
        names = [frame.name for frame in list_gallery(tmp_path / "g", recursive=recursive)]
        assert [frame.name for frame in list_objects([root], recursive).frames] == [f"{root}/{name}" for name in names]


@pytest.mark.parametrize(
    ("root", "first"),
    [
        ("local://{folder}", f"file://{{folder}}/later/{FRAMES[2]}"),
        ("memory://bucket/a//b/", "memory://bucket/a//b/1.jpg"),
        ("memory:///c", "memory:///c/3.jpg"),
        ("memory://", "memory:///bucket/a//b/1.jpg"),
    ],
)
def test_a_root_is_the_uri_that_was_given(root, first, frames, given, memory):
    """Not what a path makes of it, which has no empty folders: `///` and `a//b` stay."""
    root, first = root.format(folder=frames), first.format(folder=frames)
    for name in ("/bucket/a//b/1.jpg", "/bucket/a/b/2.jpg", "/c/3.jpg"):
        memory.pipe_file(name, (frames / FRAMES[0]).read_bytes())
    done = invoke("index", "--gallery", root, *given, "--dry-run", "--json")
    assert done.exit_code == ExitCode.OK, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["gallery"], plan["first"]) == ([root], first) and plan["frames_tried"]


def test_objects_are_named_with_the_host_of_their_root():
    """As of hdfs://host/frames: what a store makes of its own paths has none."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    from qeeps_cli.distributed.objects import list_objects, read

    class Hosted(MemoryFileSystem):
        protocol, store, pseudo_dirs, cachable = "hosted", {}, [""], False

        def __init__(self, host: str):
            super().__init__()
            assert host == "camera"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/".join(["", *path.rstrip("/").split("/")[3:]]) if "://" in path else path

        @staticmethod
        def _get_kwargs_from_urls(path: str) -> dict[str, str]:
            return {"host": path.partition("://")[2].partition("/")[0]}

    fsspec.register_implementation("hosted", Hosted, clobber=True)
    Hosted("camera").pipe_file("/frames/1.jpg", b"a picture")
    for root in ("hosted://camera/frames", "hosted://camera/frames/", "hosted://camera"):
        (frame,) = list_objects([root]).frames
        assert frame.name == "hosted://camera/frames/1.jpg" and read(frame, 10**6).data == b"a picture"


def test_videos_of_an_object_store_are_told(frames, given, tmp_path):
    """They are not read, wherever they are named; a folder tells of files that it cannot use in the same way."""
    shutil.copytree(frames, tmp_path / "g")
    video = tmp_path / "g" / "v.mp4"
    video.write_bytes(b"a video")
    index = ["index", *given, "--dry-run"]
    done = invoke(*index, "--gallery", video.parent.as_uri())
    assert done.exit_code == ExitCode.SKIPPED, done.stderr
    assert "1 input skipped" in done.stderr and f"{video.as_uri()}: a video in an object store is not" in done.stderr
    assert "copy it to a folder" in done.stderr
    (tmp_path / "list").write_text(video.as_uri())
    for alone in (["--gallery", video.as_uri()], ["--files-from", tmp_path / "list"]):
        done = invoke(*index, *alone)
        assert done.exit_code == ExitCode.NOTHING and f"{video.as_uri()}: a video in an" in done.stderr, done.stderr


def test_objects_that_are_one_path_are_not_taken_for_each_other():
    from qeeps_cli.distributed.objects import list_objects

    found = list_objects([], names=["s3://b/a//1.jpg", "s3://b/a/1.jpg", "s3://b/a/2.jpg"])
    assert len(found.frames) == 2 and len({frame.path for frame in found.frames}) == 2
    [skipped] = found.skipped
    assert "as a path it is that of s3://b/a/" in skipped.reason


def test_uris_need_workers_and_a_cache(frames, weights):
    root = ["index", "--gallery", frames.as_uri(), "--weights", weights]
    for options, message in (([], "--engine ray"), (RAY, "--cache"), ([*RAY, "--files-from", "x"], "x")):
        done = invoke(*root, *options)
        assert done.exit_code == ExitCode.USAGE and message in done.stderr, done.stderr
