"""Runs a network over a benchmark: the query-guided search pair by pair, or from query-independent detections, or the
second with the first for the best frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.evaluation.detection import DetectionScore
from qeeps_cli.evaluation.independent import Detection, FrameIndex, index_benchmark
from qeeps_cli.evaluation.metrics import QueryScore, SearchScore
from qeeps_cli.evaluation.pairwise import PairSearch, in_groups, open_query
from qeeps_cli.evaluation.protocols import FrameAnswer, QueryScorer, score_table
from qeeps_cli.searching.cascade import shortlist, shortlist_size
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.expansion import ExpandedScorer
from qeeps_cli.searching.scoring import Scorer
from qeeps_cli.searching.tally import Progress, Tally
from qeeps_cli.types import LabelledQuery

METHODS = ("qeeps", "oim")
MODES = ("exact", "cached", "cascade")
DET_THRESH = 0.5  # of OIM's evaluation: detections with a lower person score are not ranked
CHEAP = 0.1  # the exact mode measures detection where that adds at most this share of passes through the network


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to rank.

    method: "oim" ranks the detections of person score ≥ det_thresh by the cosine of query-independent embeddings (the
    baseline's protocol); "qeeps" ranks by the network's own score. mode, of "qeeps": "exact", pair by pair (the
    paper's); "cached", from embeddings of frames paired with themselves; "cascade", cached, with the `shortlist` best
    frames of each query (a number, or a percentage such as "10%"; None: the default of a search) run exactly.
    expand: of the mode "cached", the best match speaks for the others (`searching.expansion`).
    keep: how many of the best detections each query's score keeps. batch: frames of one size that run together.
    detection: whether the exact mode, which needs no query-independent detections, makes them to score them; None:
    where that is cheap.
    """

    method: str = "qeeps"
    mode: str = "exact"
    det_thresh: float = DET_THRESH
    shortlist: str | int | None = None
    expand: bool = False
    keep: int = 0
    batch: int = 1
    detection: bool | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.mode not in MODES:
            raise UsageError(
                f"expected a method of {', '.join(METHODS)} and a mode of {', '.join(MODES)}, "
                f"got {self.method!r} and {self.mode!r}."
            )
        if self.expand and (self.method, self.mode) != ("qeeps", "cached"):
            raise UsageError("--expand belongs to --mode cached.")

    @property
    def pairwise(self) -> bool:
        """Whether every pair runs."""
        return self.method == "qeeps" and self.mode == "exact"


@dataclass(frozen=True)
class BenchmarkResult:
    """Scores of a run. detection: at IoU 0.5, of query-independent detections; None where the exact mode made none.

    pairs: of a query and a frame of its gallery. frames: distinct ones in the galleries. tally: what ran, and what was
    in the cache.
    """

    search: SearchScore
    detections: Detection | None
    pairs: int
    frames: int
    tally: Tally = field(default_factory=Tally)

    @property
    def detection(self) -> DetectionScore | None:
        """The score of all detections, whatever their person score; None where they were not made."""
        return self.detections.all if self.detections else None


def run_benchmark(
    engine: Engine,
    frames: FrameSet,
    options: BenchmarkOptions | None = None,
    *,
    cache: Cache | None = None,
    progress: Progress = lambda done, total, what: None,
    **settings,
) -> BenchmarkResult:
    """Score a network on a set with queries.

    settings: fields of BenchmarkOptions, instead of `options`. cache: keeps what was run, so that a run that was
    interrupted goes on where it stopped; the result does not depend on it. progress: called with (done, total, what) as
    frames or pairs finish.

    Raises UsageError for a method or mode that the network cannot serve; DataError for a set without queries, and for a
    frame or query that cannot be used; CacheError, OutputError where the cache cannot be read or written.
    """
    options = options or BenchmarkOptions(**settings)
    if not frames.queries:
        raise DataError(f"{frames.name} has no queries; a benchmark needs them (queries.json of a COCO-style set).")
    if options.method == "qeeps" and options.mode != "exact" and engine.model.qsimnet is None:
        raise UsageError(
            f"the variant {engine.model.config.variant} has no QSimNet to score cached detections with; "
            "use --method oim, or --mode exact."
        )
    return _Run(engine, frames, options, cache, progress).result()


@dataclass
class _Run:
    engine: Engine
    frames: FrameSet
    options: BenchmarkOptions
    cache: Cache | None
    progress: Progress
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.pairs = sum(len(set(query.gallery)) for query in self.frames.queries)
        self.distinct = len({name for query in self.frames.queries for name in query.gallery})
        self.search = PairSearch(self.engine, self.frames, self.cache, self.options.batch, self.tally)

    def result(self) -> BenchmarkResult:
        if self.options.pairwise:
            detections = self._index()[1] if self._measures_detection() else None
            scores = tuple(self._exact())
        else:
            index, detections = self._index()
            cascade = self.options.method == "qeeps" and self.options.mode == "cascade"
            scores = tuple(self._cascade(index) if cascade else self._cached(index))
        return BenchmarkResult(SearchScore(scores), detections, self.pairs, self.distinct, self.tally)

    def _measures_detection(self) -> bool:
        if self.options.detection is None:
            return self.distinct <= CHEAP * self.pairs
        return self.options.detection

    def _index(self) -> tuple[FrameIndex, Detection]:
        return index_benchmark(
            self.engine,
            self.frames,
            cache=self.cache,
            batch=self.options.batch,
            det_thresh=self.options.det_thresh,
            confident_only=self.options.method == "oim",
            tally=self.tally,
            progress=self.progress,
        )

    def _exact(self) -> Iterator[QueryScore]:
        for queries in in_groups(self.frames.queries):
            scorers = [QueryScorer(self.frames, query, self.options.keep) for query in queries]
            for i, name, found in self._run_pairs(scorers, [s.wanted for s in scorers], self.pairs):
                scorers[i].add(FrameAnswer(name, found.boxes, found.scores, found.proposals))
            yield from (scorer.result() for scorer in scorers)

    def _cached(self, index: FrameIndex) -> Iterator[QueryScore]:
        for query in self.frames.queries:
            scores = self._score(query, index)
            yield score_table(self.frames, query, index.table, scores, self.options.keep, index.proposals)

    def _cascade(self, index: FrameIndex) -> Iterator[QueryScore]:
        """Exact detections of the frames that the cached ranking puts first, cached detections of the others."""
        sizes = [shortlist_size(self.options.shortlist, len(set(q.gallery))) for q in self.frames.queries]
        for queries in in_groups(self.frames.queries):
            scores = [self._score(query, index) for query in queries]
            scorers = [QueryScorer(self.frames, query, self.options.keep) for query in queries]
            chosen = [_choose(q, index, s, self.options.shortlist) for q, s in zip(queries, scores, strict=True)]
            for i, name, found in self._run_pairs(scorers, chosen, sum(sizes)):
                scorers[i].add(FrameAnswer(name, found.boxes, found.scores, found.proposals))
            for scorer, own, done in zip(scorers, scores, chosen, strict=True):
                for name in scorer.wanted - done:
                    rows = index.rows_of(name)
                    scorer.add(FrameAnswer(name, index.table.boxes[rows], own[rows], index.proposals.get(name)))
                yield scorer.result()

    def _run_pairs(self, scorers: Sequence[QueryScorer], wanted: Sequence[frozenset[str]], total: int):
        queries = [scorer.query for scorer in scorers]
        for answer in self.search.run(queries, wanted, [scorer.held for scorer in scorers]):
            self.progress(self.tally.pairs_computed + self.tally.pairs_cached, total, "pairs")
            yield answer

    def _score(self, query: LabelledQuery, index: FrameIndex) -> np.ndarray:
        """Scores (M,) of the rows of the query's gallery, by QSimNet or by cosine; 0 for all other rows."""
        picture = open_query(self.frames, query)
        embedding = self.engine.embed_query(QueryPerson(picture.rgb, picture.query.box))
        form = None if self.options.method == "oim" else self.engine.closed_form()
        scorer, gallery = Scorer(embedding[None], form), set(query.gallery)
        scores = index.score(scorer, gallery)
        if not self.options.expand:
            return scores
        witness = index.best_of(scores, gallery - self.frames.names_of(query.path))
        return index.score(ExpandedScorer(scorer, form, [witness]), gallery)


def _choose(query: LabelledQuery, index: FrameIndex, scores: np.ndarray, size: str | int | None) -> frozenset[str]:
    """The frames of the gallery to run exactly."""
    names = list(dict.fromkeys(query.gallery))
    best = [float(scores[index.rows_of(name)].max(initial=-np.inf)) for name in names]
    return frozenset(names[i] for i in shortlist(best, shortlist_size(size, len(names))))
