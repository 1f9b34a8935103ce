"""BaseNet: ResNet conv1–conv4 at stride 16, shared by query and gallery, with a QSSE block in every residual block."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qsse import QSSE, absorb_initial_excitation, squeeze
from qeeps_cli.model.torchvision_parts import BasicBlock, Bottleneck, ResNet, models

STRIDE = 16  # of conv4's map
FINE_STRIDE = 8  # of conv3's


class Stem(NamedTuple):
    """What of an image does not depend on the image that it is paired with: all before the first QSSE block.

    x: (B, C, H/4, W/4), conv1 to max-pool. residual: (B, C', H/4, W/4), the residual branch of conv2's first block.
    size: (H, W) of the image. images: (B, 3, H, W) themselves, where identification looks at them.
    """

    x: Tensor
    residual: Tensor
    size: tuple[int, int]
    images: Tensor | None

    def pick(self, rows: list[int] | slice) -> "Stem":
        """Of some of the images."""
        images = None if self.images is None else self.images[rows]
        return Stem(self.x[rows], self.residual[rows], self.size, images)


class FeatureMaps(NamedTuple):
    """Of a batch of images: what RoI heads look at.

    images: (B, 3, H, W) themselves. conv3: (B, C/2, H/8, W/8), and conv4: (B, C, H/16, W/16), where the paper's heads
    look. None where nobody looks at one.
    """

    images: Tensor | None
    conv3: Tensor | None
    conv4: Tensor | None


class BaseNet(nn.Module):
    """The Siamese trunk.

    Names of the ResNet's parameters are torchvision's (`conv1`, `bn1`, `layer1` … `layer3`), so that its weights load
    as they are. conv4 of the paper is `layer3`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        resnet = build_resnet(config)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3 = resnet.layer1, resnet.layer2, resnet.layer3
        self.keeps_images = config.roi_head == "pixels"
        self.qsse = (
            nn.ModuleList(QSSE(_last_norm(block).num_features, config.reduction) for block in self.blocks())
            if config.has_qsse
            else None
        )

    def blocks(self) -> list[nn.Module]:
        """The residual blocks of conv2–conv4, in order."""
        return [*self.layer1, *self.layer2, *self.layer3]

    @property
    def out_channels(self) -> int:
        return _last_norm(self.layer3[-1]).num_features

    def stem(self, images: Tensor) -> Stem:
        """What images (B, 3, H, W) need only once, whatever they are paired with."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        kept = images if self.keeps_images else None
        return Stem(x, _residual(self.layer1[0], x), tuple(images.shape[-2:]), kept)

    def forward(
        self, gallery: Tensor | Stem, query: Stem | None = None, *, conv4: bool = True
    ) -> tuple[FeatureMaps, FeatureMaps]:
        """Feature maps of a batch of pairs.

        gallery: (B, 3, H, W) normalised, or their `stem`. query: `stem` of B or 1 query images of the same size; None
        pairs each gallery image with itself. Returns (gallery maps, query maps); what does not depend on the gallery
        keeps the query's batch of B or 1: images, and without QSSE all maps. conv4: whether it is wanted, too.
        """
        gallery = self.stem(gallery) if isinstance(gallery, Tensor) else gallery
        x_gallery, x_query = gallery.x, None if query is None else query.x
        last_of_conv3 = len(self.layer1) + len(self.layer2) - 1
        fine_gallery = fine_query = None
        blocks = self.blocks()
        for index, block in enumerate(blocks if conv4 else blocks[: last_of_conv3 + 1]):
            u_gallery = _residual(block, x_gallery) if index else gallery.residual
            u_query = None
            if query is not None:
                u_query = _residual(block, x_query) if index else query.residual
            if self.qsse is not None:
                z_gallery = squeeze(u_gallery)
                z_query = z_gallery if u_query is None else squeeze(u_query).expand(len(z_gallery), -1)
                s = self.qsse[index](z_query, z_gallery).to(u_gallery.dtype)
                u_gallery = s * u_gallery
                u_query = None if u_query is None else s * u_query
            x_gallery = torch.relu(u_gallery + _shortcut(block, x_gallery))  # Eq. 2, then ResNet's ReLU
            if u_query is not None:
                x_query = torch.relu(u_query + _shortcut(block, x_query))
            if index == last_of_conv3:
                fine_gallery, fine_query = x_gallery, x_query
        of_gallery = FeatureMaps(gallery.images, fine_gallery, x_gallery if conv4 else None)
        if query is None:
            return of_gallery, of_gallery
        return of_gallery, FeatureMaps(query.images, fine_query, x_query if conv4 else None)

    def absorb_initial_excitation(self) -> None:
        """To be called once, when a trunk trained without QSSE receives fresh QSSE blocks."""
        for block in self.blocks():
            absorb_initial_excitation(_last_norm(block))


def build_resnet(config: ModelConfig) -> ResNet:
    """torchvision's ResNet of the config, with random weights; its layer4 becomes conv5 of the RoI head."""
    resnet = getattr(models, config.backbone)(weights=None)
    if config.stride_in_1x1:
        for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
            if isinstance(layer[0], Bottleneck):
                layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return resnet


def keep_cells(layer: nn.Sequential) -> nn.Sequential:
    """A ResNet's layer without the stride of its first block, so that it has as many cells as the one before it."""
    for module in layer[0].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return layer


def _last_norm(block: nn.Module) -> nn.BatchNorm2d:
    return block.bn3 if isinstance(block, Bottleneck) else block.bn2


def _residual(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    """The residual branch U of a torchvision block, without its shortcut and last ReLU."""
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.bn2(block.conv2(out))
    if isinstance(block, Bottleneck):
        out = block.bn3(block.conv3(block.relu(out)))
    return out


def _shortcut(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)
