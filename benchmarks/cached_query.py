"""A query over a large cache: the best of a million people, against one matrix-vector product of the same bytes.

    python benchmarks/cached_query.py                       1,000,000 detections of 256 dimensions, 20 a frame
    python benchmarks/cached_query.py --queries 8           eight queries at once

The detections are random unit vectors in a real cache on disk. The first query of a process reads and checks the
segments, and computes what does not depend on the query; the next ones only score, and from the third on the segments
stay mapped. The product is PyTorch's, of the same float16 numbers in one array in memory. The time of the processor
counts all threads; on a machine that is busy with something else its ratio is the one to go by.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from synthetic import FINGERPRINT, PEOPLE, digest, fill, in_memory, queries_and_form, query
from timing import interleaved, table

from qeeps_cli.cache.store import Cache
from qeeps_cli.device import describe
from qeeps_cli.evaluation.memory import PeakMemory
from qeeps_cli.searching.scoring import CachedGallery

MILLION = 1_000_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--detections", type=int, default=MILLION)
    options.add_argument("--queries", type=int, default=1)
    options.add_argument("--top-k", type=int, default=100, help="0: no limit, each frame's best too")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--folder", type=Path, help="for the cache (0.6 GB a million); default: a temporary one")
    given = options.parse_args()
    digests = [digest(i) for i in range(given.detections // PEOPLE)]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        place = Path(folder) / "benchmark.qeeps"
        fill(place, digests)
        with Cache(place, read_only=True, warn=print) as cache:
            rows, peak = measure(cache, digests, given.queries, given.top_k or None, given.rounds)
    count = len(digests) * PEOPLE
    print(f"{describe(torch.device('cpu'))}; {count:,} detections, {given.queries} queries at once\n")
    print(table(["", "ms", "of the product", "ms of the processor", "of the product"], rows))
    print(f"\nthe first two queries took {peak / 2**20:.0f} MiB at most, mapped pages of the cache included")


def measure(
    cache: Cache, digests: list[str], queries: int, top_k: int | None, rounds: int
) -> tuple[list[list[str]], int]:
    """The rows of the table, and the peak memory of the first two queries in bytes."""
    people, form = queries_and_form(queries)
    memory = PeakMemory(torch.device("cpu"))
    began, worked = time.perf_counter(), time.process_time()
    gallery = CachedGallery(cache.frames(FINGERPRINT), digests, form)
    query(gallery, people, form, top_k)
    first, first_work = time.perf_counter() - began, time.process_time() - worked
    query(gallery, people, form, top_k)
    peak = memory.read()

    everything, factors = in_memory(cache.frames(FINGERPRINT), digests), torch.from_numpy(people).half()
    contenders: dict[str, Callable[[], object]] = {
        "query": lambda: query(gallery, people, form, top_k),
        "product": lambda: torch.mm(factors, everything.T),
    }
    seconds, work = interleaved(contenders, rounds), interleaved(contenders, rounds, clock=time.process_time)

    def row(name: str, taken: float, worked: float) -> list[str]:
        of_time, of_work = f"{taken / seconds['product']:.2f}×", f"{worked / work['product']:.2f}×"
        return [name, f"{1000 * taken:.0f}", of_time, f"{1000 * worked:.0f}", of_work]

    listed = f"top {top_k}" if top_k else "each frame's best"
    return [
        row("the first query of a process", first, first_work),
        row(f"a query: scores, {listed}", seconds["query"], work["query"]),
        row("the product alone, in memory", seconds["product"], work["product"]),
    ], peak


if __name__ == "__main__":
    main()
