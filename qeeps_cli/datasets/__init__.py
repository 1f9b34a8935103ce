"""Readers of labelled frames (COCO-style, PRW, CUHK-SYSU) and of person crops."""

from qeeps_cli.datasets.crops import load_crops
from qeeps_cli.datasets.frames import CropSet, FrameSet
from qeeps_cli.datasets.registry import DATASETS, load

__all__ = ["DATASETS", "CropSet", "FrameSet", "load", "load_crops"]
