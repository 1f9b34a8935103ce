"""What a score means: how often the best detection of a frame is the person, and the map that makes the score say so.

Platt's method ("Probabilistic outputs for support vector machines", 1999): a logistic regression on QSimNet's logit,
fitted to one detection a frame, the best, as a user sees them; most frames do not show the person.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qeeps_cli.errors import DataError
from qeeps_cli.evaluation.metrics import QueryScore

FOLDS = 5
BINS = 10
THRESHOLD = 0.5
_LIMIT = 1e-7  # of a float32 probability: nearer to 0 or 1 its logit is rounding
_STEPS = 100


@dataclass(frozen=True)
class FrameScores:
    """The best detection of each pair of query and frame.

    scores: (P,) float64 between 0 and 1. right: (P,) whether it is the person. query: (P,) number of the query. missed:
    pairs whose frame shows the person but whose best detection is somebody else, or nobody was found.
    """

    scores: np.ndarray
    right: np.ndarray
    query: np.ndarray
    missed: int

    @property
    def logits(self) -> np.ndarray:
        clipped = np.clip(self.scores, _LIMIT, 1 - _LIMIT)
        return np.log(clipped) - np.log1p(-clipped)

    @property
    def prior(self) -> float:
        """The share of right detections."""
        return float(self.right.mean())

    def weights(self, prior: float | None) -> np.ndarray:
        """(P,) weights under which the share of right detections is prior; ones for None."""
        if prior is None:
            return np.ones(len(self.right))
        return np.where(self.right, prior / self.prior, (1 - prior) / (1 - self.prior))


@dataclass(frozen=True)
class Calibration:
    """logit ↦ slope · logit + offset."""

    slope: float
    offset: float

    def for_prior(self, fitted: float, wanted: float) -> "Calibration":
        """What a set with another share of right detections would have given: the odds of both shares, by Bayes."""
        return Calibration(self.slope, self.offset + math.log(wanted / (1 - wanted)) - math.log(fitted / (1 - fitted)))

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
    precision is None where nothing scores that much."""

    bins: tuple[Bin, ...]
    error: float
    brier: float
    precision: float | None
    recall: float
    pairs: int
    with_person: int


def collect(queries: Sequence[QueryScore]) -> FrameScores:
    """From the whole rankings of a benchmark (its `keep` has to be as large as they are).

    Raises DataError where no frame shows its query's person, or all do: there is nothing to tell apart.
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
    if found.right.all() or not found.right.any():
        raise DataError(
            "a score can be calibrated only on frames of which some show the person and some do not; got "
            f"{len(found.right)} with {int(found.right.sum())} right matches."
        )
    return found


def fit(found: FrameScores) -> Calibration:
    """The most likely map, by Newton's method; with Platt's targets, so that separable data keeps a finite slope.

    Raises DataError where higher scores are no likelier to be right: such a map would turn the ranking round.
    """
    positives = int(found.right.sum())
    negatives = len(found.right) - positives
    target = np.where(found.right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre = found.logits.mean()
    inputs = np.stack([found.logits - centre, np.ones(len(target))], axis=1)
    weights = np.array([1.0, 0.0])
    loss = _loss(inputs, target, weights)
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ weights, -50, 50)))
        gradient = inputs.T @ (probability - target)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while (after := _loss(inputs, target, weights - scale * step)) > loss and scale > 1e-8:
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


def _loss(inputs: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    logits = inputs @ weights
    return float(np.sum(np.logaddexp(0, logits) - target * logits))


def held_out(found: FrameScores, prior: float | None = None, folds: int = FOLDS) -> FrameScores:
    """Every pair with the score of a map that was fitted without its query (nor any other of its fold)."""
    scores = np.empty_like(found.scores)
    fold = found.query % folds
    for number in np.unique(fold).tolist():
        rest = fold != number
        kept = FrameScores(found.scores[rest], found.right[rest], found.query[rest], 0)
        if kept.right.all() or not kept.right.any():
            raise DataError(f"too few queries to hold some out: expected {folds} that find their person or more.")
        calibration = fit(kept) if prior is None else fit(kept).for_prior(kept.prior, prior)
        scores[~rest] = calibration.apply(found.logits[~rest])
    return FrameScores(scores, found.right, found.query, found.missed)


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
