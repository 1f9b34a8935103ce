"""The Online Instance Matching loss of Xiao et al. (CVPR 2017), [37] in the paper."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.training.losses import similarities


class OIMLoss(nn.Module):
    """A softmax over a lookup table (one row per labelled identity) and a circular queue (recent unlabelled people).

    Rows of the table and places of the queue that were never written take no part (a deviation: zeros would be
    strangers to whom everybody is equally near). State is in buffers, so that a run resumes with its table.
    """

    def __init__(self, identities: int, dim: int, queue: int = 5000, momentum: float = 0.5, scale: float = 30.0):
        super().__init__()
        self.momentum, self.scale = momentum, scale
        self.register_buffer("table", torch.zeros(identities, dim))
        self.register_buffer("written", torch.zeros(identities, dtype=torch.bool))
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))  # how many people ever entered the queue

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of labelled people; then the table and the queue take all embeddings in.

        embeddings: (N, D) unit rows. labels: (N,) identity ≥ 0, or −1 for unlabelled people, who enter the queue only.
        Zero, with a gradient, when no identity of the batch has been seen before.
        """
        embeddings = embeddings.float()
        known = labels >= 0
        scored = known.clone()
        scored[known] = self.written[labels[known]]
        if scored.any():
            loss = F.cross_entropy(self._logits(embeddings[scored]), labels[scored])
        else:
            loss = embeddings.sum() * 0
        self.update(embeddings.detach(), labels)
        return loss

    def _logits(self, embeddings: Tensor) -> Tensor:
        # copies: the table changes in place before the gradient is computed
        filled = min(int(self.pushed), len(self.queue))
        against_table = similarities(embeddings, self.table.clone())
        against_table = against_table.masked_fill(~self.written, -torch.inf)
        against_queue = similarities(embeddings, self.queue[:filled].clone())
        return self.scale * torch.cat([against_table, against_queue], dim=1)

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor) -> None:
        """Rows move to momentum · row + (1 − momentum) · embedding, renormalised, in order; unlabelled people queue
        up."""
        for embedding, label in zip(embeddings, labels.tolist(), strict=True):
            if label >= 0:
                row = self.momentum * self.table[label] + (1 - self.momentum) * embedding
                self.table[label] = F.normalize(row, dim=0)
                self.written[label] = True
            elif len(self.queue):
                self.queue[int(self.pushed) % len(self.queue)] = embedding
                self.pushed += 1
