"""From a trained network to one for searching: the same function in fewer operations."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from qeeps_cli.model.pooling import pool_by_products
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.torchvision_parts import Bottleneck

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("id_conv1", "id_bn1"))


def for_search(model: QEEPS, device: torch.device, dtype: torch.dtype) -> QEEPS:
    """A copy on the device with BatchNorms folded into the convolutions before them, whose weights are then dtype.

    The copy cannot be trained. Linear layers keep float32. A copy of a copy is the same again.
    """
    model = copy.deepcopy(model).to(device, memory_format=torch.channels_last).eval()
    for trunk in (model.basenet, model.roi_head):
        for module in list(trunk.modules()):
            _fold(module)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    if model.qrpn is not None:
        model.qrpn.pool = pool_by_products
    is_bottleneck = isinstance(model.roi_head.layer4[0], Bottleneck)
    if model.roi_head.looks_at == "conv3":
        model.roi_head.pool = pool_by_products
    model.roi_head.conv5 = conv5_before_pooling if is_bottleneck else conv5_of_products
    return model.requires_grad_(False)


def conv5_of_products(layer4: nn.Sequential, feature_map: Tensor, rois: list[Tensor], size: int) -> Tensor:
    """`roi_head.pooled_conv5` with RoIAlign as matrix products."""
    return layer4(pool_by_products(feature_map, rois, size))


def conv5_before_pooling(layer4: nn.Sequential, feature_map: Tensor, rois: list[Tensor], size: int) -> Tensor:
    """`roi_head.pooled_conv5` with its first block's 1×1 convolutions run once on the map instead of on every RoI.

    Pooling is a weighted mean and a 1×1 convolution (its BatchNorm folded in) an affine map of each cell: they commute.
    """
    block = layer4[0]
    in_1x1, in_shortcut = block.conv1, block.downsample[0]
    hidden = F.conv2d(feature_map, in_1x1.weight, in_1x1.bias)
    shortcut = F.conv2d(feature_map, in_shortcut.weight, in_shortcut.bias)
    hidden = pool_by_products(hidden, rois, size, every=in_1x1.stride[0]).relu()
    out = block.conv3(block.conv2(hidden).relu())
    out += pool_by_products(shortcut, rois, size, every=in_shortcut.stride[0])
    return layer4[1:](out.relu())


def _fold(module: nn.Module) -> None:
    """The convolutions of a ResNet block, of a shortcut or of the stem, with the BatchNorms that follow them."""
    pairs = _PAIRS if not isinstance(module, nn.Sequential) else (("0", "1"),)
    for conv_name, norm_name in pairs:
        conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
