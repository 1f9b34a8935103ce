"""Time and memory of large galleries: memory must not grow with them, a second query must cost little.

    python benchmarks/large_gallery.py                                  100 to 10,000, and 10,000 and 100,000 filled
    python benchmarks/large_gallery.py --indexed 100000 --filled        all by the network (hours on two cores)

The frames are small pictures with different bytes but the same content. A small network with random weights finds
people in them, because what is measured is what surrounds the network: listing, reading, the cache, the ranking, the
output.

The galleries of --indexed are indexed by the network. For those of --filled even a small network is too slow: their
caches are filled beforehand, through `Cache`, with 10 made-up people a frame, and what is measured as "index" is a
`qeeps index` that finds every frame there (it lists, reads and hashes all of them).

Each row is a process of its own. Peak memory is its VmHWM (Linux), with PyTorch, the network, and pages of mapped
segments; the row of the smallest gallery says how much of that is there in any case.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import FRAMES, REPOSITORY, line, table

from qeeps_cli.cache.store import Cache
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.loading import load_engine
from qeeps_cli.types import Detections
from qeeps_cli.weights import save_checkpoint

DIM = 64
PEOPLE = 10  # a frame, where they are made up
SIZE = 64, 96
PARAMS = InferenceParams(proposals=20, min_objectness=0.0, min_person_score=0.0)
SMALL = ["--proposals", "20", "--min-objectness", "0", "--min-person-score", "0"]
SEARCHES = {
    "query, cached": ["--mode", "cached"],
    "query, expanded": ["--mode", "cached", "--expand"],
    "query, top 100": ["--mode", "cached", "--top-k", "100"],
    "query, cascade of 50": ["--mode", "cascade", "--shortlist", "50", "--top-k", "100"],
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--indexed", type=int, nargs="*", default=[100, 2_000, 10_000], metavar="FRAMES")
    options.add_argument("--filled", type=int, nargs="*", default=[10_000, 100_000], metavar="FRAMES")
    options.add_argument("--folder", type=Path, help="for frames and caches; default: a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder)
        weights = root / "small.safetensors"
        torch.manual_seed(0)
        config = ModelConfig("resnet18", shorter_side=64, longest_side=96, pool_size=4, embedding_dim=DIM)
        save_checkpoint(weights, QEEPS(config), {"data": "none"})
        print(table(["frames", "command", "s", "peak MiB"], []), flush=True)
        for count in given.indexed:
            gallery = make_frames(root / f"indexed_{count}", count)
            measure(gallery, weights, count, "index")
        for count in given.filled:
            gallery = make_frames(root / f"filled_{count}", count)
            fill(gallery, weights)
            measure(gallery, weights, count, "index, all of it cached")


def make_frames(folder: Path, count: int) -> Path:
    with Image.open(FRAMES[0]) as image:
        buffer = io.BytesIO()
        image.resize(SIZE[::-1]).save(buffer, "JPEG")
    picture = buffer.getvalue()
    for i in range(count):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture + str(i).encode())  # after the end of the picture: another file, the same content
    return folder


def fill(gallery: Path, weights: Path) -> None:
    """A cache beside the gallery, as if the network had found people in its frames."""
    engine, _ = load_engine(weights, "cpu", PARAMS)
    rng = np.random.default_rng(0)
    with Cache(gallery.with_name(f"{gallery.name}.qeeps"), warn=print) as cache:
        store = cache.frames(engine.fingerprint())
        for path in sorted(gallery.rglob("*.jpg")):
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
            store.add(digest, path.relative_to(gallery).as_posix(), SIZE, made_up(rng))


def made_up(rng: np.random.Generator) -> Detections:
    corners = rng.uniform(0, 40, (PEOPLE, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 20, (PEOPLE, 2))]).astype(np.float32)
    scores = rng.uniform(0.1, 1, PEOPLE).astype(np.float32)
    embeddings = rng.standard_normal((PEOPLE, DIM)).astype(np.float32)
    return Detections(boxes, scores, scores, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def measure(gallery: Path, weights: Path, frames: int, index: str) -> None:
    """Prints for each command its seconds and peak MiB. index: what to call `qeeps index`."""
    common = ["--gallery", str(gallery), "--weights", str(weights), "--device", "cpu", "--quiet", *SMALL]
    query = ["--query", str(gallery / "000" / "000000.jpg"), "--box", "40,20,30,40"]
    commands = {index: ["index", *common]}
    commands |= {name: ["search", *query, *common, *mode] for name, mode in SEARCHES.items()}
    for name, command in commands.items():
        print(line([f"{frames:,}", name, *run(command)]), flush=True)


def run(arguments: list[str]) -> tuple[str, str]:
    """Seconds and peak MiB of a process."""
    code = (
        "import sys; from qeeps_cli.cli import main; sys.argv[0] = 'qeeps'\n"
        "try:\n    main()\nfinally:\n"
        "    print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line), file=sys.stderr)"
    )
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return f"{time.perf_counter() - began:.1f}", f"{int(done.stderr.split()[-1]) / 1024:.0f}"


if __name__ == "__main__":
    main()
