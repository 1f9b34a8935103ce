"""Runs a network over a benchmark: the query-guided search pair by pair, or from query-independent detections."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.evaluation.detection import DetectionEvaluator, DetectionScore
from qeeps_cli.evaluation.metrics import SearchScore
from qeeps_cli.evaluation.protocols import DetectionTable, FrameAnswer, score_query, score_table
from qeeps_cli.images import read_image
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.exact import search_frames
from qeeps_cli.types import Detections, GalleryFrame, LabelledQuery

METHODS = ("qeeps", "oim")
MODES = ("exact", "cached")
DET_THRESH = 0.5  # of OIM's evaluation: detections with a lower person score are not ranked


@dataclass(frozen=True)
class BenchmarkResult:
    """Scores of a run. detection: of the query-independent detections, None in the exact mode, which makes none.

    pairs: query-frame pairs scored. forward_passes: of the network over gallery frames.
    """

    search: SearchScore
    detection: DetectionScore | None
    pairs: int
    forward_passes: int


def run_benchmark(
    engine: Engine,
    frames: FrameSet,
    *,
    method: str = "qeeps",
    mode: str = "exact",
    det_thresh: float = DET_THRESH,
    keep: int = 0,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> BenchmarkResult:
    """Score a network on a set with queries.

    method: "oim" ranks the detections of person score ≥ det_thresh by the cosine of query-independent embeddings (the
    baseline's protocol); "qeeps" ranks by the network's own score: pair by pair (mode "exact", the paper's), or from
    embeddings of frames paired with themselves (mode "cached"). keep: how many of the best detections each query's
    score keeps. progress: called with (done, total, what) as frames or pairs finish.

    Raises UsageError for an unknown method or mode, or one that the network cannot serve; DataError for a set without
    queries; ImageError for a frame that cannot be decoded.
    """
    if method not in METHODS or mode not in MODES:
        raise UsageError(f"expected a method of {', '.join(METHODS)} and a mode of {', '.join(MODES)}.")
    if not frames.queries:
        raise DataError(f"{frames.name} has no queries; a benchmark needs them (queries.json of a COCO-style set).")
    if method == "qeeps" and mode == "exact":
        return _run_exact(engine, frames, keep, progress)
    if method == "qeeps" and engine.model.qsimnet is None:
        raise UsageError(
            f"the variant {engine.model.config.variant} has no QSimNet to score cached detections with; "
            "use --method oim."
        )
    return _run_cached(engine, frames, method, det_thresh, keep, progress)


def _run_exact(engine: Engine, frames: FrameSet, keep: int, progress: Callable) -> BenchmarkResult:
    total = sum(len(set(query.gallery)) for query in frames.queries)
    done = 0

    def answers(query: LabelledQuery) -> Iterator[FrameAnswer]:
        nonlocal done
        person = QueryPerson(read_image(query.path).rgb, query.box)
        gallery = [GalleryFrame(frames[name].path, name) for name in dict.fromkeys(query.gallery)]
        for answer in search_frames(engine, person, gallery):
            if answer.detections is None:
                raise DataError(f"frame {answer.frame.path} of {frames.name}: {answer.skipped}")
            done += 1
            progress(done, total, "pairs")
            yield FrameAnswer(answer.frame.name, answer.detections.boxes, answer.detections.scores)

    scores = tuple(score_query(frames, query, answers(query), keep) for query in frames.queries)
    return BenchmarkResult(SearchScore(scores), None, total, total)


def _run_cached(
    engine: Engine, frames: FrameSet, method: str, det_thresh: float, keep: int, progress: Callable
) -> BenchmarkResult:
    wanted = {name for query in frames.queries for name in query.gallery}
    gallery = [frame for frame in frames.frames if frame.name in wanted]
    detector = DetectionEvaluator()
    found: list[tuple[str, Detections]] = []
    for frame in gallery:
        detections = engine.detect([read_image(frame.path).rgb])[0]
        detector.add_frame(frame.boxes, detections.boxes, detections.person_scores, frame.ignore)
        if method == "oim":
            detections = _confident(detections, det_thresh)
        found.append((frame.name, detections))
        progress(len(found), len(gallery), "frames")
    table = DetectionTable.from_frames((name, detections.boxes) for name, detections in found)
    embeddings = np.concatenate([detections.embeddings for _, detections in found])
    scores = []
    for query in frames.queries:
        embedding = engine.embed_query(QueryPerson(read_image(query.path).rgb, query.box))
        ranked = embeddings @ embedding if method == "oim" else engine.score(embedding, embeddings)
        scores.append(score_table(frames, query, table, ranked, keep))
    pairs = sum(len(query.gallery) for query in frames.queries)
    return BenchmarkResult(SearchScore(tuple(scores)), detector.result(), pairs, len(gallery))


def _confident(detections: Detections, threshold: float) -> Detections:
    kept = detections.person_scores >= threshold
    return Detections(
        detections.boxes[kept], detections.person_scores[kept], detections.scores[kept], detections.embeddings[kept]
    )
