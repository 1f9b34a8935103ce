"""A frame as training sees it: scaled, cropped to one size, mirrored, augmented, with its boxes moved along."""

from dataclasses import dataclass

import numpy as np

from qeeps_cli.images import resize
from qeeps_cli.training.augment import Rng, erase, photometric
from qeeps_cli.training.pictures import read_picture
from qeeps_cli.training.population import Frame

SHORTER_SIDES = (300, 620)  # pixels; searching uses 600, and people of all sizes
PADDING = (124, 116, 104)  # the mean colour: 0 after normalisation
VISIBLE = 0.5  # people of whom less remains in the view are ignored
GONE = 0.15  # and below this they are not there


@dataclass(frozen=True)
class View:
    """rgb: (H, W, 3) uint8. boxes (N, 4) float32 xyxy, labels (N,), ignore (N,), rows (N,): each person's row in the
    frame."""

    rgb: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    rows: np.ndarray


def view(frame: Frame, focus: int | None, size: tuple[int, int], rng: Rng, mirror: bool, erasing: float = 0.15) -> View:
    """A random view of (height, width) = size in which the person of row `focus` is whole, as far as they fit.

    Raises DataError naming the picture if it cannot be read.
    """
    rgb = read_picture(frame.path)
    scale = _draw_scale(frame, focus, rgb.shape[:2], size, rng)
    scaled = resize(rgb, max(1, round(rgb.shape[0] * scale)), max(1, round(rgb.shape[1] * scale)))
    factors = np.array([scaled.shape[1] / rgb.shape[1], scaled.shape[0] / rgb.shape[0]] * 2, np.float32)
    boxes = frame.boxes.astype(np.float32) * factors
    left = _draw_offset(scaled.shape[1], size[1], None if focus is None else boxes[focus, 0::2], rng)
    top = _draw_offset(scaled.shape[0], size[0], None if focus is None else boxes[focus, 1::2], rng)
    canvas = _window(scaled, left, top, size)
    boxes = boxes - np.array([left, top, left, top], np.float32)
    if mirror:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
        boxes = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)
    canvas = photometric(canvas, rng)
    seen = _cut_boxes(frame, boxes, size)
    for box in seen.boxes:
        erase(canvas, box, rng, erasing)
    return View(canvas, seen.boxes, seen.labels, seen.ignore, seen.rows)


def _draw_scale(frame: Frame, focus: int | None, shape: tuple[int, int], size: tuple[int, int], rng: Rng) -> float:
    scale = np.exp(rng.uniform(*np.log(SHORTER_SIDES))) / min(shape)
    if focus is not None:
        x1, y1, x2, y2 = frame.boxes[focus]
        scale = min(scale, 0.95 * size[0] / (y2 - y1), 0.95 * size[1] / (x2 - x1))
    return float(scale)


def _draw_offset(length: int, target: int, focus: np.ndarray | None, rng: Rng) -> int:
    """Where the window starts along one axis; negative: the frame is shorter than the window and is padded."""
    if length <= target:
        return -int(rng.integers(0, target - length + 1))
    low, high = 0, length - target
    if focus is not None:
        low = int(np.clip(np.ceil(focus[1]) - target, 0, high))
        high = int(np.clip(np.floor(focus[0]), low, high))
    return int(rng.integers(low, high + 1))


def _window(rgb: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = PADDING
    part = rgb[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
    y, x = max(-top, 0), max(-left, 0)
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


def _cut_boxes(frame: Frame, boxes: np.ndarray, size: tuple[int, int]) -> View:
    cut = boxes.copy()
    cut[:, 0::2] = cut[:, 0::2].clip(0, size[1])
    cut[:, 1::2] = cut[:, 1::2].clip(0, size[0])
    sides, whole = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    remains = np.prod(sides, axis=1) / np.maximum(np.prod(whole, axis=1), 1e-6)
    rows = np.flatnonzero((remains > GONE) & (sides > 2).all(axis=1))
    ignore = frame.ignore[rows] | (remains[rows] < VISIBLE)
    return View(np.empty(0, np.uint8), cut[rows], frame.labels[rows], ignore, rows)


def crop_view(frame: Frame, row: int, size: tuple[int, int], rng: Rng, mirror: bool) -> View:
    """A query without its frame: the person's crop, at a random height, in the corner of an empty canvas.

    That is how `model.preprocess.prepare_query` lays out a bare crop.
    """
    rgb = read_picture(frame.path)
    x1, y1, x2, y2 = (int(round(float(v))) for v in frame.boxes[row])
    crop = np.ascontiguousarray(rgb[max(y1, 0) : max(y2, y1 + 2), max(x1, 0) : max(x2, x1 + 2)])
    scale = min(rng.uniform(120, 280) / crop.shape[0], 0.95 * size[0] / crop.shape[0], 0.95 * size[1] / crop.shape[1])
    crop = photometric(resize(crop, max(8, round(crop.shape[0] * scale)), max(4, round(crop.shape[1] * scale))), rng)
    canvas = _window(crop[:, ::-1] if mirror else crop, 0, 0, size)
    box = np.array([[0, 0, crop.shape[1], crop.shape[0]]], np.float32)
    return View(canvas, box, frame.labels[[row]], np.zeros(1, bool), np.array([row]))
