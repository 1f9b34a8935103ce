"""When a device's memory does not suffice: smaller batches, then the CPU where the user left the choice to us.

Every retry happens outside the `except`: a caught error keeps the frames of its traceback alive, and with them the
tensors that filled the memory.
"""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from qeeps_cli.errors import DeviceError
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.engine import Engine

Item = TypeVar("Item")
Result = TypeVar("Result")

ON_CPU = "the GPU's memory does not suffice for a single frame: this was computed on the CPU, which is slower"

# How CUDA's libraries and the CPU's allocator say it where they raise no torch.OutOfMemoryError.
_SIGNS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")


class OutOfMemory(DeviceError):
    """The memory of the device does not suffice for a single frame."""


class AutoEngine(Engine):
    """An engine on a device that nobody asked for by name: the CPU may take over. Keeps the model on the CPU for that.

    The arguments are Engine's.
    """

    def __init__(
        self,
        model: QEEPS,
        device: torch.device,
        params: InferenceParams | None = None,
        *,
        weights_digest: str = "",
    ):
        super().__init__(model, device, params, weights_digest=weights_digest)
        self._original = model

    def on_cpu(self) -> Engine:
        """What an engine made for the CPU from the beginning would be, so that all that it finds is the same."""
        return Engine(self._original, torch.device("cpu"), self.params, weights_digest=self.weights_digest)


def make_engine(
    model: QEEPS, device: torch.device, params: InferenceParams | None, weights_digest: str, *, by_name: bool
) -> Engine:
    """The network, ready on the device; on the CPU where its memory does not hold the network.

    by_name: the user asked for this device, and gets it or OutOfMemory.
    """
    kind = Engine if by_name or device.type == "cpu" else AutoEngine

    def make(models: Sequence[QEEPS]) -> list[Engine]:
        return [kind(each, device, params, weights_digest=weights_digest) for each in models]

    made = _unless_out_of_memory(make, [model])
    if made:
        return made[0]
    _release(device)
    if kind is Engine:
        raise OutOfMemory(_advice(device))
    return Engine(model, torch.device("cpu"), params, weights_digest=weights_digest)


class Batches:
    """Work for a device in batches that its memory holds.

    most: how many items fit as far as is known; None as long as every batch did.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.most: int | None = None

    def run(self, compute: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result]:
        """Results for all items, in their order, by as many calls of compute as it takes.

        compute: can be called again after it failed. A batch that does not fit is halved, and with it all later ones.
        Raises OutOfMemory when a single item does not fit.
        """
        results: list[Result] = []
        while len(results) < len(items):
            some = items[len(results) : len(results) + (self.most or len(items))]
            found = _unless_out_of_memory(compute, some)
            if found is not None:
                results += found
                continue
            _release(self.device)
            if len(some) == 1:
                raise OutOfMemory(_advice(self.device))
            self.most = len(some) // 2
        return results


def run_or_on_cpu(engine: Engine, task: Callable[[Engine, list[str]], Result]) -> Result:
    """task(engine, notes), and where the memory does not suffice for it, once more from its beginning on the CPU.

    task: notes are what the user should know of that. Raises OutOfMemory where the device was asked for by name, and
    where the CPU's memory does not suffice either.
    """
    try:
        return task(engine, [])
    except OutOfMemory:
        if not isinstance(engine, AutoEngine):
            raise
    return task(engine.on_cpu(), [ON_CPU])


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised it because memory could not be had."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _SIGNS)


def _unless_out_of_memory(
    compute: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result] | None:
    """None when the memory did not suffice."""
    try:
        return compute(items)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def _release(device: torch.device) -> None:
    """What nothing uses any more, for the next try and for other processes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _advice(device: torch.device) -> str:
    if device.type == "cuda":
        return (
            f"the memory of {device} does not suffice for a single frame. Use --device cpu, or end what else uses the "
            "GPU (nvidia-smi shows it)."
        )
    return "the machine's memory does not suffice for a single frame. End other programs, or use a larger machine."
