"""Choosing between embeddings: retrieval among held-out identities of crop sets, across their cameras."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.device import autocast
from qeeps_cli.evaluation.metrics import average_precision
from qeeps_cli.images import resize
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.embed_stage import crop_features, embed_crops
from qeeps_cli.training.population import Person
from qeeps_cli.training.stage import stack_images

Forward = Callable[[QEEPS, Tensor, Tensor], Tensor]


def crop_retrieval(
    model: QEEPS, people: list[Person], crops: list[Crop], canvas: tuple[int, int], batch: int = 64
) -> dict[str, float]:
    """mAP and top-1, per cent: each crop queries all crops of other cameras (and all other people's)."""
    embeddings = embed_plain(model, crops, canvas, batch)
    similarity = embeddings @ embeddings.T
    identities = np.array([person.label for person in people])
    cameras = np.array([person.camera for person in people])
    precisions, first = [], []
    for i in range(len(people)):
        counts = ~((identities == identities[i]) & (cameras == cameras[i]))
        right, scores = identities[counts] == identities[i], similarity[i][counts]
        if right.any():
            precisions.append(average_precision(right, scores))
            first.append(float(right[scores.argmax()]))
    if not precisions:  # nobody was seen by two cameras: nothing to measure
        return {}
    return {"crop_mAP": round(100 * float(np.mean(precisions)), 2), "crop_top1": round(100 * float(np.mean(first)), 2)}


def embed_plain(model: QEEPS, crops: list[Crop], canvas: tuple[int, int], batch: int = 64) -> np.ndarray:
    """(N, D) embeddings of crops, each centred without augmentation on a canvas at 80 % of its height."""
    return _run(model, embed_crops, crops, canvas, batch)


def features_plain(model: QEEPS, crops: list[Crop], canvas: tuple[int, int], batch: int = 64) -> np.ndarray:
    """(N, F) conv5 features of the same views, from which ID Net computes the embeddings."""
    return _run(model, crop_features, crops, canvas, batch)


@torch.no_grad()
def _run(model: QEEPS, forward: Forward, crops: list[Crop], canvas: tuple[int, int], batch: int) -> np.ndarray:
    device = next(model.parameters()).device
    rows = []
    for start in range(0, len(crops), batch):
        views = [_centred(crop, canvas) for crop in crops[start : start + batch]]
        images = stack_images([image for image, _ in views]).to(device)
        boxes = torch.tensor(np.stack([box for _, box in views]), device=device)
        with autocast(device):
            rows.append(forward(model, images, boxes).float().cpu().numpy())
    return np.concatenate(rows)


def _centred(crop: Crop, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = canvas
    x1, y1, x2, y2 = (int(round(float(v))) for v in crop.box)
    person = crop.rgb[max(y1, 0) : y2, max(x1, 0) : x2]
    scale = min(0.8 * height / person.shape[0], 0.96 * width / person.shape[1])
    h, w = max(8, round(person.shape[0] * scale)), max(4, round(person.shape[1] * scale))
    image = np.full((height, width, 3), 124, np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    image[top : top + h, left : left + w] = resize(np.ascontiguousarray(person), h, w)
    return image, np.array([left, top, left + w, top + h], np.float32)
