"""Which anchors and RoIs are positive, negative or left out, for each loss. Labels: 1, 0, and −1 for left out.

The rules are §4.4 of the paper, and Faster R-CNN's where it says nothing. torchvision's Matcher and sampler follow the
same rules, but read numbers back from the GPU about ten times an image, and the processor waits for each. Here no
tensor's shape depends on what is computed.
"""

import torch
from torch import Tensor

from qeeps_cli.model.torchvision_parts import boxes as box_ops

IGNORED_IOU = 0.3  # what overlaps an ignored person this much is neither person nor background


def rpn_labels(anchors: Tensor, people: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """RPN: positive at IoU ≥ 0.7 with somebody, or as somebody's best anchor; negative below 0.3.

    anchors (N, 4), people (P, 4) and ignored (I, 4) are xyxy. Returns labels (N,) and each anchor's person (N,), an
    index into people that means something for positives only.
    """
    labels, matched = _match(anchors, people, 0.7, 0.3, best=True)
    return _leave_out(labels, anchors, ignored), matched


def qrpn_labels(anchors: Tensor, query_person: Tensor, others: Tensor) -> Tensor:
    """QRPN (§4.4): positive at IoU ≥ 0.6 with the query person, or as their best anchor; negative below 0.3 with
    everybody.

    query_person: (1, 4), or (0, 4) where the person is absent. others: (M, 4), ignored people among them: their anchors
    are positives of the RPN beside, so they are left out instead of being pushed the other way.
    """
    labels, _ = _match(anchors, query_person, 0.6, 0.3, best=True)
    return _leave_out(labels, anchors, others)


def roi_labels(rois: Tensor, people: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """RoI head: positive at IoU ≥ 0.5 with somebody, else negative. Returns labels (R,) and each RoI's person (R,)."""
    labels, matched = _match(rois, people, 0.5, 0.5, best=False)
    return _leave_out(labels, rois, ignored), matched


def sim_labels(rois: Tensor, query_person: Tensor) -> Tensor:
    """QSimNet: 1 for RoIs at IoU ≥ 0.5 with the query person (1, 4), else 0; (0, 4) means absent. (R,) long."""
    if len(query_person) == 0:
        return torch.zeros(len(rois), dtype=torch.long, device=rois.device)
    return (box_ops.box_iou(rois, query_person)[:, 0] >= 0.5).long()


def sample(labels: Tensor, size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Draw at random at most `size` of labels (N,), at most the fraction of them positive, and otherwise negatives.

    Returns min(size, N) indices, and whether each is drawn: all are, unless there are too few. Positives come first,
    what is not drawn last.
    """
    most, size = min(int(size * positive_fraction), len(labels)), min(size, len(labels))
    keys = torch.rand(len(labels), device=labels.device)
    positive_keys, positives = torch.where(labels == 1, keys, -1).topk(most)
    negative_keys, negatives = torch.where(labels == 0, keys, -1).topk(size)
    is_drawn = torch.cat([positive_keys, negative_keys]) >= 0
    order = is_drawn.int().argsort(descending=True, stable=True)[:size]
    return torch.cat([positives, negatives])[order], is_drawn[order]


def _match(boxes: Tensor, people: Tensor, high: float, low: float, best: bool) -> tuple[Tensor, Tensor]:
    """Labels (N,) of boxes (N, 4) by their largest IoU with people (P, 4): 1 from `high` on, 0 below `low`, else −1;
    and the person (N,) that each overlaps most. best: each person's best boxes (all equally good ones) are positive,
    too."""
    if len(people) == 0 or len(boxes) == 0:
        return boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes), dtype=torch.long)
    iou = box_ops.box_iou(people, boxes)
    largest, person = iou.max(dim=0)
    positive = largest >= high
    if best:
        positive = positive | ((iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)).any(dim=0)
    labels = torch.where(positive, 1.0, torch.where(largest < low, 0.0, -1.0))
    return labels.to(boxes.dtype), person


def _leave_out(labels: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    if len(ignored) == 0:
        return labels
    near = box_ops.box_iou(boxes, ignored).amax(dim=1) >= IGNORED_IOU
    return torch.where(near & (labels == 0), -1.0, labels)
