"""From the answers of single frames to one ranking."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from qeeps_cli.errors import NothingToSearchError
from qeeps_cli.searching.exact import FrameAnswer
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult, Skipped

_REASONS_TOLD = 10


def rank_answers(answers: Iterable[FrameAnswer], query: Query, options: SearchOptions) -> SearchResult:
    """All frames' matches in descending score; ties by frame name, then box. `parameters` is left empty.

    Embeddings are dropped as the answers come, so that a ranking of many frames fits in memory. Raises
    NothingToSearchError when no frame could be searched.
    """
    ranking = _Ranking(options.min_score)
    for answer in answers:
        if answer.detections is None:
            ranking.skipped.append(Skipped(answer.frame.name, answer.skipped or "no reason given"))
        elif answer.digest == query.digest and options.exclude_query:
            ranking.notes.append(f"{answer.frame.name} is the query's own picture and was left out")
        else:
            ranking.add(answer)
            if answer.digest == query.digest:
                ranking.notes.append(
                    f"{answer.frame.name} is the query's own picture, so a match in it proves nothing; "
                    "--exclude-query leaves it out"
                )
    if not ranking.frames:
        raise NothingToSearchError(_nothing_searched(ranking))
    return SearchResult(
        query=query,
        matches=ranking.matches(options.top_k),
        skipped=ranking.skipped,
        frames_searched=ranking.frames,
        parameters={},
        notes=ranking.notes,
    )


@dataclass
class _Ranking:
    min_score: float | None
    frames: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _found: list[tuple[float, float, tuple[float, ...], GalleryFrame]] = field(default_factory=list)

    def add(self, answer: FrameAnswer) -> None:
        self.frames += 1
        if answer.note:
            self.notes.append(f"{answer.frame.name}: {answer.note}")
        found = answer.detections
        for box, score, person_score in zip(
            found.boxes.tolist(), found.scores.tolist(), found.person_scores.tolist(), strict=True
        ):
            if self.min_score is None or score >= self.min_score:
                self._found.append((score, person_score, tuple(box), answer.frame))

    def matches(self, top_k: int | None) -> list[Match]:
        ordered = sorted(self._found, key=lambda found: (-found[0], found[3].name, found[2]))
        return [
            Match(rank, frame, box, score, person_score)
            for rank, (score, person_score, box, frame) in enumerate(ordered[:top_k], start=1)
        ]


def _nothing_searched(ranking: _Ranking) -> str:
    lines = [f"  {item.name}: {item.reason}" for item in ranking.skipped[:_REASONS_TOLD]]
    if len(ranking.skipped) > _REASONS_TOLD:
        lines.append(f"  and {len(ranking.skipped) - _REASONS_TOLD} more")
    reasons = "\n".join([*lines, *(f"  {note}" for note in ranking.notes)])
    return f"nothing to search: none of the gallery's images could be used.\n{reasons}"
