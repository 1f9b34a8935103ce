"""Photometric augmentation that keeps a person's colours recognisable, and occlusion. Works on (H, W, 3) uint8
arrays."""

import io

import numpy as np
from PIL import Image, ImageFilter

Rng = np.random.Generator


def photometric(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """One illumination for the whole image (exposure, gamma, a faint cast), then blur, noise and JPEG, each at random.

    All channels move together but for a cast of a few per cent: a red coat stays red, as it does between two cameras.
    """
    image = _illumination(Image.fromarray(rgb), rng)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.2:
        noise = rng.standard_normal(rgb.shape[:2] + (1,), dtype=np.float32) * rng.uniform(2, 8)
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30, 85)))
        image = Image.open(buffer)
    return np.array(image)


def _illumination(image: Image.Image, rng: Rng) -> Image.Image:
    if rng.random() < 0.15:
        return image
    gain = np.exp(rng.normal(0, 0.22))
    gamma = np.exp(rng.normal(0, 0.18))
    cast = np.exp(rng.normal(0, 0.05, size=3))
    levels = np.linspace(0, 1, 256)[:, None]
    tables = np.clip(255 * np.clip(levels**gamma * gain, 0, None) * cast, 0, 255).astype(np.uint8)
    image = image.point(tables.T.ravel().tolist())
    return saturated(image, rng.uniform(0.6, 1.2)) if rng.random() < 0.3 else image  # a duller or livelier sensor


def saturated(image: Image.Image, factor: float) -> Image.Image:
    """The RGB picture with each channel's distance from the mean of a pixel's channels times factor."""
    others, own = (1 - factor) / 3, (1 + 2 * factor) / 3
    return image.convert("RGB", (own, others, others, 0, others, own, others, 0, others, others, own, 0))


def erase(rgb: np.ndarray, box: np.ndarray, rng: Rng, probability: float) -> None:
    """With the given probability cover a part of the person in box (xyxy pixels of rgb), in place.

    The cover is one flat colour with noise, over at most half the height or width, as a passer-by or furniture does.
    """
    if rng.random() >= probability:
        return
    x1, y1, x2, y2 = (int(v) for v in box)
    width, height = x2 - x1, y2 - y1
    if width < 8 or height < 16:
        return
    w, h = int(width * rng.uniform(0.2, 1.0)), int(height * rng.uniform(0.1, 0.45))
    left, top = x1 + int(rng.integers(0, width - w + 1)), y1 + int(rng.integers(0, height - h + 1))
    target = rgb[max(top, 0) : top + h, max(left, 0) : left + w]
    colour = rng.integers(20, 230, size=3) + rng.normal(0, 12, size=target.shape)
    target[:] = np.clip(colour, 0, 255).astype(np.uint8)


def jitter_boxes(boxes: np.ndarray, rng: Rng, amount: float, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) xyxy boxes whose sides moved by up to amount × the box's side, cut to (height, width)."""
    boxes = np.asarray(boxes, np.float32)
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + rng.uniform(-amount, amount, size=boxes.shape).astype(np.float32) * sides
    moved[:, 0::2] = moved[:, 0::2].clip(0, size[1])
    moved[:, 1::2] = moved[:, 1::2].clip(0, size[0])
    return moved
