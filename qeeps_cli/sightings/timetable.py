"""When and by which camera a frame was taken: by its video, its name, its EXIF data, or its place in the gallery."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from pathlib import Path

from qeeps_cli.images import read_date_taken
from qeeps_cli.sightings.grouping import FrameTime
from qeeps_cli.sightings.time_pattern import NamedTime, TimePattern, check_names
from qeeps_cli.types import GalleryFrame


@dataclass(frozen=True)
class Taken:
    """camera: its name. time: of the frame."""

    camera: str
    time: FrameTime


class Timetable:
    """Of the frames of a gallery.

    frames: all of them in their order, which counts where nothing else says when. pattern: for names; notes then tells
    of those that do not fit. Raises UsageError where none does.
    """

    def __init__(self, frames: Sequence[GalleryFrame], pattern: TimePattern | None = None):
        self.frames = frames
        self.pattern = pattern
        names = (name for name, _ in groupby(frame.file_name for frame in frames))  # a video's once
        note = None if pattern is None else check_names(pattern, names)
        self.notes = [note] if note else []
        self._dates: dict[Path, datetime | None] = {}  # several queries ask for the same frames

    def look_up(self, frames: Iterable[GalleryFrame]) -> dict[str, Taken]:
        """By the names of the frames."""
        taken, unknown = {}, {}
        for frame in frames:
            named = self._named(frame)
            camera = named.camera or _camera(frame)
            time = self._time(frame, named)
            if time is None:
                unknown[frame.name] = camera
            else:
                taken[frame.name] = Taken(camera, time)
        if unknown:
            places = self._places
            taken |= {name: Taken(camera, FrameTime("order", places[name])) for name, camera in unknown.items()}
        return taken

    def _time(self, frame: GalleryFrame, named: NamedTime) -> FrameTime | None:
        if frame.moment is not None:
            seconds = frame.moment.seconds
            if named.date is None:
                return FrameTime("start", seconds, frame.file_name)
            return FrameTime("date", named.date + timedelta(seconds=seconds))
        if named.date is not None:
            return FrameTime("date", named.date)
        if named.seconds is not None:
            return FrameTime("start", named.seconds)
        if named.number is not None:
            return FrameTime("number", named.number)
        if frame.path not in self._dates:
            self._dates[frame.path] = read_date_taken(frame.path)
        date = self._dates[frame.path]
        return None if date is None else FrameTime("date", date)

    def _named(self, frame: GalleryFrame) -> NamedTime:
        """What the name says. A video's is that of its start: the number of a frame in it is none."""
        named = (self.pattern and self.pattern.read(frame.file_name)) or NamedTime()
        return named if frame.moment is None else replace(named, number=None, seconds=None)

    @cached_property
    def _places(self) -> dict[str, int]:
        """Of all frames, by name: how many frames their cameras had taken by then, from 1."""
        counts: Counter[str] = Counter()
        places = {}
        for frame in self.frames:
            camera = self._named(frame).camera or _camera(frame)
            counts[camera] += 1
            places[frame.name] = counts[camera]
        return places


def _camera(frame: GalleryFrame) -> str:
    """The video, or else the folder of the frame; of frames that lie in the gallery itself, `frames/`."""
    if frame.moment is not None:
        return frame.file_name
    folder, _, _ = frame.name.rpartition("/")
    return folder or f"{frame.path.parent.name or frame.path.parent.as_posix().rstrip('/')}/"
