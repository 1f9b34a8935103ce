"""How long a search or an index will take on this machine: a few frames of its gallery are tried."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.out_of_memory import Batches, run_or_on_cpu
from qeeps_cli.searching.preview import Preview
from qeeps_cli.searching.reading import Read, read_frame, read_frames

TRIED = 3  # frames, spread over the gallery: how long one takes depends on its size and on how many people it shows
ENOUGH_SECONDS = 5.0  # after which no further frame is tried


@dataclass(frozen=True)
class Estimate:
    """seconds: if frames take as long as those tried do on average; least, most: if all are like the fastest, or like
    the slowest of them. Others may be faster or slower than all that were tried. tried: how many; with 0, where there
    is nothing to compute, all times are 0. notes: what is unusual."""

    seconds: float = 0.0
    least: float = 0.0
    most: float = 0.0
    tried: int = 0
    notes: list[str] = field(default_factory=list)


def estimate(
    engine: Engine,
    gallery: Gallery,
    preview: Preview,
    person: QueryPerson | None = None,
    *,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    read: Read = read_frame,
) -> Estimate | None:
    """Runs the network on up to TRIED frames, and keeps nothing; on none where nothing is left to compute.

    person: the query for the pairs of a search. read: where the bytes of frames come from. None where no frame that was
    tried can be decoded. Raises OutOfMemory where a single frame does not fit into the memory of a device that was
    asked for by name.
    """
    if not preview.frames_left + preview.pairs_left:
        return Estimate()

    def measure(engine: Engine, notes: list[str]) -> Estimate | None:
        costs = list(_costs(engine, _spread(gallery, max_pixels, read), preview, person, batch))
        return Estimate(sum(costs) / len(costs), min(costs), max(costs), len(costs), notes) if costs else None

    return run_or_on_cpu(engine, measure)


def _costs(
    engine: Engine, pictures: Iterator[np.ndarray], preview: Preview, person: QueryPerson | None, batch: int
) -> Iterator[float]:
    """Seconds of everything that is left, by one picture (H, W, 3) uint8 after the other."""
    batches, began, is_warm = Batches(engine.device), time.perf_counter(), False

    def seconds(run: Callable[[Sequence[np.ndarray]], list[Any]], rgb: np.ndarray) -> float:
        start = time.perf_counter()
        batches.run(run, [rgb] * batch)
        return (time.perf_counter() - start) / batch

    def cost(rgb: np.ndarray) -> float:
        total = 0.0
        if preview.frames_left:
            total += preview.frames_left * seconds(engine.detect, rgb)
        if preview.pairs_left:
            total += preview.pairs_left * seconds(lambda frames: engine.search(person, frames), rgb)
        return total

    for rgb in pictures:
        if not is_warm:  # the first pass allocates memory and prepares kernels
            cost(rgb)
            is_warm = True
        yield cost(rgb)
        if time.perf_counter() - began > ENOUGH_SECONDS:
            return


def _spread(gallery: Gallery, max_pixels: int, read_bytes: Read) -> Iterator[np.ndarray]:
    """The first frame, the last one, and those between them; not those that cannot be decoded."""
    places = np.unique(np.linspace(0, len(gallery.frames) - 1, TRIED).round().astype(int))
    frames = [gallery.frames[place] for place in places.tolist()]
    reading = {"ahead": TRIED, "max_pixels": max_pixels, "read_bytes": read_bytes}
    for read in read_frames(frames, lambda frame, digest: None, None, **reading):
        if read.decoded is not None:
            yield read.decoded.rgb
