"""Validation with the real metric: the benchmark's protocol on a small set, at the end of a stage or while it runs."""

import torch

from qeeps_cli.datasets import load
from qeeps_cli.errors import DataError
from qeeps_cli.evaluation.protocols import limit
from qeeps_cli.evaluation.runner import run_benchmark
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.engine import Engine
from qeeps_cli.training.config import DataSource

# Fewer and likelier proposals than a search takes: validation is for choosing, and has to be over soon.
PARAMS = InferenceParams(proposals=100, min_objectness=0.05)


def require_queries(source: DataSource) -> None:
    """Raises DataError for a set that cannot be read, or has nobody to search for."""
    if not load(source.kind, source.root, **source.options).queries:
        raise DataError(f"the validation set {source.root} has no queries; expected somebody to search for in it.")


def search_validation(model: QEEPS, source: DataSource, queries: int, frames: int) -> dict[str, float]:
    """Per cent: mAP and top-1 by cosine with OIM's protocol, QSimNet's where there is one, and detection at IoU 0.5.

    From query-independent detections, which cost one pass a frame. queries, frames: how many to use, 0 for all.
    """
    content = limit(load(source.kind, source.root, **source.options), queries or None, frames or None)
    device: torch.device = next(model.parameters()).device
    engine = Engine(model, device, PARAMS)
    oim = run_benchmark(engine, content, method="oim")
    metrics = {
        "mAP": oim.search.mean_ap,
        "top1": oim.search.top(1),
        "det_recall": oim.detection.recall,
        "det_AP": oim.detection.ap,
    }
    if model.qsimnet is not None:
        cached = run_benchmark(engine, content, method="qeeps", mode="cached").search
        metrics |= {"qsimnet_mAP": cached.mean_ap, "qsimnet_top1": cached.top(1)}
    return {name: round(100 * value, 2) for name, value in metrics.items()}
