"""Pictures to measure on: a frame and a query of the examples, or a pattern where an installation has none."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qeeps_cli.images import read_image, resize
from qeeps_cli.types import Box

EXAMPLES = Path(__file__).parents[2] / "examples" / "cctv" / "frames"  # in a checkout; a wheel has none
QUERY, QUERY_BOX, FRAME = "vtest_0550.jpg", (169.0, 367.0, 226.0, 513.0), "vtest_0050.jpg"
BLOCK = 32  # pixels of the pattern that are alike


class Pictures(NamedTuple):
    """A query (H, W, 3) uint8 with its person's xyxy box, a frame (H, W, 3) uint8, and what they are, in words."""

    query: np.ndarray
    box: Box
    frame: np.ndarray
    what: str


def example_pictures(size: tuple[int, int], folder: Path = EXAMPLES) -> Pictures:
    """The query as it is, and the frame at size (height, width), cut to that shape; both hold the same man."""
    if not (folder / QUERY).is_file() or not (folder / FRAME).is_file():
        return pattern(size)
    frame = resize(_cut(read_image(folder / FRAME).rgb, size), *size)
    return Pictures(
        read_image(folder / QUERY).rgb, QUERY_BOX, frame, f"{FRAME} of the example frames, cut and scaled; {QUERY}"
    )


def pattern(size: tuple[int, int]) -> Pictures:
    """A pattern of coloured blocks, the same at every call."""
    height, width = size
    colours = np.random.default_rng(0).integers(0, 256, (-(-height // BLOCK), -(-width // BLOCK), 3), np.uint8)
    picture = colours.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    box = (width / 4, height / 4, width / 2, height * 3 / 4)
    return Pictures(picture, box, picture, "a pattern of blocks, for want of the example frames: no people in it")


def _cut(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest middle part of the picture that has the shape of size."""
    scale = min(rgb.shape[0] / size[0], rgb.shape[1] / size[1])
    height, width = (max(1, round(side * scale)) for side in size)
    top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
    return rgb[top : top + height, left : left + width]
