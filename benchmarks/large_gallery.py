"""Time and memory of a gallery of 100,000 frames: memory must not grow with it, a second query must cost little.

    python benchmarks/large_gallery.py                       100,000 frames
    python benchmarks/large_gallery.py --frames 10000

The frames are small pictures with different bytes but the same content. A small random network finds people in them,
because what is measured is what surrounds the network: listing, reading, the cache, the ranking, the output. Peak
memory is VmHWM of the processes (Linux).
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from timing import FRAMES, REPOSITORY, table

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.weights import save_checkpoint

SMALL = ["--proposals", "20", "--min-objectness", "0", "--min-person-score", "0"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--frames", type=int, default=100_000)
    options.add_argument("--folder", type=Path, help="for frames and cache; default: a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder)
        weights = root / "small.safetensors"
        torch.manual_seed(0)
        config = ModelConfig("resnet18", shorter_side=64, longest_side=96, pool_size=4, embedding_dim=64)
        save_checkpoint(weights, QEEPS(config), {"data": "none"})
        rows = []
        for count in (given.frames // 10, given.frames):
            gallery = make_frames(root / f"gallery_{count}", count)
            query = ["--query", str(gallery / "000" / "000000.jpg"), "--box", "40,20,30,60"]
            common = ["--gallery", str(gallery), "--weights", str(weights), "--quiet", *SMALL]
            rows += [
                [f"{count:,}", "index", *measured(["index", *common])],
                [f"{count:,}", "query, cached", *measured(["search", *query, *common, "--mode", "cached"])],
                [f"{count:,}", "query, top 100", *measured(
                    ["search", *query, *common, "--mode", "cached", "--top-k", "100"])],
                [f"{count:,}", "query, cascade", *measured(["search", *query, *common, "--top-k", "100"])],
            ]  # fmt: skip
    print(table(["frames", "command", "s", "peak MiB"], rows))


def make_frames(folder: Path, count: int) -> Path:
    with Image.open(FRAMES[0]) as image:
        buffer = io.BytesIO()
        image.resize((96, 64)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    for i in range(count):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture + str(i).encode())  # after the end of the picture: another file, the same content
    return folder


def measured(arguments: list[str]) -> tuple[str, str]:
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
