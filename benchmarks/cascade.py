"""What the cascade loses against the exact search, and what it costs, by the share of frames that are compared exactly.

    python benchmarks/cascade.py                                   the example frames
    python benchmarks/cascade.py -- --dataset coco --root DIR --queries 12 --frames 100
    python benchmarks/cascade.py --shares 1 5 20 -- ...            other shares than 1, 2, 5, 10 and 20 %

What stands after -- goes to `qeeps benchmark`. The exact run comes first and fills a cache of its own, so that each
pair and each frame is computed once; the time of a row is worked out from how many of them it needs and from what one
took in these runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from timing import REPOSITORY, table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shares", type=float, nargs="+", default=[1, 2, 5, 10, 20])
    options.add_argument("--cache", help="keep the computed frames and pairs here; default: a temporary folder")
    options.add_argument("benchmark", nargs="*", help="options of qeeps benchmark, after --")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = given.cache or f"{folder}/benchmark.qeeps"
        cached, index_seconds = benchmark(cache, "cached", *given.benchmark)
        exact, pair_seconds = benchmark(cache, "exact", "--no-detection", *given.benchmark)
        frames, pairs = cached["counts"]["frames"], exact["counts"]["pairs"]
        a_frame, a_pair = index_seconds / frames, pair_seconds / pairs
        rows = [row("exact", exact, exact, pairs, pairs * a_pair)]
        for share in sorted(given.shares, reverse=True):
            found, _ = benchmark(cache, "cascade", "--shortlist", f"{share:g}%", *given.benchmark)
            count = found["counts"]["pairs_exact"]
            rows.append(row(f"cascade, {share:g} %", found, exact, count, frames * a_frame + count * a_pair))
        rows.append(row("cached", cached, exact, 0, frames * a_frame))
    queries = exact["counts"]["queries"]
    print(f"{exact['dataset']['set']}: {queries} queries, {frames} frames, {pairs} pairs; ", end="")
    print(f"{a_frame:.2f} s a frame, {a_pair:.2f} s a pair\n")
    print(table(["", "mAP", "lost", "top-1", "exact pairs", "s, all queries"], rows))


def benchmark(cache: str, mode: str, *more: str) -> tuple[dict[str, Any], float]:
    """The document of a run, and its seconds."""
    command = [sys.executable, "-m", "qeeps_cli", "benchmark", "--mode", mode, "--cache", cache, "--json", *more]
    print(" ".join(command[1:]), file=sys.stderr)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout), time.perf_counter() - began


def row(name: str, found: dict[str, Any], exact: dict[str, Any], pairs: int, seconds: float) -> list[str]:
    score, best = found["search"], exact["search"]
    lost = 100 * (best["mAP"] - score["mAP"])
    return [
        name,
        f"{100 * score['mAP']:.1f}",
        f"{lost:+.1f}" if found is not exact else "",
        f"{100 * score['top1']:.1f}",
        str(pairs),
        f"{seconds:.0f}",
    ]


if __name__ == "__main__":
    main()
