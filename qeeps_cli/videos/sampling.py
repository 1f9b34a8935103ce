"""Which frames of a video are searched."""

import re
from dataclasses import dataclass

import numpy as np

from qeeps_cli.clock import format_clock, parse_clock
from qeeps_cli.errors import UsageError
from qeeps_cli.videos.timeline import Moments, Timeline

DEFAULT_EVERY = "1s"
_EVERY = re.compile(r"(\d+)(f?)|(\d+(?:\.\d*)?|\.\d+)s")
_TOLERANCE = 1  # millisecond; times of frames are rounded to the units of their file


@dataclass(frozen=True)
class Every:
    """How densely to look. frames: each N-th frame of a video, or milliseconds: the first frame in each such interval.
    pictures: each N-th picture too; None: all of them."""

    frames: int | None = None
    milliseconds: float | None = None
    pictures: int | None = None


@dataclass(frozen=True)
class Sampling:
    """Which frames of videos. start, end: milliseconds since the first frame, both included; None: all there are."""

    every: Every
    start: int | None = None
    end: int | None = None

    def pick(self, timeline: Timeline) -> Moments:
        """May be none."""
        times = timeline.milliseconds
        first = 0 if self.start is None else int(np.searchsorted(times, self.start))
        stop = len(times) if self.end is None else int(np.searchsorted(times, self.end, side="right"))
        places = np.arange(first, stop)
        if self.every.frames is not None:
            return timeline.moments(places[:: self.every.frames])
        since = times[places] - (self.start or 0) + _TOLERANCE
        interval = (since // self.every.milliseconds).astype(np.int64)
        return timeline.moments(places[np.flatnonzero(np.diff(interval, prepend=-1))])


def parse_every(every: int | str | None) -> Every:
    """`25`: each 25th frame and each 25th picture. `25f`: each 25th frame. `0.5s`: a frame every half second. None: the
    default, a frame a second. Raises UsageError."""
    match = _EVERY.fullmatch(DEFAULT_EVERY if every is None else str(every).strip())
    count, of_frames, seconds = match.groups() if match else (None, None, "0")
    if count is None and float(seconds) >= 0.001:
        return Every(milliseconds=float(seconds) * 1000)
    if count is None or int(count) < 1:
        raise UsageError(
            f"--every expects a whole number of at least 1, or for videos seconds such as 1s or frames such as 25f, "
            f"got {every!r}."
        )
    return Every(frames=int(count), pictures=None if of_frames else int(count))


def parse_sampling(
    every: int | str | None = None, start: str | float | None = None, end: str | float | None = None
) -> Sampling:
    """every: see `parse_every`. start, end: see `parse_clock`. Raises UsageError."""
    first = None if start is None else parse_clock(start, "--start")
    last = None if end is None else parse_clock(end, "--end")
    if first is not None and last is not None and last < first:
        raise UsageError(
            f"--end expects a time that is not before --start, {format_clock(first)}, got {format_clock(last)}."
        )
    return Sampling(parse_every(every), first, last)
