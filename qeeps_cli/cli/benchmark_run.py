"""The run of `qeeps benchmark`: how to rank, with which weights, and where to keep what is done."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from qeeps_cli.cache.store import Cache
    from qeeps_cli.datasets.frames import FrameSet
    from qeeps_cli.evaluation.runner import BenchmarkOptions, BenchmarkResult
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.weights import Checkpoint

EXAMPLES = "examples"
EXAMPLES_SHORTLIST = "10%"  # so that two CPU cores are done in two to three minutes
SLOW_PAIRS = 20_000  # so many take hours without a GPU
BLOCKS = ("QSSE", "QRPN", "QSimNet")  # in the order of model.config.VARIANTS


def choose_ranking(
    engine: "Engine",
    dataset: str,
    method: str | None,
    mode: str | None,
    *,
    shortlist: str | None,
    expand: bool,
    batch: int | None,
    **settings: Any,
) -> "BenchmarkOptions":
    """Fills in what the options leave open. Raises UsageError for options that do not go together."""
    from qeeps_cli.evaluation.runner import BenchmarkOptions
    from qeeps_cli.searching.cascade import shortlist_size
    from qeeps_cli.searching.loading import batch_size

    config = engine.model.config
    if method is None:
        method = "oim" if config.variant == "oim" and mode is None else "qeeps"
    if method == "oim" and mode is not None:
        raise UsageError("--mode belongs to --method qeeps; the method oim runs each frame once, without the query.")
    if expand and (method == "oim" or not config.has_qsimnet):
        raise UsageError(
            "--expand ranks by QSimNet's scores of cached people here; cosines, which --method oim and weights without "
            "QSimNet have, are expanded by `qeeps search` alone."
        )
    if mode is None and expand:
        mode = "cached"
    elif mode is None:
        mode = "cascade" if dataset == EXAMPLES and config.has_qsimnet else "exact"
    if shortlist is not None:
        if method != "qeeps" or mode != "cascade":
            raise UsageError("--shortlist belongs to --mode cascade.")
        shortlist_size(shortlist, 1)  # raises for what is no size
    elif dataset == EXAMPLES:
        shortlist = EXAMPLES_SHORTLIST
    how = {"method": method, "mode": mode, "shortlist": shortlist, "expand": expand}
    return BenchmarkOptions(**how, batch=batch_size(engine, batch), **settings)


def check_variant(checkpoint: "Checkpoint", variant: str | None) -> None:
    """Raises WeightsError unless the weights are of that row of Table 1, neither with fewer blocks nor with more."""
    from qeeps_cli.model.config import VARIANTS

    if variant is None or variant == checkpoint.config.variant:
        return
    if variant not in VARIANTS:
        raise UsageError(f"--variant expects one of {', '.join(VARIANTS)}, got {variant!r}.")
    own = checkpoint.config.variant
    cosine = " --method oim ranks by the cosine of the embeddings of any weights." if variant == "oim" else ""
    raise WeightsError(
        f"--variant {variant} expects weights with {_blocks(variant)}, got {checkpoint.path}, which are of the variant "
        f"{own}, with {_blocks(own)}. A row of Table 1 is a network that was trained with just its blocks; `qeeps "
        f"train` makes one.{cosine}"
    )


def _blocks(variant: str) -> str:
    from qeeps_cli.model.config import VARIANTS

    present = [name for name, has in zip(BLOCKS, VARIANTS[variant], strict=True) if has]
    return " and ".join(present) if present else "no query-guided block"


def run(
    engine: "Engine", frames: "FrameSet", options: "BenchmarkOptions", cache: "Cache | None", messages: Messages
) -> "tuple[BenchmarkResult, dict[str, Any]]":
    """The result, and how the run went as JSON types."""
    from qeeps_cli.evaluation.runner import run_benchmark

    _announce(engine, frames, options, messages)
    began = time.monotonic()
    with show_progress(messages) as show:
        result = run_benchmark(engine, frames, options, cache=cache, progress=show)
    return result, _describe_run(engine, options, result, cache, time.monotonic() - began)


def _announce(engine: "Engine", frames: "FrameSet", options: "BenchmarkOptions", messages: Messages) -> None:
    for note in frames.notes:
        messages.note(note)
    if not options.pairwise:
        return
    pairs = sum(len(set(query.gallery)) for query in frames.queries)
    messages.say(f"{pairs:,} pairs of query and frame to compare")
    if pairs > SLOW_PAIRS and engine.model.qsimnet is not None:
        messages.note("--mode cascade and --mode cached take far fewer passes through the network")


def _describe_run(
    engine: "Engine", options: "BenchmarkOptions", result: "BenchmarkResult", cache: "Cache | None", seconds: float
) -> dict[str, Any]:
    import torch

    from qeeps_cli.device import describe
    from qeeps_cli.evaluation.memory import process_peak

    pairs = result.tally.pairs_computed if options.pairwise else result.pairs
    gpu = engine.device.type == "cuda"
    return {
        "seconds": round(seconds, 3),
        "pairs_per_second": round(pairs / seconds, 3) if seconds > 0 else None,
        **asdict(result.tally),
        "device": describe(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "batch": options.batch,
        "peak_memory": process_peak() or None,
        "peak_gpu_memory": torch.cuda.max_memory_allocated(engine.device) if gpu else None,
        "cache": str(cache.folder) if cache else None,
    }
