"""Losses on embeddings that need no table: in-batch contrast and the teacher (auxiliary terms, docs/decisions.md)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of (N, D) and (M, D), in float32 also under autocast: scaled cosines need more than 8 bits."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T


def contrastive_loss(embeddings: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Supervised contrast of unit embeddings (N, D): each pair of one identity against everybody else of the batch.

    labels: (N,), −1 for unknown people, who serve as negatives only. Zero, with a gradient, where no identity stands
    twice. For an anchor i and each positive p: −log( e^{s·cos(i,p)} / (e^{s·cos(i,p)} + Σ_negatives e^{s·cos(i,n)}) ),
    so that easy positives do not crowd out hard ones.
    """
    logits = scale * similarities(embeddings, embeddings)
    known = labels >= 0
    same = (labels[:, None] == labels[None, :]) & known[:, None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    negatives = logits.masked_fill(same | torch.eye(len(labels), dtype=torch.bool, device=labels.device), -torch.inf)
    anchors, positives = positive.nonzero(as_tuple=True)
    if len(anchors) == 0:
        return embeddings.sum() * 0
    pool = negatives.logsumexp(dim=1)[anchors]
    losses = F.softplus(pool - logits[anchors, positives])
    # every anchor counts once, however many positives it has
    per_anchor = torch.zeros(len(labels), device=losses.device).index_add_(0, anchors, losses)
    counts = positive.sum(dim=1)
    return (per_anchor / counts.clamp(min=1)).sum() / (counts > 0).sum()


def teacher_loss(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Mean 1 − cosine between embeddings (N, D) and the teacher's unit targets (N, D); rows of NaN have no target."""
    known = ~targets.isnan().any(dim=1)
    if not known.any():
        return embeddings.sum() * 0
    return (1 - (embeddings[known] * targets[known]).sum(dim=1)).mean()
