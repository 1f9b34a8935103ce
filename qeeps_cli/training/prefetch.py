"""Steps' data ahead of the network: made by a thread, or by as many processes as there are cores to spare."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from torch.utils.data import DataLoader, Dataset

from qeeps_cli.training.stage import Batch, Stage

AHEAD = 3  # steps, of a thread and of each process


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
    hundred canvases a second. pinned: in memory from which a GPU copies fast."""
    # forked, the crops in memory are shared; where there is no fork, each process gets a copy
    context = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    loader = DataLoader(
        _Steps(stage, steps),
        batch_size=None,
        sampler=range(first, steps),
        num_workers=workers,
        prefetch_factor=AHEAD,
        pin_memory=pinned,
        worker_init_fn=_leave_signals_to_the_parent,
        multiprocessing_context=context,
    )
    return zip(range(first, steps), loader, strict=True)


class _Steps(Dataset):
    def __init__(self, stage: Stage, steps: int):
        self._stage, self._steps = stage, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        return self._stage.batch(step)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the parent still wants the step that it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
