"""What decoding ahead in threads gives to an index, against decoding each frame when its turn comes.

python benchmarks/reading_ahead.py
python benchmarks/reading_ahead.py --gallery DIR
"""

import argparse

from timing import FRAMES, interleaved, table

from qeeps_cli.device import describe
from qeeps_cli.images import read_image
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.searching.indexing import index_frames
from qeeps_cli.searching.loading import load_engine


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gallery", default=str(FRAMES[0].parent))
    options.add_argument("--frames", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    engine, _ = load_engine()
    frames = list_galleries([given.gallery]).frames[: given.frames]
    seconds = interleaved(
        {
            "read, decode, detect": lambda: [engine.detect([read_image(frame.path).rgb]) for frame in frames],
            "decoding ahead": lambda: list(index_frames(engine, frames, None, None)),
            "reading and decoding alone": lambda: [read_image(frame.path) for frame in frames],
        },
        given.rounds,
    )
    first = next(iter(seconds.values()))
    print(f"{describe(engine.device)}; {len(frames)} frames\n")
    rows = [[name, f"{1000 * value / len(frames):.1f}", f"{first / value:.2f}×"] for name, value in seconds.items()]
    print(table(["", "ms a frame", "ratio"], rows))


if __name__ == "__main__":
    main()
