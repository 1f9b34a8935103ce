"""Linear discriminant analysis of what ID Net gives, folded into ID Net when a stage is done.

A teacher says where people are to stand in its space, not which directions of that space change from camera to camera
for one and the same person. Names of people whom several cameras saw say that, and two thousand are enough for 256
directions.
"""

import torch
from torch import Tensor

from qeeps_cli.device import autocast
from qeeps_cli.errors import DataError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.augment import Rng
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.embed_stage import embed_crops

CROPS_EACH = 4  # of an identity, from its cameras in turn


def discriminant(embeddings: Tensor, labels: Tensor, shrinkage: float) -> Tensor:
    """(D, D) float64 matrix after which the cosine of unit embeddings (N, D) tells labels (N,) apart better.

    With the covariances W within identities and B between them, every identity counting once, and
    W' = W + shrinkage · tr(W)/D · I: the eigenvectors V and eigenvalues β of W'^(-1/2) B W'^(-1/2) give
    (β/(1+β))^(1/2) Vᵀ W'^(-1/2): one person spreads alike in all directions, each of which is then weighted by the root
    of the share of its variance that tells people apart (Fisher 1936). shrinkage: the higher, the less W is believed.
    Means of n independent rows vary by W/n also where people do not differ, which is taken from B; a direction of which
    nothing is left then is given up. Rows of one camera are not independent: a part of what cameras change stays in B.
    """
    x = embeddings.double()
    _, rows, counts = labels.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, rows, x)
    means /= counts[:, None]
    deviations = (x - means[rows]) / (counts - 1).clamp(min=1)[rows, None].sqrt()
    within = deviations.T @ deviations / (counts > 1).sum().clamp(min=1)  # who is seen once has a mean only
    between = torch.cov(means.T, correction=0) - (1 / counts).mean() * within
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    floor = max(shrinkage * float(within.diagonal().mean()), torch.finfo(torch.float32).eps)  # where nobody varies
    spread, axes = torch.linalg.eigh(within + floor * eye)
    whitening = (axes * spread.rsqrt()).T
    ratio, directions = torch.linalg.eigh(whitening @ between @ whitening.T)
    ratio = ratio.clamp(min=0)
    return (ratio / (1 + ratio)).sqrt()[:, None] * directions.T @ whitening


@torch.no_grad()
def fold_discriminant(model: QEEPS, crops: CropBatches, shrinkage: float, rng: Rng) -> None:
    """Let ID Net give the discriminant directions of training people whom several cameras saw, CROPS_EACH canvases
    each.

    Raises DataError where they are fewer than ID Net has directions, and where it tells nobody apart.
    """
    device = next(model.parameters()).device
    people = crops.across_cameras()
    if len(people) <= model.config.embedding_dim:
        raise DataError(
            f"a discriminant of {model.config.embedding_dim} directions needs more people than that whom two cameras "
            f"saw; the training data has {len(people)}. Add a set that shows more, or leave `discriminant` out."
        )
    rows, labels = [], []
    for batch in crops.canvases_of(people, rng, CROPS_EACH):
        with autocast(device):
            rows.append(embed_crops(model, batch["images"].to(device), batch["boxes"].to(device)))
        labels.append(batch["labels"].to(device))
    matrix = discriminant(torch.cat(rows), torch.cat(labels), shrinkage)
    id_net = model.roi_head.id_net
    if not matrix.any():
        raise DataError(
            "a discriminant needs an embedding that tells people apart, and here the training people differ no more "
            "than the pictures of one of them do. Train it first, or leave `discriminant` out."
        )
    weight, bias = matrix @ id_net.weight.double(), matrix @ id_net.bias.double()
    scale = id_net.weight.double().norm() / weight.norm()  # to the size that it had
    id_net.weight.copy_(scale * weight)
    id_net.bias.copy_(scale * bias)
