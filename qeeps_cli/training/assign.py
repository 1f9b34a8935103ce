"""Which anchors and RoIs are positive, negative or left out, for each loss. Labels: 1, 0, and −1 for left out.

Built on torchvision's Matcher and sampler; the rules are §4.4 of the paper, and Faster R-CNN's where it says nothing.
"""

import torch
from torch import Tensor

from qeeps_cli.model.torchvision_parts import BalancedPositiveNegativeSampler, Matcher
from qeeps_cli.model.torchvision_parts import boxes as box_ops

IGNORED_IOU = 0.3  # what overlaps an ignored person this much is neither person nor background


def rpn_labels(anchors: Tensor, people: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """RPN: positive at IoU ≥ 0.7 with somebody, or as somebody's best anchor; negative below 0.3.

    anchors (N, 4), people (P, 4) and ignored (I, 4) are xyxy. Returns labels (N,) and each anchor's person (N,), an
    index into people that means something for positives only.
    """
    labels, matched = _match(anchors, people, Matcher(0.7, 0.3, allow_low_quality_matches=True))
    return _leave_out(labels, anchors, ignored), matched


def qrpn_labels(anchors: Tensor, query_person: Tensor, others: Tensor) -> Tensor:
    """QRPN (§4.4): positive at IoU ≥ 0.6 with the query person, or as their best anchor; negative below 0.3 with
    everybody.

    query_person: (1, 4), or (0, 4) where the person is absent. others: (M, 4), ignored people among them: their anchors
    are positives of the RPN beside, so they are left out instead of being pushed the other way.
    """
    labels, _ = _match(anchors, query_person, Matcher(0.6, 0.3, allow_low_quality_matches=True))
    return _leave_out(labels, anchors, others)


def roi_labels(rois: Tensor, people: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """RoI head: positive at IoU ≥ 0.5 with somebody, else negative. Returns labels (R,) and each RoI's person (R,)."""
    labels, matched = _match(rois, people, Matcher(0.5, 0.5, allow_low_quality_matches=False))
    return _leave_out(labels, rois, ignored), matched


def sim_labels(rois: Tensor, query_person: Tensor) -> Tensor:
    """QSimNet: 1 for RoIs at IoU ≥ 0.5 with the query person (1, 4), else 0; (0, 4) means absent. (R,) long."""
    if len(query_person) == 0:
        return torch.zeros(len(rois), dtype=torch.long, device=rois.device)
    return (box_ops.box_iou(rois, query_person)[:, 0] >= 0.5).long()


def sample(labels: Tensor, size: int, positive_fraction: float) -> Tensor:
    """Indices of at most `size` labels ≥ 0, at most the fraction of them positive, drawn at random; positives first."""
    positives, negatives = BalancedPositiveNegativeSampler(size, positive_fraction)([labels])
    return torch.cat([positives[0].nonzero().squeeze(1), negatives[0].nonzero().squeeze(1)])


def _match(boxes: Tensor, people: Tensor, matcher: Matcher) -> tuple[Tensor, Tensor]:
    if len(people) == 0 or len(boxes) == 0:
        return boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes), dtype=torch.long)
    matched = matcher(box_ops.box_iou(people, boxes))
    labels = (matched >= 0).to(boxes.dtype)
    labels[matched == matcher.BETWEEN_THRESHOLDS] = -1
    return labels, matched.clamp(min=0)


def _leave_out(labels: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    if len(ignored) == 0:
        return labels
    near = box_ops.box_iou(boxes, ignored).amax(dim=1) >= IGNORED_IOU
    labels = labels.clone()
    labels[near & (labels == 0)] = -1
    return labels
