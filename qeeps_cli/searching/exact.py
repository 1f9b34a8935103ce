"""The exact search: every frame goes through the Siamese network with every query (the paper's own mode)."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from qeeps_cli.cache.store import Cache, PairStore
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.out_of_memory import Batches
from qeeps_cli.searching.reading import Read, ReadFrame, find_usable, in_batches, read_frame, read_frames
from qeeps_cli.types import Detections, GalleryFrame


@dataclass(frozen=True)
class FrameAnswer:
    """What one frame gave for one query: its detections, or why it could not be used.

    was_cached: the detections were stored already.
    """

    frame: GalleryFrame
    detections: Detections | None
    skipped: str | None = None
    digest: str = ""
    note: str | None = None
    was_cached: bool = False


def search_pairs(
    engine: Engine,
    queries: Sequence[QueryPerson],
    frames: Iterable[GalleryFrame],
    *,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    stores: Sequence[PairStore] | None = None,
    cache: Cache | None = None,
    refresh: bool = False,
    wanted: Callable[[GalleryFrame], Sequence[int]] | None = None,
    proposals: Callable[[int, GalleryFrame], bool] | None = None,
    read: Read = read_frame,
) -> Iterator[tuple[int, FrameAnswer]]:
    """Answers as (index of the query, answer), frame by frame in their order, and in each in the order of `wanted`.

    A frame is decoded and prepared once for all queries, and not at all when all of its pairs are stored; neighbours of
    one size run as a batch. A frame that cannot be decoded gives answers with `skipped`.

    stores: of each query, read and filled; None: nothing is kept. refresh: compute what is stored, and replace it.
    wanted: the queries that a frame is searched for, default all. proposals: whether a pair's answer has to hold its
    proposals; a stored one without them does not count. read: where the bytes of frames come from. Raises
    NotANumberError when a score is not finite, OutOfMemory when the device's memory does not suffice for one frame.
    """
    pairs = _Pairs(engine, queries, stores, max_pixels, refresh, wanted, proposals)
    reads = read_frames(
        filter(pairs.wanted, frames),
        lambda frame, digest: None if pairs.missing(frame, digest) else True,
        cache,
        ahead=max(4, 2 * batch),
        max_pixels=max_pixels,
        read_bytes=read,
    )
    for group in in_batches(reads, batch, pairs.work):
        yield from pairs.answer(group)


class _Pairs:
    """Which pairs are wanted and which of them are stored; computes those that are not."""

    def __init__(self, engine, queries, stores, max_pixels, refresh, wanted, proposals):
        self.engine: Engine = engine
        self.batches = Batches(engine.device)
        self.queries: Sequence[QueryPerson] = queries
        self.stores: Sequence[PairStore] | None = stores
        self.max_pixels: int = max_pixels
        self.renewed: set[tuple[int, str]] | None = set() if refresh else None
        self.wanted = wanted or (lambda frame: range(len(queries)))
        self.needs_proposals = proposals or (lambda query, frame: False)

    def missing(self, frame: GalleryFrame, digest: str) -> tuple[int, ...]:
        """The queries that the frame has to run with."""
        return tuple(query for query in self.wanted(frame) if not self._is_stored(query, frame, digest))

    def work(self, read: ReadFrame) -> Hashable | None:
        return read.decoded.size if self.missing(read.frame, read.digest) else None

    def answer(self, group: list[ReadFrame]) -> Iterator[tuple[int, FrameAnswer]]:
        found = self._compute([read for read in group if read.decoded is not None and self.work(read)])
        for read in group:
            for query in self.wanted(read.frame):
                if read.broken is not None:
                    yield query, FrameAnswer(read.frame, None, skipped=read.broken)
                elif (query, read.digest) in found:
                    detections = found[query, read.digest]
                    yield query, FrameAnswer(read.frame, detections, digest=read.digest, note=read.decoded.note)
                else:
                    store = self.stores[query]
                    detections, note = store.get(read.digest), store.about(read.digest).note
                    yield query, FrameAnswer(read.frame, detections, None, read.digest, note, was_cached=True)

    def _is_stored(self, query: int, frame: GalleryFrame, digest: str) -> bool:
        if self.stores is None or (self.renewed is not None and (query, digest) not in self.renewed):
            return False
        needed = self.needs_proposals(query, frame)
        return find_usable(self.stores[query], digest, self.max_pixels, needed) is not None

    def _compute(self, reads: list[ReadFrame]) -> dict[tuple[int, str], Detections]:
        """The missing pairs of frames of one size."""
        found = self.batches.run(self._search, reads)
        return {
            (query, read.digest): self._keep(query, read, detections)
            for read, answers in zip(reads, found, strict=True)
            for query, detections in answers.items()
        }

    def _search(self, reads: Sequence[ReadFrame]) -> list[dict[int, Detections]]:
        """For each frame the answers for the queries that it is missing; as many frames as run together."""
        prepared = self.engine.prepare([read.decoded.rgb for read in reads])
        missing: dict[int, list[int]] = {}
        for number, read in enumerate(reads):
            for query in self.missing(read.frame, read.digest):
                missing.setdefault(query, []).append(number)
        answers: list[dict[int, Detections]] = [{} for _ in reads]
        for query, numbers in missing.items():
            needed = [self.needs_proposals(query, reads[number].frame) for number in numbers]
            picked = prepared if len(numbers) == len(reads) else prepared.pick(numbers)
            results = self.engine.search(self.queries[query], picked, proposals=any(needed))
            for number, detections, with_proposals in zip(numbers, results, needed, strict=True):
                answers[number][query] = detections if with_proposals else replace(detections, proposals=None)
        return answers

    def _keep(self, query: int, read: ReadFrame, detections: Detections) -> Detections:
        if self.stores is None:
            return detections
        if self.renewed is not None:
            self.renewed.add((query, read.digest))
        decoded = read.decoded
        return self.stores[query].add(
            read.digest,
            read.frame.name,
            decoded.size,
            detections,
            note=decoded.note,
            replace=self.renewed is not None or self.needs_proposals(query, read.frame),
        )
