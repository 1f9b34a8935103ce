"""Sentences that pictures and the terminal share."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qeeps_cli.output.report_source import ReportSighting
    from qeeps_cli.types import SearchResult, Sighting


def not_found(result: "SearchResult") -> str:
    """Of a result without matches: `not found in 20 frames; the best candidate scored 0.12`."""
    where = f"not found in {count(result.frames_searched, 'frame')}"
    if result.best_score is None:
        return f"{where}; no people were seen in {'it' if result.frames_searched == 1 else 'them'}"
    return f"{where}; the best candidate scored {_below(result.best_score, result.parameters.get('min_score'))}"


def sightings_found(sightings: "Sequence[Sighting | ReportSighting]", rules: Mapping[str, float]) -> str:
    """`seen by 2 cameras in 5 sightings: frames of score 0.5 or more, at most 10 s apart`. rules: `gap`, `score`."""
    units = {"s" if sighting.clock in ("date", "start") else "frames" for sighting in sightings} or {"s"}
    unit = " or ".join(sorted(units, reverse=True)) if rules["gap"] != 1 or "s" in units else "frame"
    apart = f"at most {rules['gap']:g} {unit} apart"
    cameras = count(len({sighting.camera for sighting in sightings}), "camera")
    found = f"seen by {cameras} in {count(len(sightings), 'sighting')}" if sightings else "no sightings"
    return f"{found}: frames of score {rules['score']:g} or more, {apart}"


def sighting_end(clock: str, time: datetime | float | int) -> str:
    """The first or last time of a sighting, to the second: `2024-05-03 12:00:01`, `0:01:02`, `frame 17`."""
    if isinstance(time, datetime):
        return time.isoformat(" ", "seconds")
    if clock != "start":
        return f"frame {time}"
    minutes, seconds = divmod(int(time), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def mode_name(mode: str, parameters: Mapping[str, Any]) -> str:
    """How a search went about it, for a reader. parameters: of its result, or the document of a
    benchmark; older results lack some."""
    return f"{mode}, expanded" if parameters.get("expand") is True else mode


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 frame`, `2 frames`, `2 matches`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _below(score: float, limit: float | None) -> str:
    """The score with so many decimals that rounding does not lift it to the limit that it missed."""
    for decimals in range(2, 6):
        text = f"{score:.{decimals}f}"
        if limit is None or score >= limit or float(text) < limit:
            return text
    return f"{score:.6f}"
