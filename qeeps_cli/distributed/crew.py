"""The driver's side: what is not cached yet is given to workers, and their answers are gathered."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qeeps_cli.cache.folder import NotWritableError, marked
from qeeps_cli.cache.store import Cache
from qeeps_cli.distributed import objects
from qeeps_cli.distributed.cluster import Cluster
from qeeps_cli.distributed.pool import fingerprint_of_workers, run
from qeeps_cli.distributed.scoring import SharedGallery
from qeeps_cli.distributed.task import Answer, Task
from qeeps_cli.distributed.worker import Comparer, Indexer, Worker
from qeeps_cli.errors import CacheError, ImageError
from qeeps_cli.images import MAX_PIXELS, ImageFile
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.indexing import IndexedFrame, IndexSummary, summarise
from qeeps_cli.searching.reading import find_usable, known_digests
from qeeps_cli.searching.request import QueryPicture
from qeeps_cli.types import GalleryFrame

FEWEST = 8  # frames of a search that are worth the start of workers
SHARED_FRAMES = 1_000_000  # from here on people are scored by workers, too

Progress = Callable[[int, int, str], None]
Assigned = list[tuple[int, GalleryFrame, Sequence[int]]]


@dataclass
class RayCrew:
    """A `searching.crew.Crew` on a Ray cluster.

    model: float32, on the CPU. fingerprint: of the engine that goes on with what the workers find; None: theirs, where
    nobody goes on. cache: must be writable, by the workers too. The other fields are as in `run_search`.
    """

    cluster: Cluster
    model: QEEPS
    weights_digest: str
    params: InferenceParams
    cache: Cache
    frames: Sequence[GalleryFrame]
    fingerprint: dict[str, Any] | None = None
    batch: int | None = None
    max_pixels: int = MAX_PIXELS
    refresh: bool = False
    progress: Progress = lambda done, total, what: None
    _broken: dict[str, str] = field(default_factory=dict)

    def index(self, frames: Sequence[GalleryFrame]) -> int:
        """Of frames that are not stored; see `Crew.index`."""
        return sum(answer.computed for answer in self._index(frames, self._fewest).values())

    def index_gallery(self, gallery: Gallery) -> IndexSummary:
        """As `searching.indexing.index_gallery`. Raises NothingToSearchError, WorkerError, ClusterError, CacheError."""
        answers = self._index(gallery.frames)
        return summarise(self._indexed(gallery.frames, answers), gallery)

    def compare(self, pictures: Sequence[QueryPicture], wanted: Mapping[int, Sequence[int]]) -> int:
        """Of pairs that are not stored; see `Crew.compare`."""
        queries = tuple(replace(picture, rgb=picture.pixels(self.max_pixels)) for picture in pictures)
        stores = [self.cache.pairs(self.fingerprint, item.query.digest, item.query.box) for item in queries]
        work: Assigned = []
        digest_of = known_digests(self.cache)
        for place, numbers in wanted.items():
            frame = self.frames[place]
            digest = digest_of(frame)
            missing = [
                number
                for number in numbers
                if self.refresh
                or digest is None
                or find_usable(stores[number], digest, self.max_pixels, proposals=False) is None
            ]
            if missing:
                work.append((place, frame, missing))
        answers = self._give(Comparer, work, "frames compared by workers", queries, fewest=self._fewest)
        return sum(answer.computed for answer in answers.values())

    def people(self, digests: Sequence[str], form: tuple[np.ndarray, float] | None) -> SharedGallery | None:
        """See `Crew.people`. What one process scores in seconds is not worth the start of others."""
        if len(digests) < SHARED_FRAMES:
            return None
        self.cache.flush()
        return SharedGallery(self.cluster, self.cache, self.fingerprint, digests, form)

    def read(self, frame: GalleryFrame, max_pixels: int) -> ImageFile:
        """What a worker could not read is not read again: see `Crew.read`."""
        if frame.name in self._broken:
            raise ImageError(frame.path, self._broken[frame.name])
        return objects.read(frame, max_pixels)

    @property
    def _fewest(self) -> int:
        """To refresh is the workers' task alone: who comes after them believes the cache."""
        return 1 if self.refresh else FEWEST

    def _index(self, frames: Sequence[GalleryFrame], fewest: int = 1) -> dict[int, Answer]:
        """By place, of the frames that had to be given to workers."""
        if self.fingerprint is None:
            self.fingerprint = fingerprint_of_workers(self.cluster, self._task("", ()))
        store = self.cache.frames(self.fingerprint)
        work: Assigned = []
        digest_of = known_digests(self.cache)
        for place, frame in enumerate(frames):
            digest = None if self.refresh else digest_of(frame)
            if digest is None or find_usable(store, digest, self.max_pixels, proposals=False) is None:
                work.append((place, frame, ()))
        return self._give(Indexer, work, "frames indexed by workers", fewest=fewest)

    def _indexed(self, frames: Sequence[GalleryFrame], answers: Mapping[int, Answer]) -> Iterator[IndexedFrame]:
        store = self.cache.frames(self.fingerprint)
        digest_of = known_digests(self.cache)
        for place, frame in enumerate(frames):
            if answer := answers.get(place):
                was_cached = not answer.computed
                yield IndexedFrame(
                    frame, answer.digest, None, answer.skipped, answer.note, was_cached, answer.people
                )
            elif (digest := digest_of(frame)) and (about := store.about(digest)):
                yield IndexedFrame(frame, digest, note=about.note, was_cached=True, people=about.people)
            else:
                yield IndexedFrame(frame, skipped="changed while the others were indexed; run the same command again")

    def _give(
        self,
        worker: type[Worker],
        work: Assigned,
        what: str,
        queries: tuple[QueryPicture, ...] = (),
        *,
        fewest: int,
    ) -> dict[int, Answer]:
        """The answers by place; none where the work is less than `fewest` frames. The cache then holds what they tell
        of."""
        answers: dict[int, Answer] = {}
        if len(work) < fewest:
            return answers
        self.cache.flush()
        absolute = [(place, _absolute(frame), numbers) for place, frame, numbers in work]
        with self._marked_cache() as mark:
            for answer in run(self.cluster, worker, self._task(mark, queries), absolute):
                answers[answer.place] = answer
                self.progress(len(answers), len(work), what)
        for place, frame, _ in work:
            answer = answers[place]
            if answer.skipped is not None:
                self._broken[frame.name] = answer.skipped
            elif objects.is_uri(frame.name):
                self.cache.tell(frame.path, answer.digest)
        self.cache.reload()
        return answers

    @contextmanager
    def _marked_cache(self) -> Iterator[str]:
        """See `marked`. Raises CacheError where the folder does not take files, whatever its permissions say."""
        with ExitStack() as stack:
            try:
                mark = stack.enter_context(marked(self.cache.folder))
            except NotWritableError as error:
                raise CacheError(
                    f"--engine ray needs a cache folder that can be written, and {self.cache.folder} cannot ({error}). "
                    "Change its permissions, or name another place that all machines share with --cache."
                ) from None
            yield mark

    def _task(self, mark: str, queries: tuple[QueryPicture, ...]) -> Task:
        return Task(
            self.model,
            self.weights_digest,
            self.params,
            self.cluster.device,
            self.fingerprint,
            Path(os.path.abspath(self.cache.folder)),
            mark,
            self.cache.snapshots(),
            self.batch,
            self.max_pixels,
            self.refresh,
            queries,
        )


def _absolute(frame: GalleryFrame) -> GalleryFrame:
    """A worker stands in another folder than this process."""
    if objects.is_uri(frame.name):
        return frame
    return replace(frame, path=Path(os.path.abspath(frame.path)))
