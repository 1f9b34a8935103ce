"""Scores of cached people for queries that were never paired with their frames: QSimNet's closed form (§4.3).

QSimNet at inference is affine in the squared differences: logit(q, g) = Σ w_d (q_d − g_d)² + b. Expanded,
⟨w, q∘q⟩ + ⟨−2 w∘q, g⟩ + ⟨w, g∘g⟩ + b, it is one matrix product over all cached embeddings, as fast as memory: that
product says roughly who scores best. The scores that are given are then computed row by row in float64: those of a
product depend in their last bits on how many rows it has, that is, on how the cache is cut into segments.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import torch

from qeeps_cli.cache.blocks import Block
from qeeps_cli.cache.store import FrameStore
from qeeps_cli.searching.ranking import Ranking, Rows

ROWS = 1_024  # at a time in float64: they fit into the processor's cache
CONVERTED = 4_096  # the same in float32
FEW = 3  # queries; see `_product`
NORM = 1.01  # no cached embedding is longer: they are unit vectors, rounded to float16
SATURATED = 15.0  # logits above it have scores that float32 hardly tells apart


class Scoring(Protocol):
    """What people are ranked by: scores for some queries, as `Scorer` explains them.

    `approximate`, `to_logit` and `lowest_candidate` are on one scale, which rises with the score: that of
    logits, or of the scores themselves.
    """

    queries: np.ndarray

    def scores(self, query: int, embeddings: np.ndarray) -> np.ndarray: ...

    def to_logit(self, score: float) -> float: ...

    def approximate(self, embeddings: np.ndarray, own: np.ndarray | None) -> np.ndarray: ...

    def lowest_candidate(self, query: int, logit: np.ndarray | float) -> np.ndarray | float: ...


class Scorer:
    """Scores for some queries.

    queries: embeddings (Q, D), unit vectors. form: QSimNet's weights (D,) and bias, as `Engine.closed_form` gives them;
    None: the score is the cosine.
    """

    def __init__(self, queries: np.ndarray, form: tuple[np.ndarray, float] | None):
        self.queries = np.asarray(queries, np.float64)
        self.weights = None if form is None else np.asarray(form[0], np.float64)
        if form is None:
            self._factors = self.queries
            self._constants = np.zeros(len(self.queries))
        else:
            self._factors = -2 * self.weights * self.queries
            self._constants = self.queries**2 @ self.weights + form[1]
        self._bias = 0.0 if form is None else form[1]
        self._scales = np.maximum(np.abs(self._factors).max(axis=1), 1e-30)  # into float16's range

    def scores(self, query: int, embeddings: np.ndarray) -> np.ndarray:
        """Scores (n,) float32 of embeddings (n, D) for one query; each depends on nothing but its own row."""
        return self.to_scores(self.logits(query, embeddings)).astype(np.float32)

    def logits(self, query: int, embeddings: np.ndarray) -> np.ndarray:
        """The same before the sigmoid, (n,) float64; cosines stay as they are."""
        logits = np.empty(len(embeddings))
        for start in range(0, len(embeddings), ROWS):
            rows = embeddings[start : start + ROWS].astype(np.float64)
            if self.weights is None:
                rows *= self.queries[query]
            else:
                rows -= self.queries[query]
                rows *= rows
                rows *= self.weights
            logits[start : start + ROWS] = rows.sum(axis=1)
        return logits + self._bias

    def to_scores(self, logits: np.ndarray) -> np.ndarray:
        """float64 logits to float64 scores."""
        if self.weights is None:
            return logits
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1.0, small) / (1.0 + small)

    def to_logit(self, score: float) -> float:
        """The logit of a score."""
        if self.weights is None:
            return float(score)
        score = np.clip(np.float64(score), 0, 1)
        with np.errstate(divide="ignore"):
            return float(np.log(score) - np.log1p(-score))

    def approximate(self, embeddings: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """Logits (Q, m) float32 that are off by `error` at most. embeddings: (m, D) float16. own: see `own_terms`."""
        factors = torch.from_numpy(self._factors / self._scales[:, None])
        products = _product(factors, _tensor(embeddings)).numpy()
        logits = products * self._scales[:, None].astype(np.float32)
        logits += self._constants[:, None].astype(np.float32)
        return logits if own is None else logits + own

    @cached_property
    def error(self) -> np.ndarray:
        """(Q,): how far `approximate` may be off, for embeddings no longer than NORM.

        By Cauchy and Schwarz: the factors and the sum are rounded to float16, the rest is float32.
        """
        half, single = 2.0**-11, 2.0**-24
        own = 0.0 if self.weights is None else np.abs(self.weights).max() * NORM**2
        products = np.linalg.norm(self._factors, axis=1) * NORM
        terms = self.queries.shape[1] + 4
        return 2.5 * half * products + terms * single * (products + own + np.abs(self._constants))

    def lowest_candidate(self, query: int, logit: np.ndarray | float) -> np.ndarray | float:
        """The approximate logit below which nothing reaches the score of an approximate `logit`, or ties with it."""
        logit = np.minimum(logit, SATURATED)
        ties = 2.0**-22 * (1.0 + np.exp(logit))  # float32 scores tell logits apart that differ by more
        return logit - 2 * self.error[query] - ties


class People(Protocol):
    """The cached people of a gallery's frames, wherever they are scored."""

    def best(self, scorer: Scoring) -> np.ndarray:
        """See `best_of_frames`."""

    def rank(self, scorer: Scoring, rankings: Sequence[Ranking], places: np.ndarray, wanted: np.ndarray) -> None:
        """See `rank_cached`."""


@dataclass(frozen=True)
class _Part:
    """A block, with what its people bring to the logits whatever the query is."""

    block: Block
    own: np.ndarray | None


class CachedGallery:
    """The cached people of frames, for one pass after the other.

    digests: of frames that the store holds. What does not depend on the query is computed in the first pass and kept:
    4 bytes a person and 24 a frame.
    """

    def __init__(self, store: FrameStore, digests: Sequence[str], form: tuple[np.ndarray, float] | None):
        self.digests = digests
        self.weights = None if form is None else np.asarray(form[0], np.float32)
        self._blocks = store.blocks(digests)
        self._own: dict[bytes, np.ndarray] = {}

    def best(self, scorer: Scoring) -> np.ndarray:
        """See `best_of_frames`."""
        return best_of_frames(self, scorer)

    def rank(
        self, scorer: Scoring, rankings: Sequence[Ranking], places: np.ndarray, wanted: np.ndarray
    ) -> None:
        """See `rank_cached`."""
        rank_cached(self, scorer, rankings, places, wanted)

    def parts(self) -> Iterator[_Part]:
        for block in self._blocks:
            yield _Part(block, None if self.weights is None else self._own_terms(block))

    def _own_terms(self, block: Block) -> np.ndarray:
        key = block.indices.tobytes()
        if key not in self._own:
            self._own[key] = own_terms(self.weights, block.embeddings)
        return self._own[key]


def own_terms(weights: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """⟨w, g∘g⟩ (m,) float32 of embeddings (m, D) float16."""
    weights, embeddings = torch.from_numpy(weights), _tensor(embeddings)
    terms = torch.empty(len(embeddings))
    buffer = torch.empty(min(CONVERTED, len(embeddings)), len(weights))
    for rows, some in zip(embeddings.split(CONVERTED), terms.split(CONVERTED), strict=True):
        torch.mv(buffer[: len(rows)].copy_(rows).square_(), weights, out=some)
    return terms.numpy()


def rank_cached(
    gallery: CachedGallery, scorer: Scoring, rankings: Sequence[Ranking], places: np.ndarray, wanted: np.ndarray
) -> None:
    """Adds to each query's ranking whatever of the gallery's people may belong into it.

    places: (F,) of the frames in the rankings. wanted: (Q, F) bool, false for frames to leave out.
    """
    for part in gallery.parts():
        block = part.block
        logits = scorer.approximate(block.embeddings, part.own)
        for query, ranking in enumerate(rankings):
            left_out = ~wanted[query, block.indices]
            if left_out.any():
                logits[query, np.repeat(left_out, np.diff(block.offsets))] = -np.inf
            rows = _candidates(scorer, query, ranking, block, logits[query])
            scores = scorer.scores(query, block.embeddings[rows])
            frames = places[_frames_of(block, rows)]
            ranking.add(Rows(frames, scores, block.person_scores[rows], block.boxes[rows]))


def best_of_frames(gallery: CachedGallery, scorer: Scoring) -> np.ndarray:
    """(Q, F) float32: each frame's highest score for each query; -inf where it has no people."""
    best = np.full((len(scorer.queries), len(gallery.digests)), -np.inf, np.float32)
    for part in gallery.parts():
        block = part.block
        logits = scorer.approximate(block.embeddings, part.own)
        for query in range(len(best)):
            rows = np.flatnonzero(_may_be_best(scorer, query, block, logits[query]))
            np.maximum.at(best[query], _frames_of(block, rows), scorer.scores(query, block.embeddings[rows]))
    return best


def _frames_of(block: Block, rows: np.ndarray) -> np.ndarray:
    """The frame, as a place among the digests, that each of some rows belongs to."""
    return block.indices[np.searchsorted(block.offsets, rows, side="right") - 1]


def _candidates(scorer: Scoring, query: int, ranking: Ranking, block: Block, logits: np.ndarray) -> np.ndarray:
    """(k,) ascending: the people of a block that may be among those that a ranking keeps."""
    rows = _may_be_listed(scorer, query, ranking, logits)
    if ranking.keeps_best_of_frames:
        rows = np.union1d(rows, np.flatnonzero(_may_be_best(scorer, query, block, logits)))
    if ranking.options.min_score is not None:
        rows = rows[logits[rows] >= scorer.lowest_candidate(query, scorer.to_logit(ranking.options.min_score))]
    return rows[logits[rows] > -np.inf]


def _may_be_listed(scorer: Scoring, query: int, ranking: Ranking, logits: np.ndarray) -> np.ndarray:
    """(k,) ascending: the people that may be among the best of all.

    The first blocks have to be sorted for it; after them hardly anybody scores more than the lowest of the ranking.
    """
    rows = np.flatnonzero(logits >= scorer.lowest_candidate(query, scorer.to_logit(ranking.lowest)))
    if len(rows) <= ranking.limit:
        return rows
    lowest = np.partition(logits[rows], -ranking.limit)[-ranking.limit]
    return rows[logits[rows] >= scorer.lowest_candidate(query, lowest)]


def _may_be_best(scorer: Scoring, query: int, block: Block, logits: np.ndarray) -> np.ndarray:
    """(m,) bool: the people that may be the best of their frames."""
    counts = np.diff(block.offsets)
    starts = block.offsets[:-1][counts > 0]
    if not len(starts):
        return np.zeros(0, bool)
    lowest = scorer.lowest_candidate(query, np.maximum.reduceat(logits, starts))
    return logits >= np.repeat(lowest, counts[counts > 0])


def _product(factors: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """(Q, D) float64 of magnitude up to 1 and (m, D) float16 to (Q, m) float32.

    The product of float16 matrices reads each embedding once for each query, at the speed of memory; for many queries
    it is faster to convert the embeddings.
    """
    if len(factors) <= FEW and _multiplies_halves():
        return torch.mm(factors.half(), embeddings.T).float()
    return torch.cat([factors.float() @ rows.float().T for rows in embeddings.split(CONVERTED)], dim=1)


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Of the same memory. Cached arrays are read-only; PyTorch warns of that, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


@cache
def _multiplies_halves() -> bool:
    """Whether this PyTorch has products of float16 matrices that add up in float32, as it does on processors that can
    convert float16. Elsewhere it rounds after every addition, or takes for ever."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(512, 256, generator=generator)).half()
    for queries in range(1, FEW + 1):
        factors = torch.nn.functional.normalize(torch.randn(queries, 256, generator=generator).double())
        error = torch.mm(factors.half(), embeddings.T).double() - factors @ embeddings.double().T
        if error.abs().max() > 2.5 * 2.0**-11:
            return False
    return True
