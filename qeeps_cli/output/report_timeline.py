"""The timeline of a report: a lane for each camera, a bar for each sighting, as inline SVG.

Places are attributes in percent, for the page's policy allows no style but its own. A bar is a line with round ends, so
that a sighting of a moment is a dot, and a link to its best match, so that it works without the script.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from qeeps_cli.gallery import natural_key
from qeeps_cli.output.report_source import ReportSearch, ReportSighting
from qeeps_cli.output.report_text import shown
from qeeps_cli.output.wording import count, sighting_end, sightings_found
from qeeps_cli.sightings.grouping import CLOCKS, FrameTime

SIGHTINGS, ALL_SIGHTINGS, LEAST = 300, 3000, 5
TICKS = 6  # at most so many steps of a scale
MARGIN = 1.5  # percent at both ends, where a bar's round end reaches to

_SECOND = 1_000_000
_DAY = 86_400
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY)
_AXES = {
    "date": "Date and time",
    "start": "Since the start of the video",
    "number": "Number of the frame",
    "order": "Place among the camera's frames",
}


@dataclass(frozen=True)
class Tick:
    """A mark of the scale. label: beside it; day: below that, where one begins."""

    reading: int
    label: str
    day: str = ""


@dataclass(frozen=True)
class Scale:
    """What is shown of a clock: readings (see `FrameTime`) from first to last, over the width of a lane."""

    clock: str
    first: int
    last: int

    def percent(self, reading: int) -> float:
        """50 where there is but one moment."""
        if self.first == self.last:
            return 50.0
        return MARGIN + (100 - 2 * MARGIN) * (reading - self.first) / (self.last - self.first)

    def ticks(self) -> list[Tick]:
        """At round times, from left to right."""
        step = self._step()
        start = -(-self.first // step) * step
        readings = range(start, self.last + 1, step) if self.first < self.last else [self.first]
        ticks: list[Tick] = []
        before = ""
        for reading in readings:
            label, day = self._label(reading, step)
            ticks.append(Tick(reading, label, day if day != before else ""))
            before = day
        return ticks

    def _step(self) -> int:
        span = self.last - self.first
        if span == 0:
            return _SECOND
        if self.clock in ("date", "start"):
            steps = [step * _SECOND for step in _STEPS]
            if fitting := [step for step in steps if span <= step * TICKS]:
                return fitting[0] if span >= TICKS * _SECOND / 2 else _round_step(span, 1)
            return _round_step(span, _DAY * _SECOND)
        return _round_step(span, 1)

    def _label(self, reading: int, step: int) -> tuple[str, str]:
        if self.clock == "start":
            return _with_fraction(sighting_end("start", reading // _SECOND), reading, step), ""
        if self.clock != "date":
            return str(reading), ""
        moment = datetime(1970, 1, 1) + timedelta(microseconds=reading)
        day = moment.date().isoformat()
        if step >= _DAY * _SECOND:
            return day, ""
        return _with_fraction(f"{moment:%H:%M:%S}" if step < 60 * _SECOND else f"{moment:%H:%M}", reading, step), day


def shown_sightings(search: ReportSearch, searches: int) -> list[ReportSighting]:
    """Those in the page, of which there are this many searches: of the first ranks, in the order of the results."""
    limit = min(SIGHTINGS, max(LEAST, ALL_SIGHTINGS // max(searches, 1)))
    sightings = search.sightings or ()
    kept = set(sorted(range(len(sightings)), key=lambda place: sightings[place].best)[:limit])
    return [sighting for place, sighting in enumerate(sightings) if place in kept]


def timeline(search: ReportSearch, number: int, searches: int) -> Iterator[str]:
    """The HTML of search `number` of so many. Nothing where no sightings were asked for."""
    if search.sightings is None:
        return
    found = sightings_found(search.sightings, search.rules)
    yield '<section class="timeline" aria-label="Sightings">'
    yield f'<p class="sightings-found">{found[0].upper()}{found[1:]}</p>'
    sightings = shown_sightings(search, searches)
    numbered = list(enumerate(sightings))
    for clock in CLOCKS:
        if of_clock := [(place, sighting) for place, sighting in numbered if sighting.clock == clock]:
            yield from _lanes(of_clock, number)
    if sightings:
        yield '<p class="timeline-foot"><button type="button" class="all-matches" hidden>Show all matches</button></p>'
        yield from _table(sightings, number)
    yield "</section>"


def _lanes(numbered: Sequence[tuple[int, ReportSighting]], number: int) -> Iterator[str]:
    """The cameras of one clock, under one scale."""
    clock = numbered[0][1].clock
    readings = [end for _, sighting in numbered for end in _ends(sighting)]
    scale = Scale(clock, min(readings), max(readings))
    ticks = scale.ticks()
    cameras: dict[str, list[tuple[int, ReportSighting]]] = {}
    for place, sighting in numbered:
        cameras.setdefault(sighting.camera, []).append((place, sighting))
    grid = "".join(f'<line class="grid" {_across(scale, tick.reading)} y1="0" y2="100%"/>' for tick in ticks)
    yield f'<div class="lanes" role="group" aria-label="{_AXES[clock]}">'
    for camera in sorted(cameras, key=natural_key):
        bars = "".join(_bar(place, sighting, scale, number) for place, sighting in cameras[camera])
        name = shown(camera)
        yield f'<div class="lane"><span class="camera" title="{name}"><bdi>{name}</bdi></span>'
        yield f'<svg class="track" role="group" aria-label="{name}">{grid}{bars}</svg></div>'
    yield f'<div class="lane axis" aria-hidden="true"><span class="camera">{_axis(numbered)}</span>'
    yield f'<svg class="track">{"".join(_tick(tick, scale) for tick in ticks)}</svg></div></div>'


def _bar(place: int, sighting: ReportSighting, scale: Scale, number: int) -> str:
    first, last = (scale.percent(end) for end in _ends(sighting))
    frames = count(sighting.frames, "frame")
    label = shown(f"{sighting.camera}, {_when(sighting)}, {frames}, score {sighting.score:.3f}")
    line = f'x1="{first:.2f}%" x2="{last:.2f}%" y1="50%" y2="50%"'
    # A line has no height, and so nothing to click for whoever goes by the outline of elements.
    target = f'<rect x="{first - MARGIN / 2:.2f}%" y="10%" width="{last - first + MARGIN:.2f}%" height="80%"/>'
    return (
        f'<a class="sighting" href="#m{number}-{sighting.best}" data-sighting="{place}" aria-label="{label}">'
        f'<title>{label}</title>{target}<line class="ring" {line}/><line class="bar-line" {line}/></a>'
    )


def _tick(tick: Tick, scale: Scale) -> str:
    percent = scale.percent(tick.reading)
    anchor = "start" if percent < 6 else "end" if percent > 94 else "middle"
    lines = [(14, tick.label), *([(29, tick.day)] if tick.day else [])]
    place = f'x="{percent:.2f}%" text-anchor="{anchor}"'
    return "".join(f'<text class="tick" {place} y="{y}">{text}</text>' for y, text in lines)


def _table(sightings: Sequence[ReportSighting], number: int) -> Iterator[str]:
    """The same for eyes that rather read, and for machines that do."""
    yield '<details class="sighting-table"><summary>As a table</summary><div><table><thead><tr>'
    heads = "Camera", "First", "Last", "Frames", "Score", "Best match"
    yield "".join(f'<th scope="col">{head}</th>' for head in heads)
    yield "</tr></thead><tbody>"
    for sighting in sightings:
        ends = "".join(f"<td>{_end(sighting, end)}</td>" for end in (sighting.first, sighting.last))
        link = f'<a href="#m{number}-{sighting.best}">match {sighting.best}</a>'
        yield (
            f"<tr><td><bdi>{shown(sighting.camera)}</bdi></td>{ends}"
            f"<td>{sighting.frames}</td><td>{sighting.score:.3f}</td><td>{link}</td></tr>"
        )
    yield "</tbody></table></div></details>"


def _ends(sighting: ReportSighting) -> list[int]:
    """Readings, the earlier one first whatever a results.json says."""
    return sorted(FrameTime(sighting.clock, end).reading for end in (sighting.first, sighting.last))


def _when(sighting: ReportSighting) -> str:
    first, last = _end(sighting, sighting.first), _end(sighting, sighting.last)
    return first if first == last else f"{first} to {last}"


def _end(sighting: ReportSighting, end: datetime | float | int) -> str:
    zone = " UTC" if isinstance(end, datetime) and end.tzinfo is not None else ""
    return sighting_end(sighting.clock, end.astimezone(UTC).replace(tzinfo=None) if zone else end) + zone


def _axis(numbered: Sequence[tuple[int, ReportSighting]]) -> str:
    """What the scale counts, where that is not plain."""
    first = numbered[0][1]
    if first.clock == "date":
        return "UTC" if first.first.tzinfo is not None else ""
    return {"start": "since its start", "number": "frame number", "order": "frame of camera"}[first.clock]


def _across(scale: Scale, reading: int) -> str:
    percent = f"{scale.percent(reading):.2f}%"
    return f'x1="{percent}" x2="{percent}"'


def _round_step(span: int, unit: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... units of which `span` has at most TICKS."""
    step, factors = unit, (2, 2.5, 2)
    turn = 0
    while span > step * TICKS:
        step = int(step * factors[turn % 3])
        turn += 1
    return step


def _with_fraction(text: str, reading: int, step: int) -> str:
    """With thousandths of a second where steps are less than one."""
    return text if step >= _SECOND else f"{text}.{reading % _SECOND // 1000:03}"
