"""What a score means: how often the best detection of a frame is the person, and the map that makes the score say so.

Platt's method ("Probabilistic outputs for support vector machines", 1999): a logistic regression on QSimNet's logit,
fitted to one detection a frame, the best, as a user sees them; most frames do not show the person. Pairs are weighted,
so that they stand for galleries that show the person as often as wanted, and sets of any size count alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qeeps_cli.errors import DataError
from qeeps_cli.evaluation.metrics import QueryScore

FOLDS = 5
BINS = 10
THRESHOLD = 0.5
_LIMIT = 1e-7  # of a float32 probability: nearer to 0 or 1 its logit is rounding
_STEPS = 100


class NothingToTellApartError(DataError):
    """No detection is right, or all are."""


@dataclass(frozen=True)
class FrameScores:
    """The best detection of each pair of query and frame.

    scores: (P,) float64 between 0 and 1. right: (P,) whether it is the person. query: (P,) number of the query. missed:
    pairs whose frame shows the person but whose best detection is somebody else, or nobody was found. sets: (P,) number
    of the set that the pair is of; None: one set.
    """

    scores: np.ndarray
    right: np.ndarray
    query: np.ndarray
    missed: int
    sets: np.ndarray | None = None

    @property
    def logits(self) -> np.ndarray:
        clipped = np.clip(self.scores, _LIMIT, 1 - _LIMIT)
        return np.log(clipped) - np.log1p(-clipped)

    def weights(self, prior: float | None) -> np.ndarray:
        """(P,) weights, 1 in the mean, under which every set counts alike and the share of right detections in each is
        prior. None: the share that they have; of several sets, the mean of theirs. Raises NothingToTellApartError for a
        set in which all are right, or none is."""
        own_sets = self.own_sets()
        for right in (self.right[own] for own in own_sets):
            if right.all() or not right.any():
                raise NothingToTellApartError(
                    "a score can be calibrated only on frames of which some show the person and some do not; got "
                    f"{len(right)} with {int(right.sum())} right matches."
                )
        shares = [float(self.right[own].mean()) for own in own_sets]
        prior = np.mean(shares) if prior is None else prior
        weights = np.empty(len(self.right))
        for own, share in zip(own_sets, shares, strict=True):
            each = np.where(self.right[own], prior / share, (1 - prior) / (1 - share))
            weights[own] = each * len(weights) / len(own_sets) / own.sum()
        return weights

    def of(self, rows: np.ndarray) -> "FrameScores":
        """The pairs of a mask (P,), without what was missed."""
        sets = None if self.sets is None else self.sets[rows]
        return FrameScores(self.scores[rows], self.right[rows], self.query[rows], 0, sets)

    def own_sets(self) -> list[np.ndarray]:
        """Each set's mask (P,)."""
        if self.sets is None:
            return [np.ones(len(self.right), bool)]
        return [self.sets == number for number in np.unique(self.sets)]


@dataclass(frozen=True)
class Calibration:
    """logit ↦ slope · logit + offset."""

    slope: float
    offset: float

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (P,) of logits (P,)."""
        return 1 / (1 + np.exp(-np.clip(self.slope * logits + self.offset, -50, 50)))


@dataclass(frozen=True)
class Bin:
    """Pairs with scores from low to high: how many, their share of all, their mean score, and the share in which it was
    the person."""

    low: float
    high: float
    count: int
    share: float
    mean: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """error: expected calibration error, the mean distance of score and share over all pairs. brier: mean squared
    distance of score and truth. precision, recall: of calling a frame's best detection the person from THRESHOLD on;
    precision is None where nothing scores that much. Of several sets the recall is that of all their frames together;
    all else counts the sets alike."""

    bins: tuple[Bin, ...]
    error: float
    brier: float
    precision: float | None
    recall: float
    pairs: int
    with_person: int


def collect(queries: Sequence[QueryScore]) -> FrameScores:
    """From the whole rankings of a benchmark (its `keep` has to be as large as they are).

    Raises NothingToTellApartError where no frame shows its query's person, or all do.
    """
    scores, right, query = [], [], []
    for number, result in enumerate(queries):
        seen = set()
        for detection in result.ranking:  # in descending order: the first of a frame is its best
            if detection.frame not in seen:
                seen.add(detection.frame)
                scores.append(detection.score)
                right.append(detection.correct)
                query.append(number)
    found = FrameScores(
        np.array(scores, np.float64), np.array(right, bool), np.array(query, np.int64),
        missed=sum(result.count_gt for result in queries) - int(np.sum(right)),
    )  # fmt: skip
    found.weights(None)  # or raises
    return found


def join(sets: Sequence[FrameScores]) -> FrameScores:
    """The pairs of several sets, which count alike whatever their size."""
    first_query = np.cumsum([0, *(own.query.max() + 1 for own in sets[:-1])])
    return FrameScores(
        np.concatenate([own.scores for own in sets]),
        np.concatenate([own.right for own in sets]),
        np.concatenate([own.query + first for own, first in zip(sets, first_query, strict=True)]),
        sum(own.missed for own in sets),
        np.repeat(np.arange(len(sets)), [len(own.scores) for own in sets]),
    )


def apart(joined: FrameScores, sets: Sequence[FrameScores]) -> list[FrameScores]:
    """The sets that were joined, with the scores that their pairs have now."""
    ends = np.cumsum([len(own.scores) for own in sets])
    return [replace(own, scores=scores) for own, scores in zip(sets, np.split(joined.scores, ends[:-1]), strict=True)]


def fit(found: FrameScores, prior: float | None = None) -> Calibration:
    """The most likely map, by Newton's method; with Platt's targets, so that separable data keeps a finite slope.
    prior: as if that share of all detections were right.

    Raises DataError where higher scores are no likelier to be right: such a map would turn the ranking round.
    """
    counts = found.weights(prior)
    positives = int(found.right.sum())
    negatives = len(found.right) - positives
    target = np.where(found.right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre = np.average(found.logits, weights=counts)
    inputs = np.stack([found.logits - centre, np.ones(len(target))], axis=1)
    weights = np.array([1.0, 0.0])
    loss = _loss(inputs, target, counts, weights)
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ weights, -50, 50)))
        gradient = inputs.T @ (counts * (probability - target))
        curvature = (inputs * (counts * probability * (1 - probability))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while (after := _loss(inputs, target, counts, weights - scale * step)) > loss and scale > 1e-8:
            scale /= 2
        if loss - after < 1e-12 * len(target):
            break
        weights, loss = weights - scale * step, after
    if weights[0] <= 0:
        raise DataError(
            f"among {len(target)} best detections, {positives} of them right, those that score higher are not right "
            "more often: there is nothing to calibrate. Use more queries, or weights that find them."
        )
    return Calibration(float(weights[0]), float(weights[1] - weights[0] * centre))


def _loss(inputs: np.ndarray, target: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> float:
    logits = inputs @ weights
    return float(np.sum(counts * (np.logaddexp(0, logits) - target * logits)))


def held_out(found: FrameScores, prior: float | None = None, folds: int = FOLDS) -> FrameScores:
    """Every pair with the score of a map that was fitted without its query (nor any other of its fold)."""
    scores = np.empty_like(found.scores)
    fold = found.query % folds
    for number in np.unique(fold).tolist():
        rest = fold != number
        try:
            if not all(own[rest].any() for own in found.own_sets()):
                raise NothingToTellApartError("a set has no other queries")
            scores[~rest] = fit(found.of(rest), prior).apply(found.logits[~rest])
        except NothingToTellApartError:
            raise DataError(
                f"too few queries to hold some out: expected {folds} of each set that find their person or more."
            ) from None
    return replace(found, scores=scores)


def measure(found: FrameScores, prior: float | None = None) -> Reliability:
    """How near scores are to the share of right matches. prior: as if that share of all detections were right."""
    weights = found.weights(prior)
    number = np.minimum((found.scores * BINS).astype(int), BINS - 1)
    bins = tuple(_bins(found, number, weights))
    above = found.scores >= THRESHOLD
    right = int(found.right.sum())
    return Reliability(
        bins=bins,
        error=sum(b.share * abs(b.mean - b.right) for b in bins),
        brier=float(np.average((found.scores - found.right) ** 2, weights=weights)),
        precision=float(np.average(found.right[above], weights=weights[above])) if above.any() else None,
        recall=int((found.right & above).sum()) / (right + found.missed),
        pairs=len(found.scores),
        with_person=right + found.missed,
    )


def _bins(found: FrameScores, number: np.ndarray, weights: np.ndarray) -> Iterable[Bin]:
    for i in range(BINS):
        own = number == i
        if own.any():
            mean, right = (float(np.average(v[own], weights=weights[own])) for v in (found.scores, found.right))
            share = float(weights[own].sum() / weights.sum())
            yield Bin(i / BINS, (i + 1) / BINS, int(own.sum()), share, mean, right)
