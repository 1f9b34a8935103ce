"""All sets of frames by the name that `qeeps benchmark --dataset` and a training config give them."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qeeps_cli.datasets.coco import load_coco
from qeeps_cli.datasets.cuhk_sysu import load_cuhk_sysu
from qeeps_cli.datasets.examples import load_examples
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.prw import load_prw
from qeeps_cli.errors import UsageError

DATASETS: dict[str, Callable[..., FrameSet]] = {
    "coco": load_coco,
    "cuhk-sysu": load_cuhk_sysu,
    "examples": load_examples,
    "prw": load_prw,
    "prw-mini": partial(load_prw, queries="mini"),
}


# What --root should be, for messages; a set that is not named finds its folder itself.
ROOTS: dict[str, str] = {
    "coco": "the folder with frames/, annotations.json and queries.json",
    "cuhk-sysu": "the folder with Image/ and annotation/",
    "prw": "the folder PRW-v16.04.20",
    "prw-mini": "the folder PRW-v16.04.20",
}


def load(name: str, root: Path | None, **options) -> FrameSet:
    """Reads the set `name` under `root`; the options are those of its reader.

    Raises UsageError for an unknown name or option and for a missing root, and what the reader raises.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}; known are {', '.join(DATASETS)}.")
    reader = DATASETS[name]
    known = [option for option in inspect.signature(reader).parameters if option != "root"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UsageError(f"dataset {name} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    if root is None and name in ROOTS:
        raise UsageError(f"--dataset {name} needs --root DIR: {ROOTS[name]}.")
    return reader(root if root is None else Path(root), **options)
