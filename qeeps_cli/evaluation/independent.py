"""Query-independent detections of a benchmark's frames, each frame run once, and rankings from them."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError
from qeeps_cli.evaluation.detection import DetectionEvaluator, DetectionScore
from qeeps_cli.evaluation.protocols import DetectionTable, find_truth
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.expansion import best_row
from qeeps_cli.searching.indexing import index_frames
from qeeps_cli.searching.scoring import Scoring
from qeeps_cli.searching.tally import Progress, Tally
from qeeps_cli.types import GalleryFrame, LabelledQuery


@dataclass(frozen=True)
class FrameIndex:
    """What the network finds in the frames without a query.

    embeddings: (M, D) float16, as the cache keeps them, a row for each row of `table`.
    proposals: (P, 4) xyxy by frame name, of the frames that hold a query's person.
    """

    table: DetectionTable
    embeddings: np.ndarray
    proposals: dict[str, np.ndarray]

    def rows_of(self, frame: str) -> slice:
        number = self.table.index[frame]
        return slice(self.table.offsets[number], self.table.offsets[number + 1])

    def score(self, scorer: Scoring, frames: Collection[str]) -> np.ndarray:
        """Scores (M,) float32 of the rows of these frames for a scorer's first query; 0 for all other rows."""
        scores = np.zeros(len(self.embeddings), np.float32)
        chosen = self._rows_of_all(frames)
        scores[chosen] = scorer.scores(0, self.embeddings[chosen])
        return scores

    def best_of(self, scores: np.ndarray, frames: Collection[str]) -> np.ndarray | None:
        """The embedding (D,) with the highest of scores (M,) in these frames; None where nobody is in them."""
        row = best_row(np.where(self._rows_of_all(frames), scores, -np.inf))
        return None if row is None else self.embeddings[row]

    def _rows_of_all(self, frames: Collection[str]) -> np.ndarray:
        """(M,) bool."""
        chosen = np.zeros(len(self.embeddings), bool)
        for frame in frames:
            chosen[self.rows_of(frame)] = True
        return chosen


@dataclass(frozen=True)
class Detection:
    """Detection scores at IoU 0.5: of all detections, and of those of person score ≥ det_thresh (OIM's evaluation)."""

    all: DetectionScore
    confident: DetectionScore
    det_thresh: float


def index_benchmark(
    engine: Engine,
    frames: FrameSet,
    *,
    cache: Cache | None,
    batch: int,
    det_thresh: float,
    confident_only: bool,
    tally: Tally,
    progress: Progress,
) -> tuple[FrameIndex, Detection]:
    """Run every frame of the galleries once, or take it from the cache.

    det_thresh: for the second detection score. confident_only: detections below it are not in the index either.
    Raises DataError for a frame that cannot be decoded.
    """
    wanted = {name for query in frames.queries for name in query.gallery}
    gallery = [frame for frame in frames.frames if frame.name in wanted]
    held = frames_with_their_person(frames, frames.queries)
    everybody, confident = DetectionEvaluator(), DetectionEvaluator(det_thresh)
    found: list[tuple[str, np.ndarray]] = []
    embeddings: list[np.ndarray] = []
    proposals: dict[str, np.ndarray] = {}
    store = cache.frames(engine.fingerprint()) if cache else None
    listed = [GalleryFrame(frame.path, frame.name) for frame in gallery]
    answers = index_frames(engine, listed, store, cache, batch=batch, proposals=lambda frame: frame.name in held)
    for frame, answer in zip(gallery, answers, strict=True):
        if answer.detections is None:
            raise DataError(f"frame {frame.path} of {frames.name}: {answer.skipped}")
        detections = answer.detections
        for evaluator in (everybody, confident):
            evaluator.add_frame(frame.boxes, detections.boxes, detections.person_scores, frame.ignore)
        if frame.name in held and detections.proposals is not None:
            proposals[frame.name] = detections.proposals
        kept = detections.person_scores >= det_thresh if confident_only else np.ones(len(detections), bool)
        found.append((frame.name, detections.boxes[kept]))
        embeddings.append(detections.embeddings[kept].astype(np.float16))
        tally.count(answer)
        progress(len(found), len(gallery), "frames")
    nothing = np.empty((0, engine.model.config.embedding_dim), np.float16)
    index = FrameIndex(DetectionTable.from_frames(found), np.concatenate([nothing, *embeddings]), proposals)
    return index, Detection(everybody.result(), confident.result(), det_thresh)


def frames_with_their_person(frames: FrameSet, queries: Collection[LabelledQuery]) -> set[str]:
    """Names of the frames that hold the person of some query in whose gallery they are: those that max recall is
    over."""
    return {query.gallery[position] for query in queries for position in find_truth(frames, query)}
