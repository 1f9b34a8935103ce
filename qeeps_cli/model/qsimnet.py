"""QSimNet: the learned, query-guided re-identification score (§4.3, Fig. 5)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

SAME = 1  # index of "the same person" in the softmax

# FC starts with all weights alike (nearer is likelier), not at random; `start_from` makes that the cosine's ranking.
INITIAL_WEIGHT = 0.05
INITIAL_SLOPE = 4.0  # by which the logit falls per unit of squared distance, which is about 2 between most people


class QSimNet(nn.Module):
    """(f_q − f_g)², BatchNorm, FC, softmax; the score is the probability of SAME."""

    def __init__(self, embedding_dim: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(embedding_dim)
        self.fc = nn.Linear(embedding_dim, 2)
        with torch.no_grad():
            self.fc.weight[1 - SAME].fill_(INITIAL_WEIGHT)
            self.fc.weight[SAME].fill_(-INITIAL_WEIGHT)
            self.fc.bias.zero_()

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Embeddings (N, D) of query and gallery, broadcast against each other, to logits (N, 2).

        In float32 also under autocast: rounded to bfloat16, neighbours of a ranking would tie.
        """
        with torch.autocast(query.device.type, enabled=False):
            return self.fc(self.norm((query.float() - gallery.float()).square()))

    def score(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(N,) probability that each pair shows the same person."""
        return self(query, gallery).softmax(dim=1)[:, SAME]

    @property
    def is_new(self) -> bool:
        """Whether it has seen no pairs yet."""
        return bool((self.norm.running_var == 1).all() and (self.norm.running_mean == 0).all())

    @torch.no_grad()
    def start_from(self, query: Tensor, gallery: Tensor) -> None:
        """Make it rank as the squared Euclidean distance does, which for unit embeddings is the cosine; learning then
        only has to improve on that. query, gallery: (N, D) embeddings of pairs, N > 1.

        BatchNorm divides each dimension by the spread of its squared differences, which is largest where people differ
        most: equal weights behind it would rank in a whitened space. FC starts with what gives these spreads back.
        """
        differences = (query.float() - gallery.float()).square()
        self.norm.running_mean.copy_(differences.mean(dim=0))
        self.norm.running_var.copy_(differences.var(dim=0))
        self._weigh(torch.full_like(self._scale, -INITIAL_SLOPE))

    @torch.no_grad()
    def calibrate(self, slope: float, offset: float) -> None:
        """Make every logit slope · logit + offset, in FC itself: whoever scores needs to know nothing of it."""
        self.fc.weight.mul_(slope)
        self.fc.bias.mul_(slope)
        self.fc.bias[SAME].add_(offset / 2)
        self.fc.bias[1 - SAME].sub_(offset / 2)

    @torch.no_grad()
    def even_out(self, spread: float) -> None:
        """Move the weights of the closed form towards their mean: spread 1 leaves them, 0 makes them all alike, so that
        QSimNet ranks as the cosine does. What else the logit adds is left to `calibrate`."""
        if spread == 1:
            return  # to the last bit
        weight = self.closed_form().weight.double()
        self._weigh(weight.mean() + spread * (weight - weight.mean()))

    def _weigh(self, weight: Tensor) -> None:
        """Give the closed form these weights, (D,) float64."""
        self.fc.weight[SAME] = weight / self._scale / 2
        self.fc.weight[1 - SAME] = -weight / self._scale / 2

    @torch.no_grad()
    def closed_form(self) -> "ClosedForm":
        """The same score as an affine form in (f_q − f_g)², valid with BatchNorm's running statistics."""
        scale = self._scale
        shift = self.norm.bias.double() - self.norm.running_mean.double() * scale
        difference = (self.fc.weight[SAME] - self.fc.weight[1 - SAME]).double()
        bias = (self.fc.bias[SAME] - self.fc.bias[1 - SAME]).double()
        return ClosedForm((difference * scale).float(), float(difference @ shift + bias))

    @property
    def _scale(self) -> Tensor:
        """(D,) float64, what BatchNorm multiplies squared differences by."""
        return self.norm.weight.double() * (self.norm.running_var.double() + self.norm.eps).rsqrt()


class ClosedForm(NamedTuple):
    """logit(q, g) = Σ w_d (q_d − g_d)² + b, expanded so that a gallery of M embeddings costs one matrix product."""

    weight: Tensor
    bias: float

    def logits(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Embeddings (Q, D) and (M, D) float32 to logits (Q, M); their sigmoid is QSimNet's score.

        Σ w (q − g)² = ⟨w, q∘q⟩ + ⟨−2 w∘q, g⟩ + ⟨w, g∘g⟩.
        """
        weight = self.weight.to(queries.device)
        of_query = queries.square() @ weight
        of_gallery = gallery.square() @ weight
        return (queries * (-2 * weight)) @ gallery.T + of_query[:, None] + of_gallery[None, :] + self.bias
