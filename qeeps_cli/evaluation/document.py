"""A benchmark as JSON: schema `qeeps.benchmark/1`.

Everything but `run` (time, memory, device, what was taken from the cache) depends only on the data, the weights, the
parameters and the kind of device, and is the same bytes for an interrupted run and one in a single piece.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qeeps_cli.boxes import xyxy_to_xywh
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.independent import Detection
from qeeps_cli.evaluation.metrics import QueryScore
from qeeps_cli.evaluation.published import Protocol, PublishedRow, published_rows, published_sides
from qeeps_cli.evaluation.runner import BenchmarkOptions, BenchmarkResult
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.types import Box, LabelledQuery

SCHEMA = "qeeps.benchmark/1"
SCORE_DECIMALS, BOX_DECIMALS = 6, 2


@dataclass(frozen=True)
class Setup:
    """What was benchmarked.

    gallery_size: CUHK-SYSU's, a number or "all". files: of a COCO-style set, by option. queries, frames: the limits
    that were asked for; None: no limit.
    """

    dataset: str
    root: Path
    gallery_size: int | str | None = None
    cross_camera: bool = False
    files: Mapping[str, Any] | None = None
    queries: int | None = None
    frames: int | None = None

    @property
    def limited(self) -> bool:
        return self.queries is not None or self.frames is not None

    def protocol(self, config: ModelConfig) -> Protocol:
        size = self.gallery_size if isinstance(self.gallery_size, int) else None
        name = self.dataset
        if self.cross_camera:
            name += ", cross-camera"
        elif self.dataset == "cuhk-sysu" and size is None:
            name += ", all frames"
        return Protocol(name, size, config.shorter_side)

    def published(self, config: ModelConfig) -> tuple[PublishedRow, ...]:
        """The published rows to stand beside: none beside a limited run, which no published number compares with."""
        return () if self.limited else published_rows(self.protocol(config))

    def other_sides(self, config: ModelConfig) -> tuple[int, ...]:
        """The shorter sides at which this set has published rows, where it has none at the network's own."""
        protocol = self.protocol(config)
        return () if self.limited or published_rows(protocol) else published_sides(protocol)


def not_comparable(setup: Setup) -> str | None:
    """One sentence on why the numbers must not be compared with those of the whole benchmark; None if they may."""
    if not setup.limited:
        return None
    parts = []
    if setup.queries is not None:
        parts.append(f"only the first {setup.queries} queries" if setup.queries > 1 else "only the first query")
    if setup.frames is not None:
        parts.append(f"at most {setup.frames} frames for each query, those with the person first")
    return f"limited run ({'; '.join(parts)}): NOT comparable with published results or with an unlimited run."


def benchmark_document(
    setup: Setup,
    frames: FrameSet,
    options: BenchmarkOptions,
    config: ModelConfig,
    result: BenchmarkResult,
    *,
    weights: Mapping[str, Any],
    parameters: Mapping[str, Any],
    versions: Mapping[str, str],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """As JSON types, in the order in which they are written. weights: `Checkpoint.describe()`. run: how it went."""
    warning = not_comparable(setup)
    qeeps = options.method == "qeeps"
    return {
        "schema": SCHEMA,
        "comparable": warning is None,
        "warnings": [*([warning] if warning else []), *result.search.warnings],
        "dataset": {
            "name": setup.dataset,
            "set": frames.name,
            "root": str(setup.root),
            "gallery_size": setup.gallery_size,
            "cross_camera": setup.cross_camera,
            "files": dict(setup.files or {}),
            "notes": list(frames.notes),
        },
        "limits": {"queries": setup.queries, "frames_per_query": setup.frames},
        "weights": dict(weights),
        "variant": config.variant,
        "method": options.method,
        "mode": options.mode if qeeps else None,
        "shortlist": options.shortlist if qeeps and options.mode == "cascade" else None,
        "expand": options.expand if qeeps and options.mode == "cached" else None,
        "det_thresh": options.det_thresh,
        "model": config.to_dict(),
        "parameters": {key: parameters[key] for key in sorted(parameters)},
        "versions": dict(versions),
        "counts": {
            "queries": len(frames.queries),
            "frames": result.frames,
            "pairs": result.pairs,
            "pairs_exact": result.tally.pairs_computed + result.tally.pairs_cached,
        },
        "search": result.search.to_json(),
        "detection": detection_document(result.detections),
        "published": [row.to_json() for row in setup.published(config)],
        "other_sides": list(setup.other_sides(config)),
        "queries": [
            query_document(query, score) for query, score in zip(frames.queries, result.search.queries, strict=True)
        ],
        "run": dict(run),
    }


def detection_document(detection: Detection | None) -> dict[str, Any] | None:
    """None where detection was not measured."""
    if detection is None:
        return None
    return {
        "iou": 0.5,
        "all": detection.all.to_json(),
        "confident": {"person_score": detection.det_thresh, **detection.confident.to_json()},
    }


def query_document(query: LabelledQuery, score: QueryScore) -> dict[str, Any]:
    own = {"query": query.name, "image": query.path.name, "box": _border(query.box), "person_id": query.person_id}
    return {**own, "gallery": len(query.gallery), **score.to_json()}


def ranking_lines(frames: FrameSet, result: BenchmarkResult, keep: int) -> Iterator[dict[str, Any]]:
    """The `keep` best detections of each query: an object each, the best first within a query."""
    for query, score in zip(frames.queries, result.search.queries, strict=True):
        for rank, found in enumerate(score.ranking[:keep], start=1):
            yield {
                "query": query.name,
                "rank": rank,
                "frame": found.frame,
                "box": _border(found.box),
                "score": round(found.score, SCORE_DECIMALS),
                "correct": found.correct,
            }


def _border(box: Box) -> list[float]:
    return [round(float(value), BOX_DECIMALS) for value in xyxy_to_xywh(box)]
