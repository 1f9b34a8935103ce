"""Query expansion: what is like the best match is more likely the person, too.

One picture shows one side of somebody in one light. Chum et al. ("Total Recall", ICCV 2007) therefore search again with
what the first search found. Averaging embeddings, as they do, would make every score high that resembles a match, also
a wrong one. Here, with s(a, b) for "b is a's person" and w for the best match of q,

    s'(q, x) = (s(q, x) + s(q, w) · s(w, x)) / 2,

half of the evidence is the query's own, half comes by way of the best match. How much that is believed bounds how high
a score can be, the best match's own being the highest; the order changes however little it is believed.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from qeeps_cli.searching.scoring import Scorer

OF_WITNESS = 0.5  # its share of a score
STEEPEST = 0.25  # slope of the sigmoid


class ExpandedScorer:
    """A `Scoring` of queries with a witness each, their best match. Without one, or with one whose cosine is not above
    0, scores are as they were.

    What `approximate` gives are scores and no logits, and so is what it is compared with.
    """

    def __init__(self, scorer: Scorer, form: tuple[np.ndarray, float] | None, witnesses: Sequence[np.ndarray | None]):
        """scorer: of the queries alone. form: the one that it was made with. witnesses: embeddings (D,), of each
        query."""
        self.queries = scorer.queries
        shown = [query if witness is None else witness for query, witness in zip(self.queries, witnesses, strict=True)]
        believed = np.array([float(scorer.scores(i, row[None])[0]) for i, row in enumerate(shown)])
        asked = np.array([witness is not None for witness in witnesses]) & (believed > 0)
        self._both = Scorer(np.concatenate([self.queries, np.stack(shown)]), form)
        self._by_witness = np.where(asked, OF_WITNESS * believed, 0.0)
        self._own = np.where(asked, 1 - OF_WITNESS, 1.0)

    def scores(self, query: int, embeddings: np.ndarray) -> np.ndarray:
        """Scores (n,) float32 of embeddings (n, D) for one query; each depends on nothing but its own row."""
        own, by_witness = (self._both.to_scores(self._both.logits(i, embeddings)) for i in self._pair(query))
        return (self._own[query] * own + self._by_witness[query] * by_witness).astype(np.float32)

    def to_logit(self, score: float) -> float:
        """The score itself, which is what is compared here."""
        return float(score)

    def approximate(self, embeddings: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """Scores (Q, m) float32 that are off by `error` at most, for the arguments of `Scorer.approximate`."""
        scores = self._both.to_scores(self._both.approximate(embeddings, own).astype(np.float64))
        count = len(self.queries)
        return (self._own[:, None] * scores[:count] + self._by_witness[:, None] * scores[count:]).astype(np.float32)

    @cached_property
    def error(self) -> np.ndarray:
        """(Q,): how far `approximate` may be off, for embeddings no longer than NORM."""
        slope = 1.0 if self._both.weights is None else STEEPEST
        own, by_witness = np.split(slope * self._both.error, 2)
        return self._own * own + self._by_witness * by_witness + 2.0**-22

    def lowest_candidate(self, query: int, score: np.ndarray | float) -> np.ndarray | float:
        """The approximate score below which nothing reaches the true one of an approximate `score`, or ties with it.

        Most scores are small, and off by little: σ(z + e) ≤ exp(e) · σ(z), so that a sum of two is off by the factor
        exp(e) at most, e being the larger error of both logits.
        """
        lowest = score - 2 * self.error[query] - 2.0**-22
        if self._both.weights is None:
            return lowest
        worst = max(self._both.error[i] for i in self._pair(query))
        return np.maximum(lowest, score * (np.exp(-2 * worst) - 2.0**-20))

    def _pair(self, query: int) -> tuple[int, int]:
        return query, query + len(self.queries)


def best_row(scores: np.ndarray) -> int | None:
    """The row of the highest of scores (M,), the first of equal ones; None where all are -inf, or there is none."""
    return int(scores.argmax()) if scores.max(initial=-np.inf) > -np.inf else None
