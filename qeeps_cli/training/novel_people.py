"""People who do not exist, from people who do: other colours, and one's head and coat above another's legs.

Nobody can say who they are, but a teacher can say how it would tell them apart. A few thousand people wear few of the
things that there are to wear; these wear many more.
"""

import numpy as np
from PIL import Image

from qeeps_cli.images import resize
from qeeps_cli.training.augment import Rng
from qeeps_cli.training.crop_bank import Crop


def novel_person(crop: Crop, other: Crop, rng: Rng) -> Crop:
    """crop as somebody else: composed with another person's crop half of the time, recoloured otherwise, or both."""
    composed = rng.random() < 0.5
    if composed:
        crop = compose(crop, other, rng)
    return crop if composed and rng.random() < 0.4 else recolour_halves(crop, rng)


def compose(crop: Crop, other: Crop, rng: Rng) -> Crop:
    """crop, of whose box the part above or below a line at 40–65 % of the height shows the other person."""
    height, width = crop.rgb.shape[:2]
    x1, y1 = crop.box[:2].round().astype(int).clip(0, (width - 1, height - 1))
    x2, y2 = crop.box[2:].round().astype(int).clip((x1 + 1, y1 + 1), (width, height))
    left, top, right, bottom = other.box.round().astype(int)
    person = resize(np.ascontiguousarray(other.rgb[top:bottom, left:right]), y2 - y1, x2 - x1)
    cut = int((y2 - y1) * rng.uniform(0.4, 0.65))
    rows = slice(cut, None) if rng.random() < 0.5 else slice(0, cut)
    rgb = crop.rgb.copy()
    rgb[y1:y2, x1:x2][rows] = person[rows]
    return Crop(rgb, crop.box)


def recolour_halves(crop: Crop, rng: Rng) -> Crop:
    """crop with other colours above a line near the waist, below it, or both, each of its own."""
    y1, y2 = float(crop.box[1]), float(crop.box[3])
    waist = int(y1 + (y2 - y1) * rng.uniform(0.45, 0.6))
    which = rng.integers(3)
    rgb = crop.rgb.copy()
    if which != 1:
        rgb[:waist] = recolour(rgb[:waist], rng)
    if which != 0:
        rgb[waist:] = recolour(rgb[waist:], rng)
    return Crop(rgb, crop.box)


def recolour(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """(H, W, 3) uint8 with the same folds and patterns in other colours: hues turned, livelier or duller, lighter or
    darker, and sometimes with channels exchanged."""
    if rng.random() < 0.3:
        rgb = rgb[..., rng.permutation(3)]
    hsv = np.array(Image.fromarray(np.ascontiguousarray(rgb)).convert("HSV"))
    hsv[..., 0] += np.uint8(rng.integers(256))  # a circle, so that it may overflow
    livelier, lighter = np.exp(rng.normal(0.2, 0.5)), np.exp(rng.normal(0, 0.35))
    levels = np.arange(256)
    hsv[..., 1] = np.clip(levels * livelier, 0, 255).astype(np.uint8)[hsv[..., 1]]
    hsv[..., 2] = (255 * (levels / 255) ** lighter).astype(np.uint8)[hsv[..., 2]]
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
