"""From the people of single frames to one ranking, with bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qeeps_cli.searching.galleries import nothing_searched
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.types import Detections, GalleryFrame, Match, Query, SearchResult, Skipped

LISTED = 10_000  # matches that a ranking keeps beside the best of each frame, unless top_k says how many in all
_MANY_PARTS = 1_000


@dataclass(frozen=True)
class Rows:
    """Scored people: frames (n,) places in the gallery, scores and person_scores (n,), boxes (n, 4) xyxy pixels."""

    frames: np.ndarray
    scores: np.ndarray
    person_scores: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, frame: int, found: Detections) -> "Rows":
        return cls(np.full(len(found), frame), found.scores, found.person_scores, found.boxes)

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        return cls(*(np.concatenate(columns) for columns in zip(*map(Rows._columns, parts), strict=True)))

    def __len__(self) -> int:
        return len(self.frames)

    def pick(self, index: np.ndarray) -> "Rows":
        return Rows(*(column[index] for column in self._columns()))

    def ranked(self) -> "Rows":
        """By descending score; ties in the order of the gallery, then by box."""
        return self.pick(np.lexsort((*self.boxes.T[::-1], self.frames, -self.scores)))

    def best_of_frames(self) -> "Rows":
        """The first row of each frame, for ranked rows."""
        return self.pick(np.unique(self.frames, return_index=True)[1])

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.frames, self.scores, self.person_scores, self.boxes


_NONE = Rows(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))


class Ranking:
    """The best matches of one query, whatever the order in which frames and rows come.

    Kept are, with options.top_k, that many; else each frame's best match and the LISTED best of all. What does not
    reach options.min_score is dropped.
    """

    def __init__(self, query: Query, gallery: Sequence[GalleryFrame], options: SearchOptions):
        self.query = query
        self.gallery = gallery
        self.options = options
        self.limit = options.top_k or LISTED
        self.lowest = -np.inf  # no row that scores less can be among the `limit` best
        self.searched = 0
        self._listed: list[Rows] = []
        self._best: list[Rows] = []
        self._skipped: list[Skipped] = []
        self._notes: list[tuple[int, str]] = []

    @property
    def keeps_best_of_frames(self) -> bool:
        return self.options.top_k is None

    def see(self, frame: int, digest: str, note: str | None = None) -> bool:
        """A frame that can be searched. False: it has to be left out, because it is the query's own picture."""
        own = digest == self.query.digest
        name = self.gallery[frame].name if own or note else ""
        if own and self.options.exclude_query:
            self._notes.append((frame, f"{name} is the query's own picture and was left out"))
            return False
        self.searched += 1
        if note:
            self._notes.append((frame, f"{name}: {note}"))
        if own:
            text = "is the query's own picture, so a match in it proves nothing; --exclude-query leaves it out"
            self._notes.append((frame, f"{name} {text}"))
        return True

    def remark(self, frame: int, text: str) -> None:
        """A note about a frame, for the result."""
        self._notes.append((frame, text))

    def skip(self, frame: int, reason: str) -> None:
        """A frame that cannot be searched."""
        self._skipped.append(Skipped(self.gallery[frame].name, reason))

    def add(self, rows: Rows) -> None:
        """People of frames; each frame's rows come together."""
        if self.options.min_score is not None:
            rows = rows.pick(rows.scores >= self.options.min_score)
        if not len(rows):
            return
        if self.keeps_best_of_frames:
            self._best.append(rows.ranked().best_of_frames())
            if len(self._best) == _MANY_PARTS:
                self._best = [Rows.joined(self._best)]
        self._listed.append(rows.pick(rows.scores >= self.lowest))
        if sum(map(len, self._listed)) >= 2 * self.limit:
            self._prune()

    def kept(self) -> Rows:
        """What is kept of all rows so far, ranked. Added to another ranking, it counts there as all of them would."""
        self._prune()
        rows = self._listed[0]
        if self._best:
            others = Rows.joined(self._best)
            listed = np.isin(others.frames, rows.frames)  # whose best match is then among them
            rows = Rows.joined([rows, others.pick(~listed)]).ranked()
        return rows

    def result(self) -> SearchResult:
        """The ranking, without `parameters`. Raises NothingToSearchError when no frame could be searched."""
        notes = [text for _, text in sorted(self._notes, key=lambda note: note[0])]
        if not self.searched:
            raise nothing_searched(self._skipped, notes)
        matches = self._matches()
        if self.keeps_best_of_frames and len(matches) >= LISTED:
            notes.append(
                f"listed are each frame's best match and the {LISTED} best matches of all; --top-k N lists the N best"
            )
        return SearchResult(self.query, matches, self._skipped, self.searched, parameters={}, notes=notes)

    def _prune(self) -> None:
        rows = Rows.joined([_NONE, *self._listed]).ranked().pick(np.s_[: self.limit])
        self._listed = [rows]
        if len(rows) == self.limit:
            self.lowest = rows.scores[-1]

    def _matches(self) -> list[Match]:
        rows = self.kept()
        frames = {frame: self.gallery[frame] for frame in np.unique(rows.frames).tolist()}
        columns = (column.tolist() for column in rows._columns())
        return [
            Match(rank, frames[frame], tuple(box), score, person_score)
            for rank, (frame, score, person_score, box) in enumerate(zip(*columns, strict=True), start=1)
        ]
