"""A query over a large cache: the best of a million people, against one matrix-vector product of the same bytes.

    python benchmarks/cached_query.py                       1,000,000 detections of 256 dimensions, 20 a frame
    python benchmarks/cached_query.py --detections 10000000 --folder /big/disk

The detections are random unit vectors in a real cache on disk. The first query of a process reads, checks and maps the
segments; the next ones only score. The product is PyTorch's, of the same float16 numbers in one array in memory.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from timing import interleaved, table

from qeeps_cli.cache.store import Cache
from qeeps_cli.device import describe
from qeeps_cli.evaluation.memory import process_peak
from qeeps_cli.searching.ranking import Ranking
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, Scorer, rank_cached
from qeeps_cli.types import Detections, GalleryFrame, Query

PEOPLE = 20  # a frame
DIM = 256
FINGERPRINT = {"benchmark": "cached_query"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--detections", type=int, default=1_000_000)
    options.add_argument("--queries", type=int, default=1)
    options.add_argument("--top-k", type=int, default=100)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--folder", type=Path, help="for the cache (0.6 GB a million); default: a temporary one")
    given = options.parse_args()
    frames = given.detections // PEOPLE
    digests = [hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest() for i in range(frames)]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        place = Path(folder) / "benchmark.qeeps"
        fill(place, digests)
        before = process_peak()
        rng = np.random.default_rng(1)
        queries = unit(rng, given.queries)
        form = (rng.uniform(-2, -0.5, DIM).astype(np.float32), 1.0)
        with Cache(place, read_only=True, warn=print) as cache:
            began = time.perf_counter()
            gallery = CachedGallery(cache.frames(FINGERPRINT), digests, form)
            query(gallery, queries, form, given.top_k)
            first = time.perf_counter() - began
            peak = process_peak()
            everything = torch.cat([torch.from_numpy(np.array(part.block.embeddings)) for part in gallery.parts()])
            factors = torch.from_numpy(queries).half()
            seconds = interleaved(
                {
                    "query": lambda: query(gallery, queries, form, given.top_k),
                    "product": lambda: torch.mm(factors, everything.T),
                },
                given.rounds,
            )
    print(f"{describe(torch.device('cpu'))}; {frames * PEOPLE:,} detections, {given.queries} queries at once\n")
    ratio = seconds["query"] / seconds["product"]
    rows = [
        ["the first query of a process (reads and checks the cache)", f"{1000 * first:.0f}", ""],
        [f"a query: scores, top {given.top_k}", f"{1000 * seconds['query']:.0f}", f"{ratio:.2f}×"],
        ["the product alone, in memory", f"{1000 * seconds['product']:.0f}", "1×"],
    ]
    print(table(["", "ms", "of the product"], rows))
    print(f"\npeak memory grew by {(peak - before) / 2**20:.0f} MiB, mapped pages of the cache included")


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(place: Path, digests: list[str]) -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([[10, 10, 60, 160]], np.float32), (PEOPLE, 1))
    scores = np.linspace(1, 0.5, PEOPLE, dtype=np.float32)
    with Cache(place, warn=print) as cache:
        store = cache.frames(FINGERPRINT)
        for i, digest in enumerate(digests):
            store.add(digest, f"{i}.jpg", (600, 800), Detections(boxes, scores, scores, unit(rng, PEOPLE)))


def query(gallery: CachedGallery, queries: np.ndarray, form: tuple[np.ndarray, float], top_k: int) -> None:
    frames = _Frames()
    rankings = [Ranking(Query(Path("q.jpg"), None), frames, SearchOptions(top_k=top_k)) for _ in queries]
    count = len(gallery.digests)
    rank_cached(gallery, Scorer(queries, form), rankings, np.arange(count), np.ones((len(queries), count), bool))


class _Frames:
    """A gallery of frames that are made when they are asked for."""

    def __getitem__(self, place: int) -> GalleryFrame:
        return GalleryFrame(Path(f"{place}.jpg"), f"{place}.jpg")


if __name__ == "__main__":
    main()
