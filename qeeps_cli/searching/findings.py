"""What becomes of one query while a search runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from qeeps_cli.searching.ranking import Ranking, Rows
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.types import Detections, GalleryFrame, Match, Query, SearchResult

Tell = Callable[[list[Match]], None]


class Findings:
    """A ranking, the best score of anybody in the gallery, and who hears of matches before the ranking is complete.

    tell: gets, as soon as their scores are final, the matches that reach options.min_score, without ranks (0): each
    frame that was compared exactly, best first; at the end, best first too, those of the ranking that come from other
    frames. It hears of each frame once. Neither top_k nor the limit on listed matches holds for what is told.
    """

    def __init__(
        self, query: Query, gallery: Sequence[GalleryFrame], options: SearchOptions, tell: Tell | None = None
    ):
        self.ranking = Ranking(query, gallery, options)
        self.tell = tell
        self.best = -np.inf
        self._told: set[int] = set()

    def add(self, place: int, found: Detections) -> None:
        """What the exact comparison with one frame gave. place: the frame's, in the gallery."""
        self.see_scores(found.scores)
        rows = Rows.of(place, found)
        self.ranking.add(rows)
        if self.tell is not None:
            self._told.add(place)
            self.tell(self._matches(place, rows))

    def see_scores(self, scores: np.ndarray) -> None:
        """Scores (n,) of anybody, also of those that options.min_score drops."""
        self.best = max(self.best, scores.max(initial=-np.inf))

    def result(self) -> SearchResult:
        """The ranking with the best score. Raises NothingToSearchError as `Ranking.result` does."""
        result = self.ranking.result()
        if self.tell is not None:
            told = {self.ranking.gallery[place].name for place in self._told}
            self.tell([replace(match, rank=0) for match in result.matches if match.frame.name not in told])
        best = result.matches[0].score if result.matches else float(self.best)
        return replace(result, best_score=best if np.isfinite(best) else None)

    def _matches(self, place: int, rows: Rows) -> list[Match]:
        lowest = self.ranking.options.min_score
        rows = (rows if lowest is None else rows.pick(rows.scores >= lowest)).ranked()
        frame = self.ranking.gallery[place]
        columns = rows.scores.tolist(), rows.person_scores.tolist(), rows.boxes.tolist()
        return [
            Match(0, frame, tuple(box), score, person_score)
            for score, person_score, box in zip(*columns, strict=True)
        ]
