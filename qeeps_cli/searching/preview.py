"""What a search or an index would do and roughly how long it would take, without running the network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qeeps_cli.cache.store import Cache, FrameStore, PairStore
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.plan import Plan
from qeeps_cli.searching.reading import find_usable
from qeeps_cli.searching.request import QueryPicture, SearchOptions

# Thread-seconds (on a GPU: seconds) of one pass of ResNet-18 over a million pixels of the network's input, by device
# and precision. CPU: 0.77 s for a pair at 600x1000 on two threads (docs/performance.md), and 1.8 times that in
# float32. GPU: a third of the paper's 0.3 s for a pair of 900x1500 with ResNet-50 (Table 4, a P6000 in float32), as
# ResNet-18 takes about a third of its operations.
_PASS_SECONDS = {
    ("cpu", "bfloat16"): 2.6,
    ("cpu", "float32"): 4.6,
    ("cuda", "bfloat16"): 0.07,
    ("cuda", "float32"): 0.07,
}
_BACKBONE_FACTOR = {"resnet18": 1.0, "resnet34": 1.7, "resnet50": 3.0, "resnet101": 4.5}
_ASPECT = 16 / 9  # of frames, whose files are not opened for an estimate


@dataclass(frozen=True)
class Preview:
    """frames, pairs: what the plan needs, and those of them that the cache is known to hold; a file that changed or was
    never read may be there as a copy, which is not counted. pairs_cached: None for the cascade, whose pairs are not
    known beforehand. seconds: of computing the others, rough."""

    frames: int
    frames_cached: int
    pairs: int
    pairs_cached: int | None
    seconds: float


def preview_search(
    engine: Engine,
    pictures: Sequence[QueryPicture | None],
    gallery: Gallery,
    options: SearchOptions,
    plan: Plan,
    cache: Cache | None,
    refresh: bool = False,
) -> Preview:
    """pictures: None for a query whose box is not known before the network ran (`--person`); its pairs count as not
    cached."""
    frames = len(gallery.frames)
    if plan.mode == "exact":
        stores = [] if refresh else [_pairs(engine, cache, picture) for picture in pictures]
        cached = sum(_count(store, gallery, cache, options.max_pixels) for store in stores)
        return _preview(engine, pairs=frames * len(pictures), pairs_cached=cached)
    store = None if cache is None or refresh else cache.frames(engine.fingerprint())
    cached = _count(store, gallery, cache, options.max_pixels)
    if plan.mode == "cached":
        return _preview(engine, frames=frames, frames_cached=cached)
    return _preview(
        engine, frames=frames, frames_cached=cached, pairs=plan.shortlist * len(pictures), pairs_cached=None
    )


def preview_index(engine: Engine, gallery: Gallery, max_pixels: int, cache: Cache, refresh: bool = False) -> Preview:
    """As for a search that needs every frame without a query."""
    store = None if refresh else cache.frames(engine.fingerprint())
    return _preview(engine, frames=len(gallery.frames), frames_cached=_count(store, gallery, cache, max_pixels))


def pass_seconds(engine: Engine) -> float:
    """A rough guess at the time of one pass of the network, over a frame or a pair."""
    config = engine.model.config
    height = config.shorter_side
    pixels = height * min(config.longest_side, height * _ASPECT)
    precision = str(engine.dtype).removeprefix("torch.")
    seconds = _PASS_SECONDS[engine.device.type, precision] * _BACKBONE_FACTOR[config.backbone] * pixels / 1e6
    return seconds if engine.device.type == "cuda" else seconds / torch.get_num_threads()


def _pairs(engine: Engine, cache: Cache | None, picture: QueryPicture | None) -> PairStore | None:
    if cache is None or picture is None:
        return None
    return cache.pairs(engine.fingerprint(), picture.query.digest, picture.query.box)


def _count(store: FrameStore | PairStore | None, gallery: Gallery, cache: Cache | None, max_pixels: int) -> int:
    """Frames of unchanged files that the store has."""
    if store is None:
        return 0
    digests = (cache.digest_of(frame.path) for frame in gallery.frames)
    return sum(digest is not None and find_usable(store, digest, max_pixels, False) is not None for digest in digests)


def _preview(
    engine: Engine, frames: int = 0, frames_cached: int = 0, pairs: int = 0, pairs_cached: int | None = 0
) -> Preview:
    passes = frames - frames_cached + pairs - (pairs_cached or 0)
    return Preview(frames, frames_cached, pairs, pairs_cached, passes * pass_seconds(engine))
