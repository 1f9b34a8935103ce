"""What a search or an index would have to compute, and what the cache holds of it; see `estimate` for the time."""

from collections.abc import Sequence
from dataclasses import dataclass

from qeeps_cli.cache.store import Cache, FrameStore, PairStore
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.plan import Plan
from qeeps_cli.searching.reading import find_usable, known_digests
from qeeps_cli.searching.request import QueryPicture, SearchOptions


@dataclass(frozen=True)
class Preview:
    """frames, pairs: what the plan needs, and those of them that the cache is known to hold; a file that changed or was
    never read may be there as a copy, which is not counted. pairs_cached: None for the cascade, whose pairs are not
    known beforehand."""

    frames: int = 0
    frames_cached: int = 0
    pairs: int = 0
    pairs_cached: int | None = 0

    @property
    def frames_left(self) -> int:
        """To run without a query."""
        return self.frames - self.frames_cached

    @property
    def pairs_left(self) -> int:
        """To compare, at most."""
        return self.pairs - (self.pairs_cached or 0)


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
        return Preview(pairs=frames * len(pictures), pairs_cached=cached)
    store = None if cache is None or refresh else cache.frames(engine.fingerprint())
    cached = _count(store, gallery, cache, options.max_pixels)
    if plan.mode == "cached":
        return Preview(frames, cached)
    return Preview(frames, cached, plan.shortlist * len(pictures), None)


def preview_index(engine: Engine, gallery: Gallery, max_pixels: int, cache: Cache, refresh: bool = False) -> Preview:
    """As for a search that needs every frame without a query."""
    store = None if refresh else cache.frames(engine.fingerprint())
    return Preview(len(gallery.frames), _count(store, gallery, cache, max_pixels))


def _pairs(engine: Engine, cache: Cache | None, picture: QueryPicture | None) -> PairStore | None:
    if cache is None or picture is None:
        return None
    return cache.pairs(engine.fingerprint(), picture.query.digest, picture.query.box)


def _count(store: FrameStore | PairStore | None, gallery: Gallery, cache: Cache | None, max_pixels: int) -> int:
    """Frames of unchanged files that the store has."""
    if store is None:
        return 0
    digests = map(known_digests(cache), gallery.frames)
    return sum(digest is not None and find_usable(store, digest, max_pixels, False) is not None for digest in digests)
