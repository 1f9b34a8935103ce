"""Searches of videos through the Python API: the same matches as in their pictures, and nothing decoded twice."""

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_files import make_video

import qeeps_cli
from qeeps_cli.frames import read_frame
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.output.writers import encode_result
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.searching.loading import open_cache
from qeeps_cli.searching.reading import read_frames
from qeeps_cli.searching.request import SearchOptions, read_query
from qeeps_cli.searching.run import run_search
from qeeps_cli.videos import VideoDecoder

pytest_plugins = ["cli_fixtures"]

BOX, OTHER = (80, 40, 120, 130), (200, 100, 260, 280)
MODES = ["exact", "cached", "cascade"]
TIMES = [0, 1000, 2000, 2500]  # a frame a second leaves the last one out


@pytest.fixture(scope="module")
def model(weights) -> qeeps_cli.Engine:
    return qeeps_cli.load_model(weights, device="cpu").with_params(InferenceParams(proposals=20))


@pytest.fixture(scope="module")
def made(frames, tmp_path_factory) -> Path:
    """gallery/video.mp4, and pictures/ with its frames; no file is so young that it is not trusted."""
    place = tmp_path_factory.mktemp("made")
    pictures = [np.array(Image.open(path)) for path in sorted(frames.rglob("*.jpg"))]
    make_video(place / "gallery" / "video.mp4", [*pictures, pictures[0]], times=TIMES, colours=True)
    (place / "pictures").mkdir()
    for number, rgb in enumerate(pictures):
        Image.fromarray(rgb).save(place / "pictures" / f"{number}.png")
    return place


@pytest.fixture
def gallery(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "gallery"


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """The numbers of the frames that are decoded from now on."""
    seen, read = [], VideoDecoder.read

    def counted(self, moment):
        seen.append(moment.number)
        return read(self, moment)

    monkeypatch.setattr(VideoDecoder, "read", counted)
    return seen


def search(model, gallery, mode="exact", box=BOX, query=None, **options):
    options.setdefault("shortlist", 1 if mode == "cascade" else None)
    query = query or gallery.parent / "pictures" / "0.png"
    return qeeps_cli.search(query, gallery, box, model=model, mode=mode, **options)


def as_bytes(result, mode="exact") -> bytes:
    return encode_result("json", result, {"name": "random", "digest": "sha256:0"}, mode)


def test_a_video_is_searched_like_its_pictures(model, gallery):
    in_video = search(model, gallery, cache=False)
    in_pictures = search(model, gallery.parent / "pictures", query=gallery.parent / "pictures" / "0.png", cache=False)
    assert in_video.frames_searched == in_pictures.frames_searched == 3
    for number in range(3):
        ours, theirs = (
            [match for match in result.matches if match.frame.name == name]
            for result, name in ((in_video, f"video.mp4@00:00:0{number}.000"), (in_pictures, f"{number}.png"))
        )
        assert abs(ours[0].score - theirs[0].score) < 0.05
        near = [min(np.abs(np.subtract(match.box, other.box)).max() for other in ours) for match in theirs[:3]]
        assert max(near) < 4, "pixels"


@pytest.mark.parametrize("mode", MODES)
def test_what_was_indexed_is_not_decoded_again(model, gallery, decoded, mode):
    """And a result from the cache is that of a fresh search, byte for byte."""
    fresh = search(model, gallery, mode)
    assert sorted(set(decoded)) == [0, 1, 2]
    decoded.clear()
    again = search(model, gallery, mode)
    assert as_bytes(again, mode) == as_bytes(fresh, mode) == as_bytes(search(model, gallery, mode, cache=False), mode)
    assert decoded[:3] == [0, 1, 2] and len(decoded) == (4 if mode == "cascade" else 3), "without a cache only"
    decoded.clear()
    search(model, gallery, mode="cached", box=OTHER)
    search(model, gallery, mode="cached", box=OTHER)
    assert len(decoded) == (3 if mode == "exact" else 0)
    decoded.clear()
    (gallery / "video.mp4").rename(gallery / "renamed.mp4")
    renamed = search(model, gallery, mode, box=BOX)
    assert decoded == [] and [m.score for m in renamed.matches] == [m.score for m in fresh.matches]
    closer = search(model, gallery, mode, every=1)
    assert closer.frames_searched == 4 and set(decoded) == {3}, "what is new in a closer look"


def test_an_unchanged_video_is_not_even_opened_for_its_frames(model, gallery, monkeypatch):
    time.sleep(2.1)  # the times of a change cannot be set, and young files are not trusted
    first = search(model, gallery, "cached")
    monkeypatch.setattr(VideoDecoder, "__init__", lambda *_: pytest.fail("a decoder was made"))
    assert search(model, gallery, "cached").matches == first.matches


def test_a_cascade_looks_again_at_few_frames(model, gallery, decoded):
    search(model, gallery, "cached")
    decoded.clear()
    result = search(model, gallery, "cascade", shortlist=1)
    assert len(decoded) == 1 and result.frames_searched == 3


def test_a_moment_of_the_gallery_as_the_query(model, gallery):
    place = gallery / "video.mp4@00:00:01"
    found = search(model, gallery, query=place, box=None, cache=False)
    assert "video.mp4@00:00:01.000 is the query's own picture" in " ".join(found.notes)
    without = search(model, gallery, query=place, box=None, cache=False, exclude_query=True)
    assert without.frames_searched == 2 and str(without.query.image) == str(place)
    assert "video.mp4@00:00:01.000" not in {match.frame.name for match in without.matches}


def test_a_video_that_is_replaced_in_mid_run_is_not_cached_under_the_old_digest(model, gallery, frames):
    """Written over in place when its first frame is answered; what was decoded later is known by its pixels."""
    video, old = gallery / "video.mp4", (gallery / "video.mp4").read_bytes()
    pictures = [np.array(Image.open(path))[::-1] for path in sorted(frames.rglob("*.jpg"))]
    other = make_video(gallery.parent / "other.mp4", [*pictures, pictures[0]], times=TIMES, colours=True).read_bytes()
    found = list_galleries([gallery])
    time.sleep(0.02)  # more than the grain of the clock of file systems

    def replace_it(done: int, total: int, what: str) -> None:
        if done == 1:
            video.write_bytes(other)

    picture, settings = read_query(gallery.parent / "pictures" / "0.png", BOX), SearchOptions(mode="cached")
    with open_cache([gallery], gallery.parent / "c") as cache:
        list(run_search(model, [picture], found, settings, cache=cache, progress=replace_it))
    for content in (other, old):
        video.write_bytes(content)
        wanted = search(model, gallery, "cached", cache=False)
        assert search(model, gallery, "cached", cache=gallery.parent / "c").matches == wanted.matches


def test_frames_of_a_video_that_was_written_to_are_known_by_their_pixels(gallery):
    frames, video = list_galleries([gallery]).frames, gallery / "video.mp4"
    kept = [read_frame(frame) for frame in frames]
    reads = read_frames(frames, lambda *_: None, None, ahead=0, max_pixels=10**6)
    assert next(reads).digest == kept[0].digest
    time.sleep(0.02)
    video.write_bytes(video.read_bytes() + b"\0" * 8)
    for read, other in zip(reads, kept[1:], strict=True):
        assert np.array_equal(read.decoded.rgb, other.rgb)
        assert read.digest == hashlib.blake2b(other.rgb, digest_size=16).hexdigest() != other.digest


def test_a_video_that_grows_is_searched(model, gallery):
    """A recording that goes on: something is written behind what was there."""
    found = list_galleries([gallery])

    def grow(done: int, total: int, what: str) -> None:
        with open(gallery / "video.mp4", "ab") as file:
            file.write(b"\0" * 8)

    picture = read_query(gallery.parent / "pictures" / "0.png", BOX)
    with open_cache([gallery], gallery.parent / "c") as cache:
        (result,) = run_search(model, [picture], found, SearchOptions(mode="cached"), cache=cache, progress=grow)
    assert result.frames_searched == 3 and not result.skipped


def test_a_reader_that_leaves_early_leaves_no_thread_behind(gallery):
    before = threading.active_count()
    reads = read_frames(list_galleries([gallery]).frames, lambda *_: None, None, ahead=4, max_pixels=10**6)
    assert next(reads).decoded is not None
    reads.close()
    assert threading.active_count() == before


def test_small_limits_on_pixels(model, gallery):
    search(model, gallery, "cached")
    with pytest.raises(qeeps_cli.QeepsError, match="nothing to search(.|\n)*384x288 pixels, more than 100000"):
        search(model, gallery, "cached", max_pixels=100_000, query=_small(gallery), box=None)


def _small(gallery: Path) -> Path:
    path = gallery.parent / "small.png"
    Image.new("RGB", (64, 128)).save(path)
    assert os.path.exists(path)
    return path
