"""A dataset of frames through a pool of workers: Ray Data's idiom for inference with a network."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qeeps_cli.distributed.cluster import Cluster, load_ray
from qeeps_cli.distributed.task import Answer, Task, frame_columns, parse_answer
from qeeps_cli.distributed.worker import Worker, engine_of
from qeeps_cli.errors import ClusterError
from qeeps_cli.types import GalleryFrame

SEGMENT_FRAMES = 128  # of a batch, which is what a lost worker loses: about a minute of a core
IN_FLIGHT = 2  # batches that wait at a worker, so that none idles and none hoards
SETTINGS = {
    "enable_progress_bars": False,
    "max_consecutive_actor_init_deaths": 3,
    "execution_no_progress_timeout_s": 3600.0,  # a frame that kills whoever takes it would be repeated for ever
}


def run(
    cluster: Cluster, worker: type[Worker], task: Task, work: Sequence[tuple[int, GalleryFrame, Sequence[int]]]
) -> Iterator[Answer]:
    """The answers for all frames, as they come. work: places, frames, and the numbers of their queries.

    Ray starts workers that died again and repeats their batches. Raises WorkerError for an error of a worker that has
    a message of its own, ClusterError for any other.
    """
    workers, ray = cluster.workers, load_ray()
    reference = ray.put(task)
    with _settings(ray):
        dataset = ray.data.from_arrow(list(_tables(work, workers))).map_batches(
            worker,
            batch_size=None,  # a block, which is a batch
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=IN_FLIGHT),
            fn_constructor_kwargs={"task": reference},
            **cluster.needs,
        )
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                yield from map(parse_answer, batch["answer"].tolist())
        except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
            raise explained(error) from error


def fingerprint_of_workers(cluster: Cluster, task: Task) -> dict[str, Any]:
    """What a worker's engine depends on; this process need not have its device. Raises ClusterError."""
    cluster.connect()
    ray = load_ray()
    try:
        return ray.get(ray.remote(_fingerprint).options(**cluster.needs).remote(task))
    except ray.exceptions.RayError as error:
        raise explained(error) from error


def _fingerprint(task: Task) -> dict[str, Any]:
    return engine_of(task).fingerprint()


def _tables(work: Sequence[tuple[int, GalleryFrame, Sequence[int]]], workers: int) -> Iterator[Any]:
    import pyarrow

    size = max(1, min(SEGMENT_FRAMES, math.ceil(len(work) / (2 * workers))))
    for start in range(0, len(work), size):
        yield pyarrow.table(frame_columns(work[start : start + size]))


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Ray Data's, as this needs them: without bars and announcements, for the command tells its progress itself;
    forgiving to workers that die while they load, but not for ever."""
    context = ray.data.DataContext.get_current()
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    before = {name: getattr(context, name) for name in SETTINGS}
    try:
        for name, value in SETTINGS.items():
            setattr(context, name, value)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")
            yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def explained(error: Exception) -> ClusterError:
    """What Ray says of a worker, in a sentence."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    return ClusterError(
        f"a worker failed with {type(cause).__name__}: {lines[-1].strip() if lines else 'no message'}. Expected the "
        "same versions of Python, Ray, PyTorch and qeeps on every machine; -v shows more. What was published is kept: "
        "the same command goes on from there."
    )
