"""The options by which the scripts here are given a labelled set."""

import argparse

from qeeps_cli.datasets import load
from qeeps_cli.datasets.frames import FrameSet


def add_set_options(options: argparse.ArgumentParser) -> None:
    """--root and what belongs to it."""
    options.add_argument("--root", help="a COCO-like set; default: the example frames")
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", default="queries.json")
    options.add_argument("--extra", nargs="*", default=[], help="more labels of the set")


def read_set(given: argparse.Namespace) -> FrameSet:
    """The set that they name. Raises DataError."""
    if not given.root:
        return load("examples", None)
    files = {"annotations": given.annotations, "queries": given.queries_file, "extra": given.extra}
    return load("coco", given.root, **files)
