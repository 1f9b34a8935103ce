"""Caches of people that nobody has seen: random unit vectors, in frames that need no files."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from qeeps_cli.cache.store import Cache, FrameStore
from qeeps_cli.searching.ranking import Ranking
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, Scorer, rank_cached
from qeeps_cli.types import Detections, GalleryFrame, Query

PEOPLE = 20  # a frame
DIM = 256
FINGERPRINT = {"benchmark": "synthetic"}

Form = tuple[np.ndarray, float]


def digest(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, DIM) float32."""
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(place: Path, digests: list[str]) -> None:
    """A cache of frames with PEOPLE each."""
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([[10, 10, 60, 160]], np.float32), (PEOPLE, 1))
    scores = np.linspace(1, 0.5, PEOPLE, dtype=np.float32)
    with Cache(place, warn=print) as cache:
        store = cache.frames(FINGERPRINT)
        for i, digest in enumerate(digests):
            store.add(digest, f"{i}.jpg", (600, 800), Detections(boxes, scores, scores, unit(rng, PEOPLE)))


def queries_and_form(count: int) -> tuple[np.ndarray, Form]:
    """Queries (count, DIM), and the weights and bias of a QSimNet."""
    rng = np.random.default_rng(1)
    return unit(rng, count), (rng.uniform(-2, -0.5, DIM).astype(np.float32), 1.0)


def query(gallery: CachedGallery, queries: np.ndarray, form: Form, top_k: int | None) -> None:
    """Searches for all queries at once."""
    frames = _Frames()
    rankings = [Ranking(Query(Path("q.jpg"), None), frames, SearchOptions(top_k=top_k)) for _ in queries]
    count = len(gallery.digests)
    rank_cached(gallery, Scorer(queries, form), rankings, np.arange(count), np.ones((len(queries), count), bool))


def in_memory(store: FrameStore, digests: list[str]) -> torch.Tensor:
    """(m, DIM) float16: all embeddings of the frames in one array, which takes no more than its own bytes."""
    everything = torch.empty((len(digests) * PEOPLE, DIM), dtype=torch.float16)
    begin = 0
    for block in store.blocks(digests):
        everything[begin : begin + len(block.embeddings)] = torch.from_numpy(np.array(block.embeddings))
        begin += len(block.embeddings)
    return everything[:begin]


class _Frames:
    """A gallery of frames that are made when they are asked for."""

    def __getitem__(self, place: int) -> GalleryFrame:
        return GalleryFrame(Path(f"{place}.jpg"), f"{place}.jpg")
