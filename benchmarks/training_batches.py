"""What it takes a process to prepare a training step, without the network: how many processes a GPU needs beside it.

    python benchmarks/training_batches.py weights/qeeps-r18.toml weights/qeeps-r18-embed-gpu.toml --data-root DATA
    PYTHONPATH=CHECKOUT python benchmarks/training_batches.py …          the same by the code of another checkout

Of the stages `embed` and `detect`. ms: the mean of --steps steps, on one thread. Pictures are read from disk by
`detect`, and are in memory for `embed`; a pair is two. A step's MB are what processes hand over and what goes to the
GPU.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from timing import table

from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import TrainConfig, read_recipe
from qeeps_cli.training.crop_bank import load_crops
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.detect_stage import DetectStage
from qeeps_cli.training.embed_stage import EmbedStage
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.population import gather
from qeeps_cli.training.stage import Stage

COLUMNS = ["recipe", "stage", "pictures a step", "ms a step", "ms a picture", "MB a step"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("recipes", nargs="+", type=Path)
    options.add_argument("--data-root", type=Path)
    options.add_argument("--steps", type=int, default=20)
    given = options.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in given.recipes:
        for stage in stages(read_recipe(path, given.data_root)):
            rows.append([path.stem, stage.name, *measured(stage, given.steps)])
    if not rows:
        raise SystemExit("none of these recipes has a stage embed or detect, which are those that are measured.")
    print(table(COLUMNS, rows))


def stages(recipe: TrainConfig) -> Iterator[Stage]:
    """Those of the recipe that draw what they show; the teacher's targets, which nothing here looks at, are zeros."""
    population = gather(recipe.data, named="embed" in recipe.stages)
    targets = np.zeros((len(population.people), recipe.model.embedding_dim), np.float32)
    for name, config in recipe.stages.items():
        if name == "detect":
            frames = FrameBatches(population, targets, config)
            yield DetectStage(config, frames, QEEPS(recipe.model), recipe.seed)
        elif name == "embed":
            # Nobody asks it here; where there was one, code of before prepared its input with the step.
            teacher: Any = object() if config.teacher_sees == "canvases" else None
            crops = CropBatches(population, load_crops(population.people), targets, config, teacher)
            yield EmbedStage(config, crops, recipe.seed)


def measured(stage: Stage, steps: int) -> tuple[str, ...]:
    """Pictures, milliseconds, milliseconds a picture and megabytes of a step."""
    stage.batch(0)
    times, count, size = [], [], []
    for step in range(1, steps + 1):
        begin = time.perf_counter()
        batch = stage.batch(step)
        times.append(1000 * (time.perf_counter() - begin))
        count.append(len(batch["images"]) + len(batch.get("query_images", ())))
        size.append(sum(t.numel() * t.element_size() for t in batch.values() if isinstance(t, torch.Tensor)) / 1e6)
    return f"{mean(count):.1f}", f"{mean(times):.0f}", f"{sum(times) / sum(count):.1f}", f"{mean(size):.1f}"


if __name__ == "__main__":
    main()
