"""Steps' data ahead of the network: made by a thread, or by as many processes as there are cores to spare."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset

from qeeps_cli.cores import usable_cores
from qeeps_cli.errors import QeepsError, UsageError
from qeeps_cli.training.stage import Batch, Stage

AHEAD = 3  # steps that a thread prepares
AHEAD_EACH = 2  # that each process does: they wait in shared memory
MOST_PROCESSES = 16  # unless more are asked for


def default_workers(device: torch.device) -> int:
    """Processes that prepare steps: on a GPU one for each core but one, on a CPU none, which needs its cores itself."""
    return min(MOST_PROCESSES, usable_cores() - 1) if device.type == "cuda" and _can_fork() else 0


def require_workers(workers: int) -> None:
    """Raises UsageError for a number of processes that cannot be had."""
    if workers < 0:
        raise UsageError(f"expected a number of processes of at least 0, got {workers}.")
    if workers and not _can_fork():
        raise UsageError("steps can be prepared by processes only where processes can be forked: write --workers 0.")


def from_a_thread(stage: Stage, first: int, steps: int) -> Iterator[tuple[int, Batch]]:
    """(step, batch) from `first` to below `steps`, made by a background thread while the step before is computed."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [(step, pool.submit(stage.batch, step)) for step in range(first, min(first + AHEAD, steps))]
        while waiting:
            step, future = waiting.pop(0)
            upcoming = step + AHEAD
            if upcoming < steps:
                waiting.append((upcoming, pool.submit(stage.batch, upcoming)))
            yield step, future.result()


def from_processes(stage: Stage, first: int, steps: int, workers: int, pinned: bool) -> Iterator[tuple[int, Batch]]:
    """The same from `workers` processes, each making whole steps: what a GPU is fed by, since one thread paints a few
    hundred canvases a second. They are forked, and share the crops. pinned: in memory from which a GPU copies fast."""
    loader = DataLoader(
        _Steps(stage),
        batch_size=None,
        sampler=range(first, steps),
        num_workers=workers,
        prefetch_factor=AHEAD_EACH,
        pin_memory=pinned,
        worker_init_fn=_leave_signals_to_the_parent,
        multiprocessing_context="fork",
    )
    for step, batch in zip(range(first, steps), loader, strict=True):
        if isinstance(batch, _Failed):
            raise batch.error
        yield step, batch


class _Failed:
    """What went wrong in a process, to be raised as it is: DataLoader would make a traceback its message."""

    def __init__(self, error: QeepsError):
        self.error = error


class _Steps(Dataset):
    def __init__(self, stage: Stage):
        self._stage = stage

    def __getitem__(self, step: int) -> Batch | _Failed:
        try:
            return self._stage.batch(step)
        except QeepsError as error:
            return _Failed(error)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A terminal and a scheduler signal every process of a run; the parent still wants the step that it is at, and ends
    these itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _can_fork() -> bool:
    return "fork" in multiprocessing.get_all_start_methods()
