"""The sightings of a search: which of its matches count, and what is worth telling of their times."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qeeps_cli.errors import UsageError
from qeeps_cli.sightings.grouping import Seen, group_seen
from qeeps_cli.sightings.time_pattern import TimePattern
from qeeps_cli.sightings.timetable import Timetable
from qeeps_cli.types import GalleryFrame, Match, SearchResult, Sighting

# Scores are calibrated to frames' best matches: half of those that score just this were the person.
SCORE = 0.5
GAP = 10.0


@dataclass(frozen=True)
class SightingRules:
    """gap: the most seconds between two matches of a sighting; frames where these have no time. score: what a match
    needs to count. time_pattern: of the names, see `TimePattern`. Raises UsageError for what cannot be."""

    gap: float = GAP
    score: float = SCORE
    time_pattern: str | None = None

    def __post_init__(self):
        if not math.isfinite(self.gap) or self.gap < 0:
            raise UsageError(f"--sighting-gap expects seconds or frames, 0 or more, got {self.gap!r}.")
        if not math.isfinite(self.score):
            raise UsageError(f"--sighting-score expects a finite number, got {self.score!r}.")
        self.pattern()

    def pattern(self) -> TimePattern | None:
        """Raises UsageError."""
        return None if self.time_pattern is None else TimePattern(self.time_pattern)

    def timetable(self, frames: Sequence[GalleryFrame]) -> Timetable:
        """Of a gallery. Raises UsageError where none of its names fits the pattern."""
        return Timetable(frames, self.pattern())

    def to_dict(self) -> dict:
        """As JSON types."""
        return {"gap": self.gap, "score": self.score, "time_pattern": self.time_pattern}


def find_sightings(result: SearchResult, rules: SightingRules, timetable: Timetable | None = None) -> list[Sighting]:
    """The sightings of one search. timetable: of its gallery, where several searches share it. Raises UsageError as
    `SightingRules.timetable` does."""
    counted = _counted(result, rules)
    timetable = timetable or rules.timetable(result.frames or [match.frame for match in counted])
    taken = timetable.look_up(match.frame for match in counted)
    seen = (Seen(match, taken[match.frame.name].camera, taken[match.frame.name].time) for match in counted)
    return group_seen(seen, rules.gap)


def with_sightings(result: SearchResult, rules: SightingRules, timetable: Timetable) -> SearchResult:
    """The result with its sightings, the rules among its parameters, and notes on times that are not known."""
    sightings = find_sightings(result, rules, timetable)
    return replace(
        result,
        sightings=tuple(sightings),
        parameters={**result.parameters, "sightings": rules.to_dict()},
        notes=[*result.notes, *timetable.notes, *_notes(result, sightings, rules)],
    )


def _counted(result: SearchResult, rules: SightingRules) -> list[Match]:
    """The best match of each frame, if it scores enough."""
    return [match for match in result.best_of_frames() if match.score >= rules.score]


def _notes(result: SearchResult, sightings: Sequence[Sighting], rules: SightingRules) -> list[str]:
    frames = Counter()
    for sighting in sightings:
        frames[sighting.clock] += len(sighting.matches)
    notes = []
    if frames["order"]:
        notes.append(
            f"the time of {frames['order']} of {frames.total()} frames with sightings is not known: their order in the "
            "camera counts, and the gap is one of frames. --time-pattern reads times from names"
        )
    if frames["number"]:
        notes.append("sightings go by the numbers of frames, and so does their gap; {frame/25} makes seconds of them")
    top_k, matches = result.parameters.get("top_k"), result.matches
    if top_k is not None and len(matches) >= top_k and matches[-1].score >= rules.score:
        notes.append(f"sightings are made of the {top_k} best matches; without --top-k there may be more")
    return notes
