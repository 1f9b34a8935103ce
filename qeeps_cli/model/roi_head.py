"""ClsIdenNet: RoI pooling, conv5, global average pooling, then ClsNet, RegNet and ID Net (Fig. 2, §3)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.model.basenet import FINE_STRIDE, STRIDE, FeatureMaps, build_resnet, keep_cells
from qeeps_cli.model.box_coding import ROI_CODER, decode
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.pooling import ADAPTIVE, Size, pool

PERSON = 1  # class index of ClsNet and RegNet; 0 is background


DETECTION_POOL_SIZE = 7  # of separate heads
FINE_POOL_SIZE = (24, 12)  # rows and columns of conv3's map: at a stride of 8, people of 190×95 pixels cell by cell
STRIPES = 3  # averages from head to feet, instead of one
PIXELS_POOL_SIZE = (192, 96)  # of pixel heads, which make 24×12 cells of it at conv3, too
PIXELS_AT_ONCE = 64  # people whom pixel heads look at together: bounds the memory of a search

Conv5 = Callable[[nn.Sequential, Tensor, list[Tensor], int], Tensor]
Pool = Callable[[Tensor, list[Tensor], Size, int], Tensor]


class RoIOutput(NamedTuple):
    """Heads on R RoIs, float32: class logits (R, 2), deltas (R, 2, 4) per class, embeddings (R, D) of unit length.

    embeddings: None from `detect` of separate heads.
    """

    class_logits: Tensor
    deltas: Tensor
    embeddings: Tensor | None

    @property
    def person_scores(self) -> Tensor:
        """(R,) probability of a person."""
        return self.class_logits.softmax(dim=1)[:, PERSON]

    def refined(self, rois: Tensor) -> Tensor:
        """rois (R, 4) xyxy moved by the person class's deltas."""
        return decode(ROI_CODER, self.deltas[:, PERSON], rois)


def pooled_conv5(layer4: nn.Sequential, feature_map: Tensor, rois: list[Tensor], size: int) -> Tensor:
    """conv5 (R, F, size / 2, size / 2) of RoIs pooled to size × size, given per image as (R_i, 4) xyxy pixels of the
    network's input."""
    return layer4(pool(feature_map, rois, size))


class ClsIdenNet(nn.Module):
    """The RoI head of the paper. `layer4` is the ResNet's conv5 and keeps torchvision's names."""

    is_separate = False
    looks_at = "conv4"  # what of FeatureMaps identification needs

    def __init__(self, config: ModelConfig):
        super().__init__()
        resnet = build_resnet(config)
        self.pool_size = config.pool_size
        self.conv5: Conv5 = pooled_conv5  # `deploy.for_search` may put a faster one here
        self.layer4 = resnet.layer4
        self.id_net = nn.Linear(resnet.fc.in_features, config.embedding_dim)
        nn.init.zeros_(self.id_net.bias)
        self._add_detector(resnet.fc.in_features)

    def _add_detector(self, features: int) -> None:
        self.cls_net = nn.Linear(features, 2)
        self.reg_net = nn.Linear(features, 2 * 4)
        nn.init.normal_(self.cls_net.weight, std=0.01)
        nn.init.normal_(self.reg_net.weight, std=0.001)
        nn.init.zeros_(self.cls_net.bias)
        nn.init.zeros_(self.reg_net.bias)

    def features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """conv5 features (R, F) float32, from which ID Net computes embeddings, of RoIs given per image as (R_i, 4)
        xyxy pixels of the network's input."""
        return self.conv5(self.layer4, maps.conv4, rois, self.pool_size).mean(dim=(2, 3), dtype=torch.float32)

    def query_features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """`features` of query people, of whom there are few and on whom all depends."""
        return self.features(maps, rois)

    def embed(self, features: Tensor) -> Tensor:
        """ID Net: conv5 features (R, F) to unit-length embeddings (R, D), float32."""
        return F.normalize(_in_float32(self.id_net, features), dim=1)

    def detect(self, maps: FeatureMaps, rois: list[Tensor]) -> RoIOutput:
        """What is needed to find people, with embeddings where they cost nothing more."""
        return self(maps, rois)

    def forward(self, maps: FeatureMaps, rois: list[Tensor]) -> RoIOutput:
        features = self.features(maps, rois)
        return self._detected(features)._replace(embeddings=self.embed(features))

    def _detected(self, features: Tensor) -> RoIOutput:
        deltas = _in_float32(self.reg_net, features).reshape(-1, 2, 4)
        return RoIOutput(_in_float32(self.cls_net, features), deltas, None)


class SeparateHeads(ClsIdenNet):
    """Detection and identification with a conv5 each, so that what all people share and what tells them apart do not
    compete for one (deviation, docs/decisions.md).

    Detection pools to 7×7, and ClsNet and RegNet read conv5's 4×4 map cell by cell: where in it an edge is says how to
    move the box, which an average has forgotten. Identification is the paper's, for few boxes instead of all proposals.
    """

    is_separate = True

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.id_layer4 = build_resnet(config).layer4

    def _add_detector(self, features: int) -> None:
        cells = ((DETECTION_POOL_SIZE + 1) // 2) ** 2
        super()._add_detector(features * cells)

    def features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        return self.conv5(self.id_layer4, maps.conv4, rois, self.pool_size).mean(dim=(2, 3), dtype=torch.float32)

    def detect(self, maps: FeatureMaps, rois: list[Tensor]) -> RoIOutput:
        """ClsNet and RegNet alone."""
        return self._detected(self.conv5(self.layer4, maps.conv4, rois, DETECTION_POOL_SIZE).flatten(1))

    def forward(self, maps: FeatureMaps, rois: list[Tensor]) -> RoIOutput:
        embeddings = self.embed(self.features(maps, rois))
        return self.detect(maps, rois)._replace(embeddings=embeddings)


class FineHeads(SeparateHeads):
    """Separate heads whose identification looks twice as closely (deviation, docs/decisions.md).

    It pools conv3's map, at a stride of 8, and has a conv4 and a conv5 of its own: a person of a crowded frame covers
    4 × 9 cells at a stride of 16, in which a bag or a collar is lost. ID Net reads averages over STRIPES from head to
    feet, because where a colour is worn tells people apart too. It costs less than 14×14 through conv5 does;
    more with id_stride = 16, where its conv5 keeps the 12×6 cells that its conv4 has, instead of 6×3.
    """

    looks_at = "conv3"

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        resnet = build_resnet(config)
        self.pool: Pool = pool  # `deploy.for_search` may put a faster one here
        self.id_layer3 = resnet.layer3
        self.id_layer4 = keep_cells(resnet.layer4) if config.id_stride == STRIDE else resnet.layer4
        self.id_net = nn.Linear(STRIPES * resnet.fc.in_features, config.embedding_dim)
        nn.init.zeros_(self.id_net.bias)

    def features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """conv5 features (R, F · STRIPES) float32: of each channel, the averages from the topmost stripe down."""
        cells = self.id_layer4(self.id_layer3(self.pool(maps.conv3, rois, FINE_POOL_SIZE, FINE_STRIDE)))
        return _stripes(cells)


class PixelHeads(FineHeads):
    """Fine heads whose identification has a ResNet of its own and looks at the picture (deviation, docs/decisions.md).

    RoIAlign reads each person's pixels, 192×96 of them whatever the person's size, in as many samples a bin as the
    person has pixels: conv1–conv3, too, may then learn what tells people apart instead of what finds them, and nothing
    round the box is seen. A person costs twice what fine heads take (half as much again with id_stride = 16), and the
    query, who is looked at in the mirror, too, twice as much as others.
    """

    looks_at = "images"

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        resnet = build_resnet(config)
        self.id_conv1, self.id_bn1, self.maxpool = resnet.conv1, resnet.bn1, resnet.maxpool
        self.id_layer1, self.id_layer2 = resnet.layer1, resnet.layer2

    def features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """conv5 features (R, F · STRIPES) float32: of each channel, the averages from the topmost stripe down."""
        people = self._people(maps, rois)
        return torch.cat([self._features(some) for some in people.split(PIXELS_AT_ONCE)])

    def query_features(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """Means of `features` and of those of the mirror images: what depends on the side that a person happens to turn
        to the camera weighs less."""
        people = self._people(maps, rois)
        views = [(self._features(some) + self._features(some.flip(3))) / 2 for some in people.split(PIXELS_AT_ONCE)]
        return torch.cat(views)

    def _people(self, maps: FeatureMaps, rois: list[Tensor]) -> Tensor:
        """Pixels (R, 3, 192, 96)."""
        return pool(maps.images, rois, PIXELS_POOL_SIZE, stride=1, samples=ADAPTIVE)

    def _features(self, people: Tensor) -> Tensor:
        """Of some of `_people`."""
        people = people.to(self.id_conv1.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = self.maxpool(self.id_bn1(self.id_conv1(people)).relu())
        return _stripes(self.id_layer4(self.id_layer3(self.id_layer2(self.id_layer1(x)))))


def build_roi_head(config: ModelConfig) -> ClsIdenNet:
    """The head that config.roi_head names."""
    return _HEADS[config.roi_head](config)


_HEADS = {"shared": ClsIdenNet, "separate": SeparateHeads, "fine": FineHeads, "pixels": PixelHeads}


def _stripes(cells: Tensor) -> Tensor:
    """(R, F · STRIPES) float32 averages of conv5's cells (R, F, rows, columns)."""
    return cells.float().unflatten(2, (STRIPES, -1)).mean(dim=(3, 4)).flatten(1)


def _in_float32(layer: nn.Linear, features: Tensor) -> Tensor:
    """The layer outside autocast: scores, deltas and embeddings keep the precision that their features have."""
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.float())
