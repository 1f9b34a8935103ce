"""Small networks for tests, in which nothing that starts at zero or at a constant still does."""

from copy import deepcopy
from functools import lru_cache

import torch
from torch import Tensor, nn

from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsimnet import QSimNet
from qeeps_cli.model.qsse import QSSE
from qeeps_cli.model.rpn import QRPN

SIZE = (96, 128)  # height, width of the images

# Few proposals, because conv5 runs on each; no threshold, because a random ClsNet means nothing.
FEW = InferenceParams(proposals=8, pre_nms=100, min_person_score=0.0)


def small_config(variant: str = "qeeps", backbone: str = "resnet18", **changes) -> ModelConfig:
    settings = {"embedding_dim": 32, "pool_size": 4, "max_rpn_channels": 32} | changes
    return ModelConfig(backbone=backbone, variant=variant, **settings)


def small_network(variant: str = "qeeps", seed: int = 0, **changes) -> QEEPS:
    """In evaluation mode, with `randomise`d blocks. Random numbers go on from `seed`."""
    model, random = _small_network(small_config(variant, **changes), seed)
    torch.set_rng_state(random)
    return deepcopy(model)


@lru_cache(maxsize=4)
def _small_network(config: ModelConfig, seed: int) -> tuple[QEEPS, Tensor]:
    """And the state in which it leaves the random numbers. To draw a network takes ten times as long as to copy it."""
    torch.manual_seed(seed)
    return randomise(QEEPS(config), seed).eval(), torch.get_rng_state()


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Random statistics and affine maps for BatchNorm; heads and query-guided blocks whose outputs vary visibly."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
        elif isinstance(module, QSSE):
            module.fc2.weight.normal_()
            module.fc2.bias.normal_()
        elif isinstance(module, QRPN):
            module.fc2.weight.normal_(0, 4)
        elif isinstance(module, QSimNet):
            module.fc.weight.normal_()
            module.fc.bias.normal_()
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_logits.weight", "bbox_pred.weight", "cls_net.weight", "reg_net.weight")):
            parameter.normal_(0, 0.05)
    return model


def pictures(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """(count, 3, H, W) normalised inputs that differ in brightness, contrast and content."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, *size, generator=generator)
    contrast = torch.rand(count, 3, 1, 1, generator=generator) + 0.5
    return images * contrast + torch.randn(count, 3, 1, 1, generator=generator)


def person_boxes(count: int) -> Tensor:
    """(count, 4) xyxy boxes inside SIZE, all different."""
    return torch.tensor([[10.0 + 8 * i, 12.0, 42.0 + 8 * i, 84.0] for i in range(count)])


def random_maps(count: int, dtype: torch.dtype = torch.float32, conv4: int = 256) -> FeatureMaps:
    """Maps of images of SIZE, as a ResNet-18 or 34 gives them, or one whose conv4 has more channels."""
    conv3 = torch.randn(count, conv4 // 2, SIZE[0] // 8, SIZE[1] // 8, dtype=dtype)
    conv4_map = torch.randn(count, conv4, SIZE[0] // 16, SIZE[1] // 16, dtype=dtype)
    return FeatureMaps(pictures(count), conv3, conv4_map)
