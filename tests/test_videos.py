"""Videos: which moments they have, how many are searched, and that each of them is the frame that it says."""

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from video_files import cut, greys, make_sound, make_video, number_of, trim, turn

from qeeps_cli.clock import format_clock, parse_clock
from qeeps_cli.errors import ImageError, NothingToSearchError, UsageError
from qeeps_cli.frames import FrameReader, find_frame, frame_digest, in_reading_order, path_of, read_frame
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.videos import VideoDecoder, parse_every, read_timeline
from qeeps_cli.videos.container import VideoFile

KINDS = [("x.mp4", "libx264"), ("x.mkv", "libx264"), ("x.ts", "libx264"), ("x.mov", "mpeg4"), ("x.avi", "libx264")]
KINDS += [("y.avi", "mpeg4"), ("x.mpg", "mpeg2video"), ("x.webm", "libvpx")]
COUNT = 30
FRAMES = ("camera1.mp4@00:00:00.000", "camera1.mp4@00:00:01.000", "camera1.mp4@00:00:02.000")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes each video once, and copies it."""
    store = tmp_path_factory.mktemp("made")

    def made(name: str, codec: str, folder, **options):
        source = store / f"{codec}-{'-'.join(map(str, options.values()))}-{name}"
        if not source.exists():
            make_video(source, greys(COUNT), codec, **options)
        folder.mkdir(exist_ok=True)
        return Path(shutil.copy(source, folder / name))

    return made


@pytest.fixture
def video(made, tmp_path):
    return made("camera1.mp4", "libx264", tmp_path)


def moments(timeline):
    return timeline.moments(np.arange(len(timeline)))


def names(gallery) -> list[str]:
    return [frame.name for frame in gallery.frames]


# Times


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0", 0), ("62.5", 62_500), (62.5, 62_500), ("01:02", 62_000), ("1:2:3.4", 3_723_400), ("100:00:00", 360_000_000)]
    + [("00:00:12.3456", 12_346), (".5", 500), ("90", 90_000)],
)
def test_times_in_a_video(text, milliseconds):
    assert parse_clock(text) == milliseconds
    assert parse_clock(format_clock(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:60", "1:60:00", "1:2:3:4", "1e3", "nan", "inf", "00:00:75", "1;2"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match="expects hh:mm:ss.mmm, mm:ss or seconds"):
        parse_clock(text)


# Each frame is the one that its moment says


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_frames_of_every_kind_of_file(made, tmp_path, name, codec):
    """In their order, and in another one."""
    path = made(name, codec, tmp_path)
    timeline = read_timeline(path)
    assert timeline.milliseconds.tolist() == list(range(0, 100 * COUNT, 100)) and timeline.lost is None
    assert timeline.numbers.tolist() == list(range(COUNT))
    for order in (range(COUNT), range(0, COUNT, 7), (25, 3, 27, 0, 12, 29, 29, 1)):
        with VideoDecoder(path, 10**6) as decoder:
            assert [number_of(decoder.read(moments(timeline)[number])) for number in order] == list(order)


def test_a_jump_decodes_only_what_follows_the_keyframe(video, monkeypatch):
    """Three sparse frames of a video with three keyframes, each two frames after one."""
    decoded, decode = [], VideoDecoder._decode

    def counted(self, at_keyframe):
        for shown in decode(self, at_keyframe):
            decoded.append(shown)
            yield shown

    monkeypatch.setattr(VideoDecoder, "_decode", counted)
    timeline = read_timeline(video)
    with VideoDecoder(video, 10**6) as decoder:
        assert [number_of(decoder.read(moments(timeline)[number])) for number in (2, 12, 22)] == [2, 12, 22]
    assert len(decoded) == 9
    decoded.clear()
    with VideoDecoder(video, 10**6) as decoder:
        for moment in moments(timeline):
            decoder.read(moment)
    assert len(decoded) == COUNT, "each frame once"


def test_times_come_from_the_file_and_not_from_a_rate(tmp_path):
    times = [0, 40, 1500, 1540, 1580, 7000, 7040]
    timeline = read_timeline(make_video(tmp_path / "vfr.mkv", greys(7), times=times))
    assert timeline.milliseconds.tolist() == times
    path = make_video(tmp_path / "vfr.mp4", greys(7), times=times)
    assert read_timeline(path).milliseconds.tolist() == times
    assert [number_of(read_frame(tmp_path / f"vfr.mp4@{s}").rgb) for s in ("1.49", "1.5", "5", "7.04")] == [1, 2, 4, 6]
    gallery = list_galleries([path], every="2s")
    assert [frame.moment.number for frame in gallery.frames] == [0, 5]


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda rgb: rgb),
        ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
        ((0, -1, 1, 0), lambda rgb: np.rot90(rgb)),
        ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
        ((0, 1, 1, 0), lambda rgb: rgb.transpose(1, 0, 2)),
    ],
)
def test_a_turned_video_is_upright(tmp_path, matrix, turned):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:], picture[32:, :48] = 200, 120, 60  # three corners differ
    path = turn(make_video(tmp_path / "turned.mp4", [picture] * 3), matrix)
    rgb = read_frame(tmp_path / "turned.mp4@0").rgb
    expected = turned(picture)
    assert rgb.shape == expected.shape and abs(rgb.astype(int) - expected).mean() < 3
    assert path.exists()


@pytest.mark.parametrize("is_hd", [False, True])
def test_colours_are_those_of_the_pictures(tmp_path, is_hd):
    colours = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 40]]], np.uint8)
    picture = colours.repeat(32, axis=0).repeat(48, axis=1)
    make_video(tmp_path / "colours.mp4", [picture] * 2, colours=True, is_hd=is_hd)
    assert abs(read_frame(tmp_path / "colours.mp4@0").rgb.astype(int) - picture).max() < 12


# Which frames are searched


def test_a_frame_a_second_unless_told_otherwise(video, monkeypatch):
    monkeypatch.chdir(video.parent)
    gallery = list_galleries(["camera1.mp4"])
    assert names(gallery) == list(FRAMES)
    assert [frame.moment.number for frame in gallery.frames] == [0, 10, 20]
    assert gallery.notes == (
        "of videos, one frame a second is searched: 3 of 30 frames; --every 0.2s or --every 5f looks more closely",
    )
    assert gallery.to_dict()["every"] == "1s"


@pytest.mark.parametrize(
    ("cut", "numbers"),
    [
        ({"every": "1s"}, [0, 10, 20]),
        ({"every": "0.5s"}, [0, 5, 10, 15, 20, 25]),
        ({"every": "0.25s"}, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
        ({"every": "10f"}, [0, 10, 20]),
        ({"every": 12}, [0, 12, 24]),
        ({"every": "12"}, [0, 12, 24]),
        ({"every": 12, "limit": 2}, [0, 12]),
        ({"every": 1, "start": "00:00:01.000", "end": "1.2"}, [10, 11, 12]),
        ({"every": "1s", "start": 0.5}, [5, 15, 25]),
        ({"every": "10f", "start": 2.9}, [29]),
        ({"every": "1000s"}, [0]),
    ],
)
def test_every_start_end_and_limit(video, cut, numbers):
    gallery = list_galleries([video], **cut)
    assert [frame.moment.number for frame in gallery.frames] == numbers and gallery.notes == ()


@pytest.mark.parametrize("every", [0, "0", "0s", "s", "f", "0f", "1m", "-1", -1, "1.5", "1.5f", "", "nan s"])
def test_wrong_values_of_every(every):
    with pytest.raises(UsageError, match="--every expects a whole number of at least 1, or for videos"):
        parse_every(every)


def test_wrong_times(video):
    with pytest.raises(UsageError, match="--end expects a time that is not before --start, 00:00:02.000, got 00:00:01"):
        list_galleries([video], start=2, end=1)
    with pytest.raises(UsageError, match="--start expects hh:mm:ss.mmm"):
        list_galleries([video], start="soon")
    with pytest.raises(NothingToSearchError, match="no frame in the time to search; its last one is at 00:00:02.900"):
        list_galleries([video], start=10)


@pytest.mark.parametrize("cut", [{"every": "1s"}, {"every": "2f"}, {"start": 1}, {"end": 1}])
def test_what_is_for_videos_needs_one(tmp_path, cut):
    (tmp_path / "1.jpg").touch()
    with pytest.raises(UsageError, match="for videos, of which the gallery has none"):
        list_galleries([tmp_path], **cut)


def test_folders_patterns_and_lists_hold_videos_beside_pictures(made, tmp_path, monkeypatch):
    for place in ("g/a", "g/b"):
        made("camera1.mp4", "libx264", tmp_path / "g")
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "g" / "camera1.mp4", tmp_path / place / "2.MP4")
    for name in ("g/1.jpg", "g/3.jpg", "g/a/10.png", "g/notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    of_a = [f"a/2.MP4@00:00:0{second}.000" for second in range(3)]
    of_b = [name.replace("a", "b") for name in of_a]
    whole = ["1.jpg", "3.jpg", *of_a, "a/10.png", *of_b, *FRAMES]
    gallery = list_galleries(["g"])
    assert names(gallery) == whole and len(set(names(gallery))) == len(gallery.frames) == 12
    assert [gallery.frames[place].name for place in range(-12, 0)] == whole
    for limit in range(1, 14):
        assert names(list_galleries(["g"], limit=limit)) == whole[:limit]
    assert names(list_galleries(["g"], every=2)) == [
        "1.jpg", *(f"a/2.MP4@{format_clock(ms)}" for ms in range(0, 3000, 200)), "a/10.png",
        *(f"b/2.MP4@{format_clock(ms)}" for ms in range(0, 3000, 200)),
        *(f"camera1.mp4@{format_clock(ms)}" for ms in range(0, 3000, 200)),
    ]
    assert names(list_galleries(["g/*/*.MP4"])) == [f"g/{name}" for name in (*of_a, *of_b)]
    assert names(list_galleries([], names=["g/b/2.MP4", "g/3.jpg"])) == ["g/3.jpg", *(f"g/{name}" for name in of_b)]


def test_frames_of_a_long_video_take_little_memory(tmp_path):
    """A day of 25 frames a second; no frame is made before it is asked for."""
    from qeeps_cli.gallery import FrameList
    from qeeps_cli.videos import Timeline

    pts = np.arange(25 * 86_400)
    timeline = Timeline(pts, pts, 40 * pts, pts[::250], 0.04)
    frames = FrameList(tmp_path, ["day.mp4"], {"day.mp4": moments(timeline)})
    assert len(frames) == len(pts) and frames[-1].name == "day.mp4@23:59:59.960"
    assert sum(column.nbytes for column in vars(frames.videos["day.mp4"]).values()) == 32 * len(pts)


# What is no whole video


def test_what_cannot_be_used_is_skipped_with_the_reason(made, tmp_path, monkeypatch):
    folder = tmp_path / "g"
    made("good.mp4", "libx264", folder)
    (folder / "text.mp4").write_text("no video " * 100)
    (folder / "empty.mkv").touch()
    (folder / "list.mov").write_text(f"ffconcat version 1.0\nfile '{folder / 'good.mp4'}'\n")
    (folder / "playlist.ts").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/x.ts\n")
    make_sound(folder / "sound.mp4")
    cut(made("half.mp4", "libx264", folder), 0.5)
    gallery = list_galleries([folder])
    assert {frame.path.name for frame in gallery.frames} == {"good.mp4"}
    reasons = {item.name: item.reason for item in gallery.skipped}
    assert reasons.keys() == {"text.mp4", "empty.mkv", "list.mov", "playlist.ts", "sound.mp4", "half.mp4"}
    for name in ("text.mp4", "list.mov", "playlist.ts", "half.mp4"):
        assert reasons[name].startswith("expected a video, got something else, or one that is damaged or cut short")
    assert reasons["empty.mkv"] == "the file is empty" and "holds only sound" in reasons["sound.mp4"]
    os.remove(folder / "good.mp4")
    with pytest.raises(NothingToSearchError, match="empty.mkv: the file is empty"):
        list_galleries([folder])


@pytest.mark.parametrize(
    ("name", "codec", "told"),
    [
        ("x.mp4", "libx264", r"cut short: \d+ of 30 frames are there; its frames up to 00:00:01\.\d00 can be searched"),
        ("x.mkv", "libx264", r"cut short: it should end at 00:00:03\.000; its frames up to 00:00:0[12]\.\d00 can"),
        ("y.avi", "mpeg4", r"cut short: \d+ of 30 frames"),
    ],
)
def test_a_video_that_was_cut_short_gives_what_it_has(made, tmp_path, name, codec, told):
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = cut(made(name, codec, tmp_path, **options), 0.6)
    gallery = list_galleries([path], every=1)
    [skipped] = gallery.skipped
    assert skipped.name == name and re.match(told, skipped.reason)
    found = []
    with FrameReader() as reader:
        for frame in gallery.frames:
            try:
                found.append((frame.moment.number, number_of(reader.read(frame).rgb)))
            except ImageError as error:
                assert "damaged" in error.reason
    whole = [(number, shown) for number, shown in found if number == shown]
    assert len(whole) >= 8 and len(found) - len(whole) <= 2, "around the cut, later frames may lack earlier ones"


@pytest.mark.parametrize(("start", "shown"), [(0, range(12)), (1300, range(13, 25)), (2000, range(20, 30))])
def test_a_trimmed_video_is_whole(made, tmp_path, start, shown):
    """Its first frames may need a keyframe that is not shown itself."""
    path = trim(made("x.mp4", "libx264", tmp_path), start, 100 * len(shown))
    timeline = read_timeline(path)
    assert timeline.lost is None and timeline.milliseconds.tolist() == [100 * place for place in range(len(shown))]
    for places in (range(len(shown)), (5, 0, 8)):
        with VideoDecoder(path, 10**6) as decoder:
            assert [number_of(decoder.read(moments(timeline)[place])) for place in places] == [shown[i] for i in places]


def test_an_avi_with_pauses_is_whole(tmp_path):
    """Its header counts the moments at which nothing new is shown."""
    times = [0, 100, 200, 1000, 1100, 1300]
    path = make_video(tmp_path / "x.avi", greys(6), "mpeg4", times=times, b_frames=0)
    timeline = read_timeline(path)
    assert timeline.lost is None and timeline.milliseconds.tolist() == times
    with VideoDecoder(path, 10**6) as decoder:
        assert [number_of(decoder.read(moment)) for moment in moments(timeline)] == list(range(6))


def test_damage_in_the_middle_costs_the_frames_that_it_hits(made, tmp_path):
    path = made("x.mkv", "libx264", tmp_path)
    data = bytearray(path.read_bytes())
    middle = len(data) * 45 // 100
    data[middle : middle + 300] = b"\0" * 300
    path.write_bytes(data)
    gallery = list_galleries([path], every=1)
    right = []
    with FrameReader() as reader:
        for frame in gallery.frames:
            try:
                right.append(number_of(reader.read(frame).rgb) == round(frame.moment.seconds * 10))
            except ImageError as error:
                assert error.path == tmp_path / "x.mkv"
    assert sum(right) >= 15


def test_too_many_pixels_are_refused_before_they_are_decoded(video, monkeypatch):
    """Each frame, and not only the first that is asked for."""
    monkeypatch.setattr(VideoDecoder, "_decode", lambda self, at_keyframe: pytest.fail("a frame is decoded"))
    with FrameReader(max_pixels=6000) as reader:
        for moment in ("0", "1", "2.9"):
            with pytest.raises(ImageError, match="its frames have 96x64 pixels, more than 6000; .*--max-pixels"):
                reader.read(Path(f"{video}@{moment}"))


def test_without_pyav_it_says_how_to_install_it(video, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NothingToSearchError, match=r"pip install 'qeeps-cli\[video\]'"):
        list_galleries([video])


# Moments as queries


def test_a_moment_is_the_frame_that_is_shown_then(video):
    for text, number in (("0", 0), ("00:00:01.000", 10), ("1.05", 10), ("00:01.099", 10), ("1.1", 11), ("2.999", 29)):
        assert number_of(read_frame(f"{video}@{text}").rgb) == number
    for place in range(0, COUNT):
        frame = find_frame(f"{video}@{format_clock(100 * place)}")
        assert frame.moment.number == place and frame.name == f"{video}@{frame.moment.clock}" == str(path_of(frame))


def test_several_queries_of_a_video_read_it_once(video, monkeypatch):
    from qeeps_cli.searching.queries import QueryRequest, read_requests

    read, digest = [], VideoFile.digest
    monkeypatch.setattr("qeeps_cli.frames.read_timeline", lambda path: read.append(path) or read_timeline(path))
    monkeypatch.setattr(VideoFile, "digest", lambda self: read.append(self.path) or digest(self))
    places = [Path(f"{video}@{second}") for second in (2, 0, 1)]
    pictures = read_requests([QueryRequest(place) for place in places])
    assert [number_of(picture.rgb) for picture in pictures] == [20, 0, 10] and read == [video] * 2
    read.clear()
    with FrameReader() as reader:
        again = [replace(picture, rgb=None).pixels(reader=reader) for picture in pictures]
    assert list(map(number_of, again)) == [20, 0, 10] and read == [video] * 2
    assert [picture.query.digest for picture in pictures] == [read_frame(place).digest for place in places]


def test_moments_that_there_are_not(video):
    with pytest.raises(ImageError, match="no such moment: its last frame is at 00:00:02.900"):
        find_frame(f"{video}@3.2")
    with pytest.raises(ImageError, match="what follows camera1.mp4@ expects hh:mm:ss"):
        find_frame(f"{video}@noon")
    with pytest.raises(ImageError, match="got a video; name a moment of it, such as camera1.mp4@00:01:02"):
        read_frame(video)
    with pytest.raises(ImageError, match="No such file"):
        read_frame(f"{video.parent}/absent.mp4@1")


def test_a_file_whose_name_has_an_at_sign_is_itself(video, examples):
    folder = video.parent
    odd = folder / "camera1.mp4@00:00:01.000"
    shutil.copy(examples / "cctv" / "frames" / "vtest_0000.jpg", odd)
    assert read_frame(odd).size == (576, 768)
    shutil.copy(video, folder / "a@1.mp4")
    assert number_of(read_frame(folder / "a@1.mp4@2").rgb) == 20
    assert names(list_galleries([folder / "a@1.mp4"])) == [f"a@1.mp4@00:00:0{second}.000" for second in range(3)]


def test_frames_are_known_by_the_videos_content_and_their_time(video):
    first, again = read_frame(f"{video}@1"), read_frame(f"{shutil.copy(video, video.parent / 'copy.mp4')}@1.05")
    assert first.digest == again.digest != read_frame(f"{video}@1.1").digest
    with VideoFile(video) as file:
        assert first.digest == frame_digest(file.digest(), find_frame(f"{video}@1").moment) != file.digest()


def test_frames_of_a_video_are_read_in_their_order(video, tmp_path):
    frames = {frame.moment.number: frame for frame in list_galleries([video], every=10).frames}
    picture = tmp_path / "picture.jpg"
    assert in_reading_order([frames[20], picture, frames[0], frames[20], frames[10]]) == [
        frames[0], frames[10], frames[20], picture,
    ]
    paths = [path_of(frames[20]), picture, path_of(frames[0])]
    assert in_reading_order(paths) == [paths[2], paths[0], picture]
