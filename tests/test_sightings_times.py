"""When and by which camera a frame was taken: names, EXIF data, videos, and the order of frames."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from sighting_samples import START, dated, frame

from qeeps_cli.errors import UsageError
from qeeps_cli.gallery import FrameList, list_gallery
from qeeps_cli.images import read_date_taken
from qeeps_cli.sightings.time_pattern import NamedTime, TimePattern
from qeeps_cli.sightings.timetable import Timetable

NOON = datetime(2024, 5, 3, 12, 0, 1)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{camera}", ".", NamedTime(".")),
        ("{camera}_%Y-%m-%d_%H-%M-%S", "gate_2024-05-03_12-00-01.jpg", NamedTime("gate", NOON)),
        ("{camera}_%Y-%m-%d_%H-%M-%S", "north/gate_1_2024-05-03_12-00-01", NamedTime("gate_1", NOON)),
        ("{camera}_%Y-%m-%d_%H-%M-%S", "gate_2024-13-03_12-00-01.jpg", None),
        ("{camera}_%Y-%m-%d_%H-%M-%S", "gate_2024-05-03_12-00-01_x.jpg", None),
        ("{camera}_%Y-%m-%d_%H-%M-%S*", "gate_2024-05-03_12-00-01_x.jpg", NamedTime("gate", NOON)),
        ("{camera}/%Y%m%d/%H%M%S.jpg", "a/b/20240503/120001.jpg", NamedTime("b", NOON)),
        ("{camera}/%Y%m%d/%H%M%S.jpg", "20240503/120001.jpg", None),
        ("%Y/%m/%d/%H.%M.%S.%f", "2024/5/3/12.0.1.25.jpg", NamedTime(date=NOON.replace(microsecond=250_000))),
        ("%d %b %Y %I-%M-%S %p", "03 May 2024 12-00-01 pm.png", NamedTime(date=NOON)),
        ("%y%j_%H%M%S", "24124_120001.jpg", NamedTime(date=NOON)),
        ("%Y%m%dT%H%M%S%z", "20240503T120001Z.jpg", NamedTime(date=NOON.replace(tzinfo=UTC))),
        (
            "%Y%m%dT%H%M%S%z",
            "20240503T120001+0200.jpg",
            NamedTime(date=NOON.replace(tzinfo=timezone(timedelta(hours=2)))),
        ),
        ("%s", "1714737601.jpg", NamedTime(date=NOON.replace(tzinfo=UTC))),
        ("*_%s%f", "x_1714737601250.jpg", NamedTime(date=NOON.replace(tzinfo=UTC, microsecond=250_000))),
        ("vtest_{frame}", "vtest_0550.jpg", NamedTime(number=550)),
        ("{camera}_{frame/25}", "vtest_0550.jpg", NamedTime("vtest", None, 550, 22.0)),
        ("vtest_{frame/25}", "a/b/vtest_0550.jpg", NamedTime(None, None, 550, 22.0)),
        ("{camera}/{frame/2}", "a/gate/7.jpg", NamedTime("gate", None, 7, 3.5)),
        ("%Y-%m-%d_{frame/12.5}", "2024-05-03_25.jpg", NamedTime(None, datetime(2024, 5, 3, 0, 0, 2), 25, 2.0)),
        ("[x]+100%%_{frame}", "[x]+100%_7.jpg", NamedTime(number=7)),
        ("{frame}", "７.jpg", None),  # a digit, but none of ours
        ("{camera}\n%s", "a\n1714737601", NamedTime("a", NOON.replace(tzinfo=UTC))),
    ],
)
def test_what_a_name_says(pattern, name, expected):
    assert TimePattern(pattern).read(name) == expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("", "has neither a date nor {camera} nor {frame}. Write it like {camera}_%Y-%m-%d"),
        ("frame_*.jpg", "has neither"),
        ("%H-%M-%S", "has a time of day without year, month and day"),
        ("{camera}_%Y-%m", "has not all of year, month and day"),
        ("%Y-%m-%d_%q", "got %q. It knows %m"),
        ("%Y-%m-%d_%", "got %."),
        ("{kamera}", "got {kamera}. It knows {camera}, {frame} and {frame/25}"),
        ("{camera", "got {camera."),
        ("{frame/0}", "got {frame/0}. Frames a second are more than 0"),
        ("{camera}_{camera}", "has {camera} twice"),
        ("%Y-%m-%d_%Y", "has %Y twice"),
        ("%Y-%m-%d_%I", "has %I, hours up to 12, without %p"),
        ("%Y%s", "has %s, the seconds since 1970, beside other codes"),
    ],
)
def test_a_pattern_that_cannot_be(pattern, told):
    with pytest.raises(UsageError) as error:
        TimePattern(pattern)
    assert told in str(error.value) and repr(pattern) in str(error.value)


def test_a_pattern_that_fits_no_name_is_an_error_and_one_that_fits_some_a_note():
    frames = [frame("b/1.jpg"), dated("a", 0)]
    pattern = TimePattern("%Y-%m-%d_%H-%M-%S")
    assert Timetable([], pattern).notes == [] and Timetable(frames[1:], pattern).notes == []
    assert Timetable(frames, pattern).notes == [
        "1 of 2 names do not fit the time pattern '%Y-%m-%d_%H-%M-%S', as 'b/1.jpg'"
    ]
    with pytest.raises(UsageError, match="fits none of 1 names, of which the first is 'b/1.jpg'"):
        Timetable(frames[:1], pattern)


def test_a_video_has_one_name_however_many_frames():
    frames = [frame(f"{name}.mp4", seconds) for name in ("gate_20240503", "other") for seconds in (1, 2, 3)]
    [note] = Timetable(frames, TimePattern("{camera}_%Y%m%d")).notes
    assert note == "1 of 2 names do not fit the time pattern '{camera}_%Y%m%d', as 'other.mp4'"


# EXIF data


def photograph(path: Path, date: str | None = None, fraction: str | None = None, **options) -> Path:
    """A picture with these texts in its EXIF data."""
    exif = Image.Exif()
    inner = {ExifTags.Base.DateTimeOriginal: date, ExifTags.Base.SubsecTimeOriginal: fraction}
    exif[ExifTags.IFD.Exif] = {tag: text for tag, text in inner.items() if text is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path, **({"exif": exif} | options))
    return path


@pytest.mark.parametrize(
    ("date", "fraction", "expected"),
    [
        (None, None, None),
        ("2024:05:03 12:00:01", None, NOON),
        ("2024:05:03 12:00:01", "25", NOON.replace(microsecond=250_000)),
        ("2024:05:03 12:00:01", "1234567890", NOON.replace(microsecond=123_456)),
        ("2024:05:03 12:00:01", "no", NOON),
        ("2024:05:03 12:00:01", " ", NOON),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("2024:02:30 12:00:01", None, None),
        ("yesterday", "25", None),
    ],
)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_the_date_of_a_photograph(tmp_path, date, fraction, expected, ending):
    assert read_date_taken(photograph(tmp_path / f"x.{ending}", date, fraction)) == expected


def test_a_file_that_says_nothing_of_its_date(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_bytes(b"2024:05:03 12:00:01")
    broken = photograph(tmp_path / "broken.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    for path in (tmp_path / "absent.jpg", tmp_path, tmp_path / "empty.jpg", tmp_path / "text.jpg", broken):
        assert read_date_taken(path) is None


# Which of them counts


def look_up(frames, pattern=None):
    taken = Timetable(frames, pattern and TimePattern(pattern)).look_up(frames)
    return {name: (one.camera, one.time.clock, one.time.value) for name, one in taken.items()}


def test_names_before_exif_before_the_order(tmp_path):
    photograph(tmp_path / "gate" / "2024-05-03_23-59-50.jpg", "2024:05:03 12:00:01")
    photograph(tmp_path / "gate" / "exif.jpg", "2024:05:03 12:00:01")
    photograph(tmp_path / "gate" / "none.jpg")
    photograph(tmp_path / "gate" / "older.jpg")
    assert look_up(list_gallery(tmp_path), "%Y-%m-%d_%H-%M-%S") == {
        "gate/2024-05-03_23-59-50.jpg": ("gate", "date", START),
        "gate/exif.jpg": ("gate", "date", NOON),
        "gate/none.jpg": ("gate", "order", 3),
        "gate/older.jpg": ("gate", "order", 4),
    }


def test_the_order_of_each_camera_counts():
    frames = FrameList(Path("frames"), ["1.jpg", "2.jpg", "a/1.jpg", "a/b/9.jpg", "a/b/10.jpg"])
    assert look_up(frames) == {
        "1.jpg": ("frames/", "order", 1),
        "2.jpg": ("frames/", "order", 2),
        "a/1.jpg": ("a", "order", 1),
        "a/b/9.jpg": ("a/b", "order", 1),
        "a/b/10.jpg": ("a/b", "order", 2),
    }


def test_cameras_that_alternate_in_one_folder():
    frames = FrameList(Path(), ["1_a.jpg", "1_b.jpg", "2_a.jpg", "2_b.jpg", "3.jpg"])
    assert [taken[::2] for taken in look_up(frames, "*_{camera}").values()] == [
        *(("a", 1), ("b", 1), ("a", 2), ("b", 2)),
        ("./", 1),
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, ("gate/1.mp4", "start", 2.5)),
        ("{camera}/*", ("gate", "start", 2.5)),
        ("{camera}/{frame/25}", ("gate", "start", 2.5)),  # a video's number is none of a frame
        ("{camera}/{frame}", ("gate", "start", 2.5)),
    ],
)
def test_a_video_is_a_camera_and_its_seconds_are_the_time(pattern, expected):
    assert look_up([frame("gate/1.mp4", 2.5)], pattern) == {"gate/1.mp4@00:00:02.500": expected}


def test_a_name_says_when_a_video_began():
    later = START + timedelta(seconds=2.5)
    for pattern, camera in (("{camera}_%Y%m%d-%H%M%S", "gate"), ("*_%Y%m%d-%H%M%S", "gate_20240503-235950.mp4")):
        frames = [frame("gate_20240503-235950.mp4", 2.5)]
        assert look_up(frames, pattern) == {"gate_20240503-235950.mp4@00:00:02.500": (camera, "date", later)}
