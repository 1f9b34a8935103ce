"""From decoded pictures to network inputs: scaling, normalisation, and the query brought to the gallery's size."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.images import resize
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.types import Box

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in 0..1: what the initial weights were trained with
STD = (0.229, 0.224, 0.225)
PREPROCESSING = {"colour": "RGB", "range": "0..1", "mean": list(MEAN), "std": list(STD), "resize": "bilinear"}


class Placed(NamedTuple):
    """A query on a canvas of the gallery's size: rgb (H, W, 3) float32 normalised CHW tensor, and its xyxy box
    there."""

    image: Tensor
    box: Box


def scaled_size(height: int, width: int, config: ModelConfig) -> tuple[int, int]:
    """(height, width) at which the network sees a frame of this size (§5.2)."""
    scale = min(config.shorter_side / min(height, width), config.longest_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32, normalised."""
    return normalise(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1))


def normalise(images: Tensor) -> Tensor:
    """(…, 3, H, W) uint8 to float32 with the mean and spread of ImageNet's channels taken out, on the same device."""
    mean, std = (torch.tensor(of_channels).mul(255).reshape(3, 1, 1) for of_channels in (MEAN, STD))
    mean, std = mean.to(images.device, non_blocking=True), std.to(images.device, non_blocking=True)
    return images.float().sub(mean).div_(std)


def prepare_frame(rgb: np.ndarray, config: ModelConfig) -> tuple[Tensor, tuple[float, float]]:
    """A frame at the network's size, (3, H, W), and the factors (x, y) that its boxes were multiplied by."""
    height, width = rgb.shape[:2]
    new_height, new_width = scaled_size(height, width, config)
    return to_tensor(resize(rgb, new_height, new_width)), (new_width / width, new_height / height)


def prepare_query(rgb: np.ndarray, box: Box | None, size: tuple[int, int], config: ModelConfig) -> Placed:
    """The query padded or cropped to the gallery's size (§5.2), the person always inside.

    box: xyxy pixels of rgb, or None: the whole picture is the person's crop, which is scaled to config.crop_height
    first. size: (height, width) of the gallery's input. A person larger than that is scaled down until it fits.
    """
    height, width = rgb.shape[:2]
    if box is None:
        box = (0.0, 0.0, float(width), float(height))
        scale = config.crop_height / height
    else:
        scale = scaled_size(height, width, config)[0] / height
    scale = min(scale, size[0] / (box[3] - box[1]), size[1] / (box[2] - box[0]))
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    factors = (new_width / width, new_height / height)
    scaled_box = (box[0] * factors[0], box[1] * factors[1], box[2] * factors[0], box[3] * factors[1])
    return place(to_tensor(resize(rgb, new_height, new_width)), scaled_box, size)


def place(image: Tensor, box: Box, size: tuple[int, int]) -> Placed:
    """Pad with 0 (the mean colour) or crop (3, h, w) to size; a crop is centred on the box as far as the image
    allows."""
    canvas = image.new_zeros((3, *size))
    (left, source_x, span_x) = _window(image.shape[2], size[1], box[0], box[2])
    (top, source_y, span_y) = _window(image.shape[1], size[0], box[1], box[3])
    canvas[:, top : top + span_y, left : left + span_x] = image[
        :, source_y : source_y + span_y, source_x : source_x + span_x
    ]
    dx, dy = left - source_x, top - source_y
    x1, y1, x2, y2 = box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy
    return Placed(canvas, (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[1])), min(y2, float(size[0]))))


def _window(length: int, target: int, low: float, high: float) -> tuple[int, int, int]:
    """Where to copy along one axis: (start on the canvas, start in the image, number of pixels)."""
    if length <= target:
        return 0, 0, length
    centred = round((low + high) / 2 - target / 2)
    # Rounding may let the box stick out by a pixel; never by more, because it is no longer than the target.
    return 0, min(max(centred, 0), length - target), target
