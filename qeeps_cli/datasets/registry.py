"""All sets of frames by the name that `qeeps benchmark --dataset` and a training config give them."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


# What the readers' options have to be, which may come from a user's file: whether a value is that, and how to say it.
_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "annotations": (_is_text, "a text"),
    "queries": (lambda value: value is None or _is_text(value), "a text or nothing"),
    "split": (_is_text, "a text"),
    "extra": (_is_texts, "a list of texts"),
    "gallery_size": (lambda value: type(value) is int or _is_text(value), 'a whole number or "all"'),
    "cross_camera": (lambda value: isinstance(value, bool), "true or false"),
}


def load(name: str, root: Path | None, **options) -> FrameSet:
    """Reads the set `name` under `root`; the options are those of its reader.

    Raises UsageError for an unknown name or option, an option of another type and a missing root, and what the reader
    raises.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}; known are {', '.join(DATASETS)}.")
    reader = DATASETS[name]
    known = [option for option in inspect.signature(reader).parameters if option != "root"]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UsageError(f"dataset {name} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    for option, value in options.items():
        fits, expected = _OPTIONS[option]
        if not fits(value):
            raise UsageError(f"dataset {name}: expected {option} to be {expected}, got {value!r}.")
    if root is None and name in ROOTS:
        raise UsageError(f"--dataset {name} needs --root DIR: {ROOTS[name]}.")
    return reader(root if root is None else Path(root), **options)
