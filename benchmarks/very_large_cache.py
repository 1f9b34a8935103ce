"""Ten million cached people: seconds and peak memory of a query, against one matrix-vector product of the same bytes.

    python benchmarks/very_large_cache.py                                1 and 10 million detections, 20 a frame
    python benchmarks/very_large_cache.py --detections 1000000 --folder /big/disk

The detections are random unit vectors, 5.3 GB for ten million, in a cache that is filled through `Cache` and removed at
the end. The product needs all embeddings in memory at once (5.1 GB); a query maps one segment after the other.

Peak memory is what a query takes beyond the process before it, pages of the mapped segments included (Linux). "once
more" is a query of which everything but the product is known: what a second search of one process takes. From the third
query on up to 1 GiB of the segments stay mapped ("the fourth").
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from synthetic import FINGERPRINT, PEOPLE, digest, fill, in_memory, queries_and_form, query
from timing import interleaved, line, table

from qeeps_cli.cache.store import Cache
from qeeps_cli.device import describe
from qeeps_cli.evaluation.memory import PeakMemory
from qeeps_cli.searching.scoring import CachedGallery

TOP_K = 100
HEADER = ["detections", "", "s", "of the product", "s of the processor", "of the product", "peak MiB"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--detections", type=int, nargs="+", default=[1_000_000, 10_000_000])
    options.add_argument("--folder", type=Path, help="for the cache; default: a temporary one")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    print(f"{describe(torch.device('cpu'))}; {PEOPLE} detections a frame, top {TOP_K}\n", flush=True)
    print(table(HEADER, []), flush=True)
    for detections in given.detections:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            for row in measure(Path(folder) / "benchmark.qeeps", detections, given.rounds):
                print(line(row), flush=True)


def measure(place: Path, detections: int, rounds: int) -> list[list[str]]:
    """The rows of a cache of that many detections."""
    digests = [digest(i) for i in range(detections // PEOPLE)]
    fill(place, digests)
    (person, form), taken = queries_and_form(1), {}
    with Cache(place, read_only=True, warn=print) as cache:
        begun: list[CachedGallery] = []

        def first() -> None:
            begun.append(CachedGallery(cache.frames(FINGERPRINT), digests, form))
            again()

        def again() -> None:
            query(begun[0], person, form, TOP_K)

        taken["the first query of a process"] = once(first)
        taken["once more"] = once(again)
        again()
        taken["the fourth"] = once(again)
        everything, factors = in_memory(cache.frames(FINGERPRINT), digests), torch.from_numpy(person).half()

        def product() -> None:
            torch.mm(factors, everything.T)

        contenders = {"query": again, "product": product}
        seconds, work = interleaved(contenders, rounds), interleaved(contenders, rounds, clock=time.process_time)
        _, _, peak = once(product)
        taken[f"later ones, median of {rounds}"] = seconds["query"], work["query"], None
        taken["the product alone, in memory"] = seconds["product"], work["product"], peak + everything.nbytes
    rows = []
    for name, (wall, processor, memory) in taken.items():
        times = [*timed(wall, seconds["product"]), *timed(processor, work["product"])]
        rows.append([f"{detections:,}", name, *times, "" if memory is None else f"{memory / 2**20:.0f}"])
    return rows


def once(run: Callable[[], object]) -> tuple[float, float, int]:
    """Seconds, seconds of the processor, and the peak memory in bytes."""
    memory = PeakMemory(torch.device("cpu"))
    began, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - worked, memory.read()


def timed(taken: float, product: float) -> tuple[str, str]:
    return f"{taken:.2f}", f"{taken / product:.2f}×"


if __name__ == "__main__":
    main()
