"""Sightings out of frames of which it is known when and by which camera they were taken."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from qeeps_cli.gallery import natural_key
from qeeps_cli.types import Match, Sighting

CLOCKS = ("date", "start", "number", "order")  # as `Sighting` explains them
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class FrameTime:
    """When a frame was taken: a value of one of CLOCKS. origin: what the clock began with, such as a video, where a
    camera may have several."""

    clock: str
    value: datetime | float | int
    origin: str = ""

    @property
    def reading(self) -> int:
        """Microseconds or frames, exact, so that a gap of just the allowed length is one."""
        if isinstance(self.value, datetime):
            return (_in_utc(self.value) - _EPOCH) // _MICROSECOND
        return round(self.value * 1_000_000) if self.counts_seconds else int(self.value)

    @property
    def counts_seconds(self) -> bool:
        return self.clock in ("date", "start")

    @property
    def scale(self) -> tuple[str, bool, str]:
        """Only times of the same scale can be compared."""
        return self.clock, isinstance(self.value, datetime) and self.value.tzinfo is not None, self.origin


@dataclass(frozen=True)
class Seen:
    """A frame's match with its camera and time."""

    match: Match
    camera: str
    time: FrameTime


def group_seen(seen: Iterable[Seen], gap: float) -> list[Sighting]:
    """Sightings by date, then those that know none by camera and time.

    gap: the most seconds, or frames where these are counted, between two consecutive matches of one sighting. The order
    in which frames come does not matter.
    """
    found: list[tuple[tuple, Sighting]] = []
    for (camera, _), matches in groupby(sorted(seen, key=_order), key=lambda one: (one.camera, one.time.scale)):
        for run in _runs(list(matches), gap):
            first, last = run[0].time, run[-1].time
            sighting = Sighting(camera, first.clock, first.value, last.value, tuple(one.match for one in run))
            found.append((_place(sighting, run[0]), sighting))
    return [sighting for _, sighting in sorted(found, key=lambda pair: pair[0])]


def _order(seen: Seen) -> tuple:
    return seen.camera, seen.time.scale, seen.time.reading, natural_key(seen.match.frame.name), seen.match.rank


def _runs(seen: list[Seen], gap: float) -> list[list[Seen]]:
    """One camera's frames of one scale, by time, cut where nothing was seen for longer than gap."""
    runs: list[list[Seen]] = []
    for one in seen:
        unit = 1_000_000 if one.time.counts_seconds else 1
        if runs and one.time.reading - runs[-1][-1].time.reading <= gap * unit:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _place(sighting: Sighting, first: Seen) -> tuple:
    """Dates of all cameras make one sequence: the way that somebody went. Other clocks belong to their camera."""
    camera = natural_key(sighting.camera)
    of_camera = camera, natural_key(first.time.origin), first.time.reading
    by_time = (first.time.reading, camera) if sighting.clock == "date" else of_camera
    return CLOCKS.index(sighting.clock), *by_time, first.time.scale, first.match.rank


def _in_utc(date: datetime) -> datetime:
    """Without a zone; one that never had any is taken as it is."""
    return date if date.tzinfo is None else date.astimezone(UTC).replace(tzinfo=None)
