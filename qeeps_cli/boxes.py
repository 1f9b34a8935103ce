"""Box conversions and overlap, in numpy. Inside the code a box is float `xyxy` pixels; `x,y,w,h` is for the border.

IoU is continuous: width is x2 − x1, no +1 (protocol of OIM's evaluation).
"""

import math

import numpy as np

from qeeps_cli.errors import UsageError
from qeeps_cli.types import Box


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) x,y,w,h to (..., 4) xyxy, same dtype."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) xyxy to (..., 4) x,y,w,h, same dtype."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of (N, 4) and (M, 4) xyxy boxes: (N, M) float64; 0 where both areas are 0."""
    a = np.asarray(a, np.float64).reshape(-1, 1, 4)
    b = np.asarray(b, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.prod(np.clip(sides, 0, None), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def clip(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """(N, 4) xyxy boxes cut to the image."""
    boxes = np.array(boxes, copy=True)
    boxes[..., 0::2] = boxes[..., 0::2].clip(0, width)
    boxes[..., 1::2] = boxes[..., 1::2].clip(0, height)
    return boxes


def parse_box(text: str) -> Box:
    """`"x,y,w,h"` (pixels, floats allowed) to xyxy.

    Raises UsageError for anything but four finite numbers with positive width and height.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        x, y, w, h = (float(part) for part in parts)
    except ValueError:
        raise UsageError(
            f"--box expects four numbers x,y,w,h in pixels (left, top, width, height), got {text!r}."
        ) from None
    if not all(math.isfinite(v) for v in (x, y, w, h)):
        raise UsageError(f"--box expects finite numbers x,y,w,h, got {text!r}.")
    if w <= 0 or h <= 0:
        raise UsageError(f"--box expects a positive width and height, got w={w:g}, h={h:g} in {text!r}.")
    return x, y, x + w, y + h


def fit_box(box: Box, height: int, width: int) -> tuple[Box, str | None]:
    """A user's xyxy box, cut to an image of height × width, and a note when it had to be cut.

    Raises UsageError when less than one pixel of it, either way, lies inside the image.
    """
    x1, y1, x2, y2 = box
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    corners = _as_corners(box, height, width)
    if cut[2] - cut[0] < 1 or cut[3] - cut[1] < 1:
        raise UsageError(
            f"the box x,y,w,h = {x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g} lies outside the query image, which is "
            f"{width} pixels wide and {height} high. Boxes are in pixels of the upright image; "
            f"`qeeps detect IMAGE` lists the people in it with their boxes.{corners}"
        )
    if cut == tuple(box):
        return cut, None
    return cut, (
        f"the box reached over the edge of the {width}x{height} query image and was cut to "
        f"{cut[0]:g},{cut[1]:g},{cut[2] - cut[0]:g},{cut[3] - cut[1]:g}{corners and '.'}{corners}"
    )


def _as_corners(box: Box, height: int, width: int) -> str:
    """What to write if a box that does not fit was given as x1,y1,x2,y2; empty where it cannot have been."""
    left, top, right, bottom = box[0], box[1], box[2] - box[0], box[3] - box[1]  # as they were written
    if not (0 <= left <= right - 1 <= width - 1 and 0 <= top <= bottom - 1 <= height - 1):
        return ""
    meant = f"{left:g},{top:g},{right - left:g},{bottom - top:g}"
    return f" If it was given by its corners, x1,y1,x2,y2, write x,y,w,h = {meant}."
