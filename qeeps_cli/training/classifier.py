"""Identities as classes: the softmax that re-identification networks usually train with (auxiliary `classify`)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.training.losses import similarities

SMOOTHING = 0.1  # of the labels: identities of several sets may be one person, and look-alikes are no strangers


class IdentityClassifier(nn.Module):
    """One learnt unit vector an identity; cross-entropy of scaled cosines, labels smoothed.

    OIM's table with a gradient of its own: rows do not grow stale while their identity is not drawn, which matters
    where thousands of identities share a step of a few dozen crops (docs/decisions.md).
    """

    def __init__(self, identities: int, dim: int, scale: float):
        super().__init__()
        self.scale = scale
        self.prototypes = nn.Parameter(F.normalize(torch.randn(identities, dim), dim=1))

    @torch.no_grad()
    def start_from(self, embeddings: Tensor, labels: Tensor) -> None:
        """Prototypes become the mean of the embeddings (N, D) of their label (N,); the others stay random."""
        sums = torch.zeros_like(self.prototypes).index_add_(0, labels, embeddings.to(self.prototypes))
        seen = sums.norm(dim=1) > 0
        self.prototypes[seen] = F.normalize(sums[seen], dim=1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of unit embeddings (N, D) with labels (N,) ≥ 0; −1 for unknown people, who do not count."""
        known = labels >= 0
        if not known.any():
            return embeddings.sum() * 0
        logits = self.scale * similarities(embeddings[known], F.normalize(self.prototypes, dim=1))
        return F.cross_entropy(logits, labels[known], label_smoothing=SMOOTHING)
