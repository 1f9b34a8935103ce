"""The index: every frame runs once without a query, and what is found in it goes into the cache."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from qeeps_cli.cache.detections import About
from qeeps_cli.cache.store import Cache, FrameStore
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.galleries import Gallery, nothing_searched
from qeeps_cli.searching.out_of_memory import Batches, run_or_on_cpu
from qeeps_cli.searching.reading import Read, ReadFrame, find_usable, in_batches, read_frame, read_frames
from qeeps_cli.types import Detections, GalleryFrame, Skipped


@dataclass(frozen=True)
class IndexedFrame:
    """A frame whose people are known, or why they are not.

    detections: None where the frame was skipped, or was cached and loading was not asked for. people: how many.
    """

    frame: GalleryFrame
    digest: str = ""
    detections: Detections | None = None
    skipped: str | None = None
    note: str | None = None
    was_cached: bool = False
    people: int = 0


def index_frames(
    engine: Engine,
    frames: Iterable[GalleryFrame],
    store: FrameStore | None,
    cache: Cache | None,
    *,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    refresh: bool = False,
    load: bool = True,
    proposals: Callable[[GalleryFrame], bool] | None = None,
    read: Read = read_frame,
) -> Iterator[IndexedFrame]:
    """The frames in their order. A frame that is stored is not run, and where its file has not changed not even read.

    store, cache: None: nothing is kept. refresh: run what is stored, and replace it. load: with the detections of
    stored frames. proposals: whether a frame's detections have to hold its proposals; a stored one without them does
    not count. read: where the bytes of frames come from. Raises OutOfMemory when the device's memory does not suffice
    for one frame.
    """
    index = _Index(engine, store, max_pixels, refresh, load, proposals or (lambda frame: False))
    reads = read_frames(
        frames, index.find, cache, ahead=max(4, 2 * batch), max_pixels=max_pixels, read_bytes=read
    )
    for group in in_batches(reads, batch, index.work):
        yield from index.answer(group)


@dataclass
class IndexSummary:
    """What became of a gallery. frames: those that could be used, computed or cached. people: in all of them."""

    computed: int = 0
    cached: int = 0
    people: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return self.computed + self.cached


def index_gallery(
    engine: Engine,
    gallery: Gallery,
    cache: Cache,
    *,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    refresh: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> IndexSummary:
    """`index_frames` for all frames of a gallery; all of them on the CPU where the memory of a GPU that was not asked
    for by name does not suffice.

    Raises NothingToSearchError when none of them could be used, OutOfMemory.
    """

    def index(engine: Engine, notes: list[str]) -> IndexSummary:
        store = cache.frames(engine.fingerprint())
        indexed = index_frames(
            engine, gallery.frames, store, cache, batch=batch, max_pixels=max_pixels, refresh=refresh, load=False
        )
        return summarise(indexed, gallery, notes, progress)

    return run_or_on_cpu(engine, index)


def summarise(
    indexed: Iterable[IndexedFrame],
    gallery: Gallery,
    notes: Sequence[str] = (),
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> IndexSummary:
    """What became of all frames of a gallery, which come in its order. Raises NothingToSearchError."""
    summary = IndexSummary(skipped=list(gallery.skipped), notes=[*notes, *gallery.notes])
    for done, item in enumerate(indexed, start=1):
        progress(done, len(gallery.frames), "frames indexed")
        if item.skipped is not None:
            summary.skipped.append(Skipped(item.frame.name, item.skipped))
            continue
        summary.cached += item.was_cached
        summary.computed += not item.was_cached
        summary.people += item.people
        if item.note:
            summary.notes.append(f"{item.frame.name}: {item.note}")
    if not summary.frames:
        raise nothing_searched(summary.skipped, summary.notes)
    return summary


@dataclass
class _Index:
    engine: Engine
    store: FrameStore | None
    max_pixels: int
    refresh: bool
    load: bool
    needs_proposals: Callable[[GalleryFrame], bool]

    def __post_init__(self):
        self.renewed: set[str] = set()
        self.batches = Batches(self.engine.device)

    def find(self, frame: GalleryFrame, digest: str) -> About | None:
        if self.store is None or (self.refresh and digest not in self.renewed):
            return None
        return find_usable(self.store, digest, self.max_pixels, self.needs_proposals(frame))

    def work(self, read: ReadFrame) -> Hashable | None:
        if self.find(read.frame, read.digest) is not None:
            return None
        return read.decoded.size, self.needs_proposals(read.frame)

    def answer(self, group: list[ReadFrame]) -> Iterator[IndexedFrame]:
        found = self._compute([read for read in group if read.decoded is not None and self.work(read)])
        for read in group:
            if read.broken is not None:
                yield IndexedFrame(read.frame, skipped=read.broken)
            elif read.digest in found:
                detections, note = found[read.digest], read.decoded.note
                yield IndexedFrame(read.frame, read.digest, detections, note=note, people=len(detections))
            else:
                about = read.stored or self.store.about(read.digest)
                detections = self.store.get(read.digest) if self.load else None
                yield IndexedFrame(read.frame, read.digest, detections, None, about.note, True, about.people)

    def _compute(self, reads: list[ReadFrame]) -> dict[str, Detections]:
        if not reads:
            return {}
        needed = self.needs_proposals(reads[0].frame)
        results = self.batches.run(
            lambda some: self.engine.detect([read.decoded.rgb for read in some], proposals=needed), reads
        )
        return {read.digest: self._keep(read, found, needed) for read, found in zip(reads, results, strict=True)}

    def _keep(self, read: ReadFrame, detections: Detections, with_proposals: bool) -> Detections:
        if self.store is None:
            return detections
        if self.refresh:
            self.renewed.add(read.digest)
        decoded = read.decoded
        replace = self.refresh or with_proposals
        return self.store.add(
            read.digest, read.frame.name, decoded.size, detections, note=decoded.note, replace=replace
        )
