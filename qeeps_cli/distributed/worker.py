"""The processes that do the work: each holds the network once, and writes what it finds into the shared cache.

Every call is one batch of frames, and ends with its segments published. A worker that dies loses the batch that it was
at, which Ray then gives to another one.
"""

import socket
from collections.abc import Iterable
from typing import Any

import numpy as np

from qeeps_cli.cache.folder import NotWritableError, marked
from qeeps_cli.cache.pairs import PAIR_COMPUTATION
from qeeps_cli.cache.store import Cache
from qeeps_cli.device import resolve_device
from qeeps_cli.distributed.objects import read
from qeeps_cli.distributed.task import Answer, Task, answer_column, failure_column, frames_of
from qeeps_cli.errors import CacheError, ClusterError, QeepsError
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.exact import search_pairs
from qeeps_cli.searching.indexing import index_frames
from qeeps_cli.searching.loading import batch_size
from qeeps_cli.searching.out_of_memory import make_engine
from qeeps_cli.types import GalleryFrame

Work = list[tuple[int, GalleryFrame, list[int]]]


class Worker:
    """A callable class, as `Dataset.map_batches` wants it. task: a reference to a Task in Ray's object store.

    An error that has a message for the user is an answer, also one of the constructor: Ray would try that again.
    """

    def __init__(self, task: Any):
        import ray

        self.failure: QeepsError | None = None
        self.task: Task = ray.get(task)
        try:
            self.engine = engine_of(self.task)
            self.cache = _open_cache(self.task)
        except QeepsError as error:
            self.failure = error

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        if self.failure is None:
            try:
                answers = list(self.work(frames_of(batch)))
                self.cache.flush()
                _check_writable(self.cache)
                return answer_column(answers)
            except QeepsError as error:
                self.failure = error
        return failure_column(self.failure, socket.gethostname())

    def work(self, work: Work) -> Iterable[Answer]:
        """The answers for frames, each with its place and its queries."""
        raise NotImplementedError


class Indexer(Worker):
    """Frames without a query."""

    def work(self, work: Work) -> Iterable[Answer]:
        indexed = index_frames(
            self.engine,
            [frame for _, frame, _ in work],
            self.cache.frames(self.engine.fingerprint()),
            self.cache,
            batch=batch_size(self.engine, self.task.batch),
            max_pixels=self.task.max_pixels,
            refresh=self.task.refresh,
            load=False,
            read=read,
        )
        for (place, _, _), item in zip(work, indexed, strict=True):
            computed = item.skipped is None and not item.was_cached
            yield Answer(place, item.digest, int(computed), item.people, item.note, item.skipped)


class Comparer(Worker):
    """Pairs of frames and queries."""

    def __init__(self, task: Any):
        super().__init__(task)
        self.people = [QueryPerson(picture.rgb, picture.query.box) for picture in self.task.queries]

    def work(self, work: Work) -> Iterable[Answer]:
        wanted = {frame: queries for _, frame, queries in work}
        key = self.engine.fingerprint()
        pairs = search_pairs(
            self.engine,
            self.people,
            [frame for _, frame, _ in work],
            batch=batch_size(self.engine, self.task.batch),
            max_pixels=self.task.max_pixels,
            stores=[self.cache.pairs(key, item.query.digest, item.query.box) for item in self.task.queries],
            cache=self.cache,
            refresh=self.task.refresh,
            wanted=wanted.__getitem__,
            read=read,
        )
        for place, _, queries in work:
            answers = [next(pairs)[1] for _ in queries]
            computed = sum(answer.skipped is None and not answer.was_cached for answer in answers)
            yield Answer(place, answers[0].digest, computed, 0, answers[0].note, answers[0].skipped)


def engine_of(task: Task) -> Engine:
    """Raises DeviceError, and ClusterError where this machine does not compute as the driver expects."""
    engine = make_engine(task.model, resolve_device(task.device), task.params, task.weights_digest, by_name=True)
    own = engine.fingerprint()
    expected = {**(own if task.fingerprint is None else task.fingerprint), "pair_computation": task.pair_computation}
    own["pair_computation"] = PAIR_COMPUTATION
    differing = [name for name in own if own[name] != expected.get(name)]
    if differing:
        told = ", ".join(f"{name} {own[name]}, expected {expected.get(name)}" for name in differing)
        raise ClusterError(
            f"this machine does not compute what the others do ({told}). Use machines of one kind, the same version "
            "of qeeps on all of them, and for a search with --gpus-per-worker start it on a machine with such a GPU."
        )
    return engine


def _open_cache(task: Task) -> Cache:
    advice = f"Workers write into it: name a folder that all machines share with --cache, instead of {task.folder}."
    if not (task.folder / task.mark).exists():
        raise CacheError(f"the cache folder of the command is not there on this machine. {advice}")
    try:
        with marked(task.folder):
            pass
    except NotWritableError as error:
        raise CacheError(f"the cache folder cannot be written on this machine ({error}). {advice}") from None
    return Cache(task.folder, warn=lambda text: None, snapshots=task.snapshots)


def _check_writable(cache: Cache) -> None:
    """What goes to a temporary folder of this worker is of no use to anybody."""
    if not cache.writable:
        raise CacheError(f"the cache {cache.folder} cannot be written any more. Check its permissions and the network.")
