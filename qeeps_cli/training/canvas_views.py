"""Further views of painted canvases, made where the network is: mirrored, and in other colours or another light.

Painting takes a core some five milliseconds a canvas, far longer than a GPU takes to learn from it. These views cost
next to nothing; a teacher that sees canvases sees them changed alike, and so has a target for every one of them.
"""

import math

import torch
from torch import Tensor

from qeeps_cli.model.preprocess import MEAN, STD
from qeeps_cli.training.population import UNKNOWN
from qeeps_cli.training.stage import Batch

WAIST = (0.45, 0.6)  # of the person's height: colours change above it, below it, or both
LUMINANCE = (0.299, 0.587, 0.114)


def another_view(batch: Batch, novel: float) -> Batch:
    """The canvases of a batch, each mirrored half of the time; a share `novel` of them as people in other clothes, who
    are UNKNOWN and have no target but a teacher's that sees them, the others in another light.

    Draws from PyTorch's generator for the CPU, wherever the batch is.
    """
    images, boxes = batch["images"], batch["boxes"]
    count, device = len(images), images.device
    dressed_anew = torch.rand(count) < novel
    changes = _changes(dressed_anew)
    waist = torch.empty(count).uniform_(*WAIST).to(device)
    mirrored = (torch.rand(count) < 0.5).to(device)
    changes, dressed_anew = changes.to(device), dressed_anew.to(device)

    mean, std = (torch.tensor(v, device=device).reshape(3, 1, 1) for v in (MEAN, STD))
    rows = boxes[:, 1] + waist * (boxes[:, 3] - boxes[:, 1])
    changed = (_apply(images * std + mean, changes, rows) - mean) / std
    view = batch | {
        "images": _mirror(changed, mirrored).contiguous(memory_format=torch.channels_last),
        "boxes": torch.where(mirrored[:, None], _mirrored_boxes(boxes, images.shape[-1]), boxes),
        "labels": batch["labels"].masked_fill(dressed_anew, UNKNOWN),
        "targets": batch["targets"].masked_fill(dressed_anew[:, None], math.nan),
    }
    if "teacher_inputs" in batch:
        rgb = batch["teacher_inputs"].flip(1).float() / 255  # they are BGR
        rgb = _apply(rgb, changes, waist * rgb.shape[-2])
        view["teacher_inputs"] = 255 * _mirror(rgb, mirrored).flip(1)
    return view


def _changes(dressed_anew: Tensor) -> Tensor:
    """(2, N, 3, 4): for what is above the waist and what is below it, a matrix for RGB and, in the last column, the
    exponents after it."""
    count = len(dressed_anew)
    light = _lights(count).expand(2, -1, -1, -1)
    clothes = torch.stack([_colours(count), _colours(count)])
    part = torch.randint(3, (count,))  # only above, only below, both
    same = torch.cat([torch.eye(3), torch.ones(3, 1)], dim=1)
    clothes[0, part == 1], clothes[1, part == 0] = same, same
    return torch.where(dressed_anew[:, None, None], clothes, light)


def _colours(count: int) -> Tensor:
    """(N, 3, 4) that turn hues, make them livelier or duller and lighter or darker, and sometimes exchange channels."""
    angle = (2 * math.pi * torch.rand(count))[:, None, None]
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = angle.cos() * torch.eye(3) + (1 - angle.cos()) / 3 + angle.sin() * axis  # about the axis of greys
    livelier = torch.randn(count).mul(0.5).add(0.2).exp()[:, None, None]
    saturated = livelier * torch.eye(3) + (1 - livelier) * torch.tensor(LUMINANCE)
    exchanged = torch.eye(3)[torch.argsort(torch.rand(count, 3), dim=1)]
    exchanged[torch.rand(count) >= 0.3] = torch.eye(3)
    exponents = torch.randn(count).mul(0.35).exp()[:, None, None].expand(-1, 3, 1)
    return torch.cat([saturated @ turned @ exchanged, exponents], dim=2)


def _lights(count: int) -> Tensor:
    """(N, 3, 4): exposure, gamma and a faint cast, as `augment.photometric` has them."""
    gain = torch.randn(count, 1).mul(0.22).exp() * torch.randn(count, 3).mul(0.05).exp()
    gamma = torch.randn(count).mul(0.18).exp()[:, None, None].expand(-1, 3, 1)
    return torch.cat([torch.diag_embed(gain), gamma], dim=2)


def _apply(rgb: Tensor, changes: Tensor, rows: Tensor) -> Tensor:
    """rgb (N, 3, H, W), 0 to 1, by the first of changes (2, N, 3, 4) above row rows (N,), by the second below it."""
    below = torch.arange(rgb.shape[-2], device=rgb.device) >= rows[:, None]
    changed = [_change(rgb, change) for change in changes]
    return torch.where(below[:, None, :, None], changed[1], changed[0])


def _change(rgb: Tensor, change: Tensor) -> Tensor:
    # no matrix product: it would be rounded to bfloat16 under autocast
    mixed = sum(change[:, :, i, None, None] * rgb[:, None, i] for i in range(3))
    return mixed.clamp(0, 1) ** change[:, :, 3, None, None]


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def _mirrored_boxes(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
