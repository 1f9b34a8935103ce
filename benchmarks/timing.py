"""What the benchmarks share: interleaved timing, pictures, and tables."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qeeps_cli.images import read_image, resize

REPOSITORY = Path(__file__).parents[1]
FRAMES = sorted((REPOSITORY / "examples" / "rendered" / "frames").glob("*.jpg"))


def pictures(count: int, height: int | None = None, width: int | None = None) -> list[np.ndarray]:
    """Example frames (H, W, 3) uint8, evenly spaced, repeated if there are too few; resized if a size is given."""
    chosen = [FRAMES[i * len(FRAMES) // count % len(FRAMES)] for i in range(count)]
    decoded = [read_image(path).rgb for path in chosen]
    return decoded if height is None else [resize(rgb, height, width) for rgb in decoded]


def example_query(height: int, width: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The first query of the example frames at a size: rgb (H, W, 3) uint8 and the person's xyxy box in it."""
    query = json.loads((FRAMES[0].parents[1] / "queries.json").read_text())[0]
    rgb = read_image(FRAMES[0].parent / query["image"]).rgb
    x, y, w, h = query["bbox"]
    across, down = width / rgb.shape[1], height / rgb.shape[0]
    return resize(rgb, height, width), (x * across, y * down, (x + w) * across, (y + h) * down)


def interleaved(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each; in each round everybody runs once, so that a slow minute of the machine hits all.

    clock: `time.process_time` counts what the processor works for this process, in all its threads.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + rounds):
        for name, run in contenders.items():
            began = clock()
            run()
            if turn >= warmup:
                seconds[name].append(clock() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, as it goes into docs/performance.md."""
    return "\n".join(map(line, [header, ["---"] * len(header), *rows]))


def line(cells: list[str]) -> str:
    """One line of such a table, for benchmarks that print it while they run."""
    return "| " + " | ".join(cells) + " |"
