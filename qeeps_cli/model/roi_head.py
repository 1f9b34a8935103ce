"""ClsIdenNet: RoI pooling, conv5, global average pooling, then ClsNet, RegNet and ID Net (Fig. 2, §3)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.model.basenet import build_resnet
from qeeps_cli.model.box_coding import ROI_CODER, decode
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.pooling import pool

PERSON = 1  # class index of ClsNet and RegNet; 0 is background


class RoIOutput(NamedTuple):
    """Heads on R RoIs, float32: class logits (R, 2), deltas (R, 2, 4) per class, embeddings (R, D) of unit length."""

    class_logits: Tensor
    deltas: Tensor
    embeddings: Tensor

    @property
    def person_scores(self) -> Tensor:
        """(R,) probability of a person."""
        return self.class_logits.softmax(dim=1)[:, PERSON]

    def refined(self, rois: Tensor) -> Tensor:
        """rois (R, 4) xyxy moved by the person class's deltas."""
        return decode(ROI_CODER, self.deltas[:, PERSON], rois)


class ClsIdenNet(nn.Module):
    """The RoI head. `layer4` is the ResNet's conv5 and keeps torchvision's names."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        resnet = build_resnet(config)
        self.pool_size = config.pool_size
        self.pool = pool  # `deploy.for_search` may put a faster one here
        self.layer4 = resnet.layer4
        features = resnet.fc.in_features
        self.cls_net = nn.Linear(features, 2)
        self.reg_net = nn.Linear(features, 2 * 4)
        self.id_net = nn.Linear(features, config.embedding_dim)
        nn.init.normal_(self.cls_net.weight, std=0.01)
        nn.init.normal_(self.reg_net.weight, std=0.001)
        for layer in (self.cls_net, self.reg_net, self.id_net):
            nn.init.zeros_(layer.bias)

    def features(self, feature_map: Tensor, rois: list[Tensor]) -> Tensor:
        """conv5 features (R, F) float32 of RoIs given per image as (R_i, 4) xyxy pixels of the network's input."""
        return self.conv5(feature_map, rois).mean(dim=(2, 3), dtype=torch.float32)

    def conv5(self, feature_map: Tensor, rois: list[Tensor]) -> Tensor:
        """(R, F, size, size) of the RoIs that `features` takes."""
        return self.layer4(self.pool(feature_map, rois, self.pool_size))

    def embed(self, features: Tensor) -> Tensor:
        """ID Net: conv5 features (R, F) to unit-length embeddings (R, D), float32."""
        return F.normalize(_in_float32(self.id_net, features), dim=1)

    def forward(self, feature_map: Tensor, rois: list[Tensor]) -> RoIOutput:
        features = self.features(feature_map, rois)
        return RoIOutput(
            class_logits=_in_float32(self.cls_net, features),
            deltas=_in_float32(self.reg_net, features).reshape(-1, 2, 4),
            embeddings=self.embed(features),
        )


def _in_float32(layer: nn.Linear, features: Tensor) -> Tensor:
    """The layer outside autocast: scores, deltas and embeddings keep the precision that their features have."""
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.float())
