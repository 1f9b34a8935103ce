"""Scores of a person search, as OIM's evaluation defines them (Xiao et al., CVPR 2017); all published results use them.

For a query, the detections of all gallery frames are pooled. In a frame that holds the person, the first detection in
descending score that overlaps the person enough is right; every other detection of every frame is wrong. AP is the
average precision over the pool times the share of the frames with the person in which it was found. IoU is continuous.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qeeps_cli.boxes import iou
from qeeps_cli.errors import NotANumberError
from qeeps_cli.types import Box

TOP_K = (1, 5, 10)
NAMED = 5  # how many queries a warning names before it only counts


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Σ (R_n − R_{n−1}) P_n over the distinct scores in descending order; 0 without a positive.

    labels, scores: (N,). The order within equal scores does not matter. The same as scikit-learn's
    average_precision_score.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    return _average_precision_sorted(np.asarray(labels, bool)[order], np.asarray(scores)[order])


def _average_precision_sorted(labels: np.ndarray, scores: np.ndarray) -> float:
    found = np.cumsum(labels)
    if not len(found) or not found[-1]:
        return 0.0
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each run of equal scores
    gained = np.diff(found[last], prepend=0) / found[-1]
    return float(np.sum(gained * found[last] / (last + 1)))


def match_threshold(box: Box) -> float:
    """The IoU from which a detection counts as the person of an xyxy box: lower for small people."""
    w, h = box[2] - box[0], box[3] - box[1]
    return min(0.5, w * h / ((w + 10) * (h + 10)))


def find_match(truth: Box, boxes: np.ndarray, scores: np.ndarray) -> int | None:
    """Index of the detection that counts as the person: the best score with enough overlap, the first among equals.

    boxes: (N, 4) xyxy, scores: (N,), in any order.
    """
    overlapping = np.flatnonzero(covers(truth, boxes))
    return int(overlapping[np.argmax(np.asarray(scores)[overlapping])]) if len(overlapping) else None


def covers(truth: Box, boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: which of (N, 4) xyxy boxes overlap the person enough."""
    return iou(boxes, np.asarray(truth))[:, 0] >= match_threshold(truth)


@dataclass(frozen=True)
class RankedDetection:
    """One place of a query's ranking. box: xyxy pixels."""

    frame: str
    box: Box
    score: float
    correct: bool


@dataclass(frozen=True)
class QueryScore:
    """How one query fared.

    ap: average precision × count_tp / count_gt. hits: k to whether the k best hold a right detection. count_gt: frames
    that hold the person. count_tp: those in which it was found. detections: size of the pool. count_covered: frames in
    which a proposal covers the person, None if no proposals were given. unanswered: gallery frames for which the search
    gave no answer. ranking: the best detections, as many as were asked for.
    """

    name: str
    ap: float
    hits: dict[int, bool]
    count_gt: int
    count_tp: int
    detections: int
    count_covered: int | None = None
    unanswered: int = 0
    ranking: tuple[RankedDetection, ...] = ()

    def to_json(self) -> dict:
        """As JSON types, without the ranking."""
        return {
            "query": self.name,
            "ap": self.ap,
            **{f"top{k}": hit for k, hit in self.hits.items()},
            "frames_with_person": self.count_gt,
            "frames_found": self.count_tp,
            "frames_covered": self.count_covered,
            "detections": self.detections,
            "frames_unanswered": self.unanswered,
        }


def score_pool(name: str, labels: np.ndarray, scores: np.ndarray, count_gt: int) -> tuple[QueryScore, np.ndarray]:
    """The score of a query's pooled detections, and the order in which they rank.

    labels: (N,) bool, scores: (N,), both in gallery order, which top-k keeps among equal scores (the published scripts
    sort unstably). Raises NotANumberError for a score that is not a finite number.
    """
    if not np.isfinite(scores).all():
        raise NotANumberError(
            f"query {name}: the search gave a score that is not a finite number; it cannot be ranked."
        )
    order = np.argsort(-scores, kind="stable")
    ranked = labels[order]
    count_tp = int(labels.sum())
    ap = _average_precision_sorted(ranked, scores[order]) * count_tp / count_gt if count_tp else 0.0
    hits = {k: bool(ranked[:k].any()) for k in TOP_K}
    return QueryScore(name, ap, hits, count_gt, count_tp, detections=len(labels)), order


class QueryEvaluator:
    """Collects one query's detections frame by frame. Keeps scores and labels; boxes only of the best detections.

    keep: how many of the best detections to put into the score's ranking.
    """

    def __init__(self, name: str = "", keep: int = 0) -> None:
        self._name = name
        self._pieces: list[_Piece] = []
        self._best = _Best(keep)
        self._count_gt = 0
        self._count_covered: int | None = None

    def add_frame(
        self,
        truth: Box | None,
        boxes: np.ndarray,
        scores: np.ndarray,
        *,
        frame: str = "",
        position: int | None = None,
        proposals: np.ndarray | None = None,
    ) -> None:
        """truth: xyxy box of the person, None where the frame does not hold it. boxes: (N, 4) xyxy, scores: (N,).

        position: the frame's place in the gallery, for frames that come in another order. proposals: (P, 4) xyxy, for
        max recall.
        """
        boxes, scores = np.asarray(boxes).reshape(-1, 4), np.asarray(scores).reshape(-1)
        labels = np.zeros(len(scores), bool)
        if truth is not None:
            self._count_gt += 1
            match = find_match(truth, boxes, scores)
            if match is not None:
                labels[match] = True
        if proposals is not None:
            covered = truth is not None and covers(truth, proposals).any()
            self._count_covered = (self._count_covered or 0) + int(covered)
        place = len(self._pieces) if position is None else position
        self._pieces.append(_Piece(place, labels, scores))
        self._best.add(place, frame, boxes, scores, labels)

    def result(self) -> QueryScore:
        """The score of all frames so far: 0 if none of them holds the person. Raises NotANumberError as score_pool."""
        pieces = sorted(self._pieces, key=lambda piece: piece.position)
        labels = np.concatenate([np.empty(0, bool), *(piece.labels for piece in pieces)])
        scores = np.concatenate([np.empty(0, np.float32), *(piece.scores for piece in pieces)])
        score, _ = score_pool(self._name, labels, scores, self._count_gt)
        return replace(score, count_covered=self._count_covered, ranking=self._best.ranking())


@dataclass(frozen=True, slots=True)
class _Piece:
    """One frame's share of a query's pool."""

    position: int
    labels: np.ndarray
    scores: np.ndarray


class _Best:
    """The best detections of the frames so far, in the order in which `score_pool` ranks: score, then gallery order."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._found: list[tuple[tuple[float, int, int], RankedDetection]] = []

    def add(self, position: int, frame: str, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        for row in np.argsort(-scores, kind="stable")[: self._keep].tolist():
            score = float(scores[row])
            detection = RankedDetection(frame, tuple(boxes[row].tolist()), score, bool(labels[row]))
            self._found.append(((-score, position, row), detection))
        if len(self._found) > 8 * self._keep:
            self._cut()

    def ranking(self) -> tuple[RankedDetection, ...]:
        self._cut()
        return tuple(detection for _, detection in self._found)

    def _cut(self) -> None:
        self._found.sort(key=lambda entry: entry[0])
        del self._found[self._keep :]


@dataclass(frozen=True)
class SearchScore:
    """A benchmark's result: means over the queries, each between 0 and 1."""

    queries: tuple[QueryScore, ...]

    @property
    def mean_ap(self) -> float:
        return _mean([query.ap for query in self.queries])

    def top(self, k: int) -> float:
        """Share of the queries with a right detection among the k best; k of TOP_K."""
        return _mean([query.hits[k] for query in self.queries])

    @property
    def max_recall(self) -> float | None:
        """Over all frames that hold their query's person, the share in which a proposal covers it (paper, Table 1).

        None if no proposals were given.
        """
        counts = [(q.count_covered, q.count_gt) for q in self.queries if q.count_covered is not None]
        total = sum(count_gt for _, count_gt in counts)
        return sum(covered for covered, _ in counts) / total if total else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the means must know."""
        absent = [query.name for query in self.queries if not query.count_gt]
        unanswered = sum(query.unanswered for query in self.queries)
        messages = []
        if absent:
            more = ", …" if len(absent) > NAMED else ""
            messages.append(
                f"{len(absent)} of {len(self.queries)} queries have no frame with their person in the gallery and "
                f"score 0: {', '.join(absent[:NAMED])}{more}"
            )
        if unanswered:
            messages.append(
                f"{unanswered} pairs of query and frame got no answer and count as frames without detections"
            )
        return tuple(messages)

    def to_json(self) -> dict:
        """Means and counts as JSON types; the queries one by one are `[q.to_json() for q in score.queries]`."""
        return {
            "mAP": self.mean_ap,
            **{f"top{k}": self.top(k) for k in TOP_K},
            "max_recall": self.max_recall,
            "queries": len(self.queries),
            "queries_without_person": sum(not query.count_gt for query in self.queries),
            "frames_with_person": sum(query.count_gt for query in self.queries),
            "frames_found": sum(query.count_tp for query in self.queries),
            "frames_unanswered": sum(query.unanswered for query in self.queries),
        }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
