"""Runs a search over a benchmark's queries and scores it.

A search that answers frame by frame (QEEPS, whose features depend on the query) goes through `score_query`. One whose
detections are the same for every query (OIM, cached QEEPS) goes through `DetectionTable` and `score_table`, which keeps
PRW's 2,057 queries × 6,111 frames practical. Both give the same score for the same detections.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.metrics import (
    QueryEvaluator,
    QueryScore,
    RankedDetection,
    covers,
    find_match,
    score_pool,
)
from qeeps_cli.types import Box, LabelledQuery


class FrameAnswer(NamedTuple):
    """What a search found in one frame.

    boxes: (N, 4) xyxy pixels of the frame, scores: (N,), the match with the query, in any order. proposals: (P, 4)
    xyxy, for max recall.
    """

    frame: str
    boxes: np.ndarray
    scores: np.ndarray
    proposals: np.ndarray | None = None


Search = Callable[[LabelledQuery], Iterable[tuple]]


def score_queries(frames: FrameSet, search: Search, keep: int = 0) -> Iterator[QueryScore]:
    """Yields each query's score as soon as it is known; `SearchScore(tuple(...))` makes the means of them.

    search: gives a FrameAnswer, or a tuple (frame, boxes, scores), for each distinct frame of a query's gallery, in any
    order. keep: how many of the best detections to keep in each score's ranking.
    """
    for query in frames.queries:
        yield score_query(frames, query, search(query), keep)


def score_query(frames: FrameSet, query: LabelledQuery, answers: Iterable[tuple], keep: int = 0) -> QueryScore:
    """Scores one query. A gallery frame without an answer counts as one without detections, and in `unanswered`.

    Raises ValueError for an answer about a frame that is not in the gallery or was answered before.
    """
    scorer = QueryScorer(frames, query, keep)
    for answer in answers:
        scorer.add(FrameAnswer(*answer))
    return scorer.result()


class QueryScorer:
    """Scores one query from answers that come one by one, in any order; several may be open at a time."""

    def __init__(self, frames: FrameSet, query: LabelledQuery, keep: int = 0) -> None:
        self.query = query
        self._truth = find_truth(frames, query)
        self._evaluator = QueryEvaluator(query.name, keep)
        self._open: dict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(query.gallery):
            self._open[name].append(position)

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The distinct frames of the gallery."""
        return frozenset(self.query.gallery)

    @cached_property
    def held(self) -> frozenset[str]:
        """The frames of the gallery that hold the person."""
        return frozenset(self.query.gallery[position] for position in self._truth)

    def add(self, answer: FrameAnswer) -> None:
        """Raises ValueError for a frame that is not in the gallery or was answered before."""
        if answer.frame not in self._open:
            raise ValueError(
                f"query {self.query.name}: frame {answer.frame!r} is not in the gallery or was answered before"
            )
        for position in self._open.pop(answer.frame):
            truth = self._truth.get(position)
            self._evaluator.add_frame(
                truth,
                answer.boxes,
                answer.scores,
                frame=answer.frame,
                position=position,
                proposals=answer.proposals if truth is not None else None,
            )

    def result(self) -> QueryScore:
        """The score; frames without an answer count as frames without detections."""
        unanswered = [position for places in self._open.values() for position in places]
        for position in unanswered:
            self._evaluator.add_frame(self._truth.get(position), np.empty((0, 4)), np.empty(0), position=position)
        return replace(self._evaluator.result(), unanswered=len(unanswered))


def find_truth(frames: FrameSet, query: LabelledQuery) -> dict[int, Box]:
    """Gallery position to the xyxy box of the query's person, for the frames that hold it."""
    if query.truth is not None:
        return dict(query.truth)
    held = frames.appearances.get(query.person_id, {})
    return {position: held[name] for position, name in enumerate(query.gallery) if name in held}


@dataclass(frozen=True)
class DetectionTable:
    """Detections of many frames in flat arrays.

    frames: F distinct names. offsets: (F + 1,) int64, frame i owns rows offsets[i] to offsets[i + 1]. boxes: (M, 4)
    xyxy pixels of each row's frame.
    """

    frames: tuple[str, ...]
    offsets: np.ndarray
    boxes: np.ndarray

    @classmethod
    def from_frames(cls, detections: Iterable[tuple[str, np.ndarray]]) -> "DetectionTable":
        """From (frame name, (N, 4) xyxy boxes) pairs."""
        detections = list(detections)
        counts = [len(boxes) for _, boxes in detections]
        return cls(
            frames=tuple(name for name, _ in detections),
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            boxes=np.concatenate([np.empty((0, 4), np.float32), *(boxes for _, boxes in detections)]),
        )

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.frames)}


def score_table(
    frames: FrameSet,
    query: LabelledQuery,
    table: DetectionTable,
    scores: np.ndarray,
    keep: int = 0,
    proposals: Mapping[str, np.ndarray] | None = None,
) -> QueryScore:
    """Scores one query whose match with every row of the table is known.

    scores: (M,), such as the cosines of L2-normalised features. proposals: (P, 4) xyxy by frame name, for max recall;
    frames without the person are not asked for. The same result as score_query, without a call a frame.
    """
    owners = np.array([table.index.get(name, -1) for name in query.gallery], np.int64)
    starts, counts = table.offsets[owners], np.where(owners < 0, 0, table.offsets[owners + 1] - table.offsets[owners])
    ends = np.cumsum(counts)
    rows = np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())
    pool = np.asarray(scores)[rows]
    labels = np.zeros(len(rows), bool)
    truth = find_truth(frames, query)
    for position, box in truth.items():
        own = slice(ends[position] - counts[position], ends[position])
        match = find_match(box, table.boxes[rows[own]], pool[own])
        if match is not None:
            labels[own.start + match] = True
    score, order = score_pool(query.name, labels, pool, len(truth))
    best = order[:keep]
    ranking = tuple(
        RankedDetection(
            query.gallery[position], tuple(table.boxes[rows[at]].tolist()), float(pool[at]), bool(labels[at])
        )
        for at, position in zip(best, np.searchsorted(ends, best, side="right"), strict=True)
    )
    return replace(
        score,
        count_covered=_count_covered(query, truth, proposals),
        unanswered=int((owners < 0).sum()),
        ranking=ranking,
    )


def _count_covered(
    query: LabelledQuery, truth: dict[int, Box], proposals: Mapping[str, np.ndarray] | None
) -> int | None:
    """Frames whose person a proposal covers; None where no frame with the person has proposals."""
    given = [(box, query.gallery[position]) for position, box in truth.items()]
    known = [(box, proposals[name]) for box, name in given if proposals is not None and name in proposals]
    return sum(bool(covers(box, found).any()) for box, found in known) if known else None


def limit(frames: FrameSet, queries: int | None = None, gallery: int | None = None) -> FrameSet:
    """A smaller benchmark: the first queries, and galleries cut as CUHK-SYSU makes its own.

    gallery: frames a query is searched in: those that hold the person, then evenly spaced others, in gallery order. The
    scores of such a run are not comparable with published ones.
    """
    chosen = frames.queries if queries is None else frames.queries[:queries]
    if gallery is not None:
        chosen = tuple(_cut_gallery(frames, query, gallery) for query in chosen)
    return replace(frames, queries=chosen)


def _cut_gallery(frames: FrameSet, query: LabelledQuery, size: int) -> LabelledQuery:
    truth = find_truth(frames, query)
    others = [position for position in range(len(query.gallery)) if position not in truth]
    held = _evenly_spaced(sorted(truth), size)
    kept = sorted(held + _evenly_spaced(others, size - len(held)))
    return replace(
        query,
        gallery=tuple(query.gallery[position] for position in kept),
        truth=tuple((place, truth[position]) for place, position in enumerate(kept) if position in truth),
    )


def _evenly_spaced(items: list[int], count: int) -> list[int]:
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
