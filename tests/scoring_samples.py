"""Queries, forms of QSimNet and cached people for tests of scores."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qeeps_cli.cache.store import Cache
from qeeps_cli.model.qsimnet import QSimNet
from qeeps_cli.types import Detections

DIM = 32
COUNTS = [0, 3, 1, 0, 7, 2, 40, 0, 5] * 2  # people of each frame


def units(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """(count, dim) float32 unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def qsimnet(seed: int = 0, dim: int = DIM) -> QSimNet:
    """With statistics and weights of a trained one's magnitude: logits from about -10 to 10."""
    torch.manual_seed(seed)
    network = QSimNet(dim)
    with torch.no_grad():
        network.norm.running_mean.fill_(2 / dim)
        network.norm.running_var.uniform_(0.5 / dim**2, 8 / dim**2)
        network.fc.weight[1].uniform_(-0.5, 0.1)
        network.fc.bias.normal_()
    return network.eval()


def form_of(kind: str, seed: int = 0, dim: int = DIM) -> tuple[np.ndarray, float] | None:
    if kind == "cosine":
        return None
    form = qsimnet(seed, dim).closed_form()
    return form.weight.numpy(), form.bias


def digest(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def frames(counts: list[int], seed: int = 0) -> list[Detections]:
    rng = np.random.default_rng(seed)
    found = []
    for i, count in enumerate(counts):
        corners = rng.uniform(0, 100, (count, 2)).astype(np.float32)
        scores = rng.uniform(0.1, 1, count).astype(np.float32)
        found.append(Detections(np.hstack([corners, corners + 9]), scores, scores, units(count, seed + i)))
    return found


def all_scored(found: list[Detections], score: Callable[[np.ndarray], np.ndarray], lowest: float = -9) -> list[tuple]:
    """(-score, frame, box) of everybody who scores at least lowest, the best first. score: of embeddings as cached."""
    return sorted(
        (-found_score, i, tuple(box))
        for i, one in enumerate(found)
        for box, found_score in zip(one.boxes.tolist(), score(one.embeddings.astype(np.float16)).tolist(), strict=True)
        if found_score >= lowest
    )


def fill(folder: Path, found: list[Detections], segments: int) -> None:
    """In that many segments, the frames dealt out to them in turn."""
    for first in range(segments):
        with Cache(folder, warn=pytest.fail) as cache:
            store = cache.frames({})
            for i in range(first, len(found), segments):
                store.add(digest(i), f"{i}.jpg", (100, 200), found[i])
