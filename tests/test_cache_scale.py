"""Large caches open fast and take little memory. Slow: pytest -m slow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cache_samples import FINGERPRINT
from command_line import environment

from qeeps_cli.cache.columns import FRAMES
from qeeps_cli.cache.folder import publish
from qeeps_cli.cache.segment import encode
from qeeps_cli.cache.store import canonical_json

DIMENSIONS = 256
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory in use from /proc")

# Each prints the number of frames, the seconds, and the memory (MB) that it took at most beyond what it had before. Not
# from getrusage: that counts the memory of the process that started it.
OPEN = """
import json, sys, time
from pathlib import Path
from cache_samples import FINGERPRINT, digest, refuse
from qeeps_cli.cache.store import Cache

def memory():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

with Cache(None, warn=refuse) as cache:
    cache.frames(FINGERPRINT)
before, begin = memory(), time.perf_counter()
with Cache(Path(sys.argv[1]), warn=refuse) as cache:
    store = cache.frames(FINGERPRINT)
    assert digest("missing") not in store
    opened = time.perf_counter() - begin
    print(json.dumps([len(store), opened, memory() - before]))
"""
STREAM = OPEN.replace(
    "    opened =",
    """    digests = [line.strip() for line in open(sys.argv[2])]
    before = memory()
    assert sum(len(block.boxes) for block in store.blocks(digests) if block.embeddings.sum() < 1) == int(sys.argv[3])
    opened =""",
)
ADD = """
import json, sys, time
from pathlib import Path
from cache_samples import FINGERPRINT, SIZE, digest, found, refuse
from qeeps_cli.cache.store import Cache

def memory():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

frame = found("a", 100)
with Cache(Path(sys.argv[1]), warn=refuse) as cache:
    store = cache.frames(FINGERPRINT)
    for number in range(int(sys.argv[2])):
        store.add(digest(number), "x", SIZE, frame)
        if number == 5_000:
            before = memory()
    print(json.dumps([len(store), 0, memory() - before]))
"""


def write(folder: Path, frames: int, people: int, segments: int = 20) -> list[str]:
    """A cache of random digests, each frame with as many people; their embeddings are 0."""
    random = np.random.default_rng(0)
    digests = random.integers(256, size=(frames, 16), dtype=np.uint8)
    for part, keys in enumerate(np.split(digests, segments)):
        rows, some = len(keys), len(keys) * people
        none = np.zeros(rows + 1, np.int64)
        columns = {
            "digests": keys,
            "created": np.arange(rows) + part * rows,
            "name_offsets": none,
            "names": np.zeros(0),
            "sizes": np.ones((rows, 2)),
            "note_offsets": none,
            "notes": np.zeros(0),
            "offsets": np.arange(rows + 1) * people,
            "boxes": np.zeros((some, 4)),
            "person_scores": np.zeros(some),
            "has_proposals": np.zeros(rows),
            "proposal_offsets": none,
            "proposals": np.zeros((0, 4)),
            "features": np.zeros((some, DIMENSIONS), np.float16),
        }
        publish(folder, "frames", encode(FRAMES, canonical_json(FINGERPRINT), columns))
    return [bytes(key).hex() for key in digests]


def measure(program: str, *arguments: object) -> tuple[int, float, float]:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment(PYTHONPATH=f"{here}{os.pathsep}{here.parent}"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count, seconds, megabytes = json.loads(done.stdout)
    print(f"{count} frames: {seconds:.2f} s, {megabytes:.0f} MB")
    return count, seconds, megabytes


@pytest.mark.slow
def test_a_million_frames_open(tmp_path):
    write(tmp_path / "a.qeeps", 1_000_000, 0)
    count, seconds, megabytes = measure(OPEN, tmp_path / "a.qeeps")
    assert count == 1_000_000 and seconds < 5 and megabytes < 150


@pytest.mark.slow
def test_a_million_detections_stream(tmp_path):
    digests = write(tmp_path / "a.qeeps", 20_000, 50)
    (tmp_path / "digests").write_text("\n".join(digests))
    count, seconds, megabytes = measure(STREAM, tmp_path / "a.qeeps", tmp_path / "digests", 1_000_000)
    assert count == 20_000 and seconds < 10 and megabytes < 150  # of 540


@pytest.mark.slow
def test_adding_frames_takes_no_more_and_more_memory(tmp_path):
    count, _, megabytes = measure(ADD, tmp_path / "a.qeeps", 40_000)
    assert count == 40_000 and megabytes < 50  # of 170 that were added since
