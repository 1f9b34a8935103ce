"""Region proposals: the standard RPN, the query-guided QRPN beside it (§4.2), and the selection of proposals."""

import torch
from torch import Tensor, nn

from qeeps_cli.model.basenet import STRIDE
from qeeps_cli.model.box_coding import RPN_CODER, decode
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.pooling import pool
from qeeps_cli.model.torchvision_parts import AnchorGenerator
from qeeps_cli.model.torchvision_parts import boxes as box_ops

MIN_SIDE = 1.0  # pixels; thinner proposals carry nothing that RoIAlign could pool


class RPN(nn.Module):
    """3×3 convolution, one objectness logit per anchor and, unless it serves QRPN, box deltas."""

    def __init__(self, in_channels: int, config: ModelConfig, regression: bool = True):
        super().__init__()
        channels = min(config.max_rpn_channels, in_channels)
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, config.anchors_per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * config.anchors_per_cell, 1) if regression else None
        for layer in self.children():
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to objectness logits (B, H·W·A) and deltas (B, H·W·A, 4), in the order of the anchors;
        float32."""
        hidden = self.conv(features).relu()
        logits = self.cls_logits(hidden).permute(0, 2, 3, 1).flatten(1).float()
        if self.bbox_pred is None:
            return logits, None
        deltas = self.bbox_pred(hidden).permute(0, 2, 3, 1)
        return logits, deltas.reshape(len(features), -1, 4).float()


class QRPN(nn.Module):
    """Query-guided RPN: excitations from the RoI-pooled query re-weight the gallery map's channels; then an RPN."""

    def __init__(self, in_channels: int, config: ModelConfig):
        super().__init__()
        self.pool_size = config.pool_size
        self.pool = pool  # `deploy.for_search` may put a faster one here
        self.fc1 = nn.Linear(in_channels * config.pool_size**2, in_channels // config.reduction)
        self.fc2 = nn.Linear(in_channels // config.reduction, in_channels)
        self.rpn = RPN(in_channels, config, regression=False)

    def pooled(self, query_map: Tensor, query_boxes: Tensor) -> Tensor:
        """Query maps (B, C, H, W) and boxes (B or 1, 4) xyxy, pixels of the network's input, to what FC1 reads, (B,
        C·S·S)."""
        return self.pool(query_map, list(query_boxes.expand(len(query_map), -1).split(1)), self.pool_size).flatten(1)

    def excitation(self, query_map: Tensor, query_boxes: Tensor) -> Tensor:
        """Query maps (B, C, H, W) and boxes (B or 1, 4) to weights (B, C, 1, 1) of the gallery map's channels."""
        return self.excitation_of(self.pooled(query_map, query_boxes))

    def excitation_of(self, pooled: Tensor) -> Tensor:
        """What `pooled` gives, (B, C·S·S), to the same weights (B, C, 1, 1)."""
        return self.fc2(self.fc1(pooled).relu()).sigmoid()[:, :, None, None]

    def forward(self, gallery_map: Tensor, query_map: Tensor, query_boxes: Tensor) -> Tensor:
        """Query-similarity logits of the anchors, (B, H·W·A) float32."""
        excitation = self.excitation(query_map, query_boxes).to(gallery_map.dtype)
        return self.rpn(gallery_map * excitation)[0]


class Anchors(nn.Module):
    """Anchors of scales × ratios at every cell of a stride-16 map (§5.2)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        sizes = tuple(STRIDE * scale for scale in config.anchor_scales)
        self.generator = AnchorGenerator((sizes,), (config.anchor_ratios,))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(H·W·A, 4) float32 xyxy pixels of the network's input; the same for every image of the batch."""
        # Not generator.forward: it takes image size // map size for the stride, which is 15 for 562 pixels.
        self.generator.set_cell_anchors(torch.float32, feature_map.device)
        return self.generator.grid_anchors([feature_map.shape[-2:]], [(STRIDE, STRIDE)])[0]


def select_proposals(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    image_size: tuple[int, int],
    params: InferenceParams,
    rpn_logits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Proposals of one image: the best anchors, moved by their deltas, cut to the image, after NMS.

    logits: (N,), RPN's plus QRPN's where there is one. deltas: (N, 4) of the RPN: regression is query-agnostic (§4.2).
    rpn_logits: (N,), RPN's alone, where they are something else. What either finds likely enough is a candidate, so
    that QRPN adds people whom RPN doubts, and nobody is lost whom it does not recognise. Among candidates that overlap
    RPN chooses (deviation from §4.2, docs/decisions.md): QRPN tells people apart, and not how well a box fits. Of more
    than params.proposals boxes those with the largest sums are left.
    Returns boxes (P, 4) xyxy and their logits (P,), descending, P ≤ params.proposals; P may be 0.
    """
    rpn_logits = logits if rpn_logits is None else rpn_logits
    likely = torch.maximum(logits, rpn_logits)
    if params.min_objectness > 0:
        keep = (likely.sigmoid() >= params.min_objectness).nonzero().squeeze(1)
        likely, logits, rpn_logits = likely[keep], logits[keep], rpn_logits[keep]
        deltas, anchors = deltas[keep], anchors[keep]
    order = likely.topk(min(params.pre_nms, len(likely))).indices
    logits, rpn_logits = logits[order], rpn_logits[order]
    boxes = box_ops.clip_boxes_to_image(decode(RPN_CODER, deltas[order], anchors[order]), image_size)
    keep = box_ops.remove_small_boxes(boxes, MIN_SIDE)
    boxes, logits, rpn_logits = boxes[keep], logits[keep], rpn_logits[keep]
    keep = box_ops.nms(boxes, rpn_logits, params.proposal_nms)
    keep = keep[logits[keep].argsort(descending=True, stable=True)[: params.proposals]]
    return boxes[keep], logits[keep]
