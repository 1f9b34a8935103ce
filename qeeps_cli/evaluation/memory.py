"""Peak memory: exact on a GPU; on a CPU what the process takes from the system."""

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import torch

MEMORY_IS = {
    "cuda": "peak of the GPU memory allocated by PyTorch for the network and its first pair",
    "cpu": "growth of the process's resident memory up to its peak, by the network and its first pair",
}
_RESET_PEAK = "5"  # written to clear_refs, see proc(5)


class PeakMemory:
    """Bytes above what is in use when this is made, at the highest point until `read`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            _settle()
            self._before = process_peak()

    def read(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return process_peak() - self._before


def process_peak() -> int:
    """Highest resident memory of this process so far, in bytes; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # not on every system
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _settle() -> None:
    """Gives freed memory back and makes the present the peak, where the system can: else freed memory that is used
    again, or an earlier peak, hides part of the growth."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
