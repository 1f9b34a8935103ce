"""Where to compute and how precisely: a device that was seen to work, and the fastest type that it is good at."""

import os
import platform
import re
import warnings
from pathlib import Path

import torch
from torch.nn import functional as F

from qeeps_cli.cores import usable_cores
from qeeps_cli.errors import DeviceError, UsageError

_BFLOAT16_CUDA = (8, 0)  # Ampere; older GPUs emulate bfloat16, slower than float32
_NO_CUDA_BUILD = "this PyTorch was built without CUDA"
_NO_GPU = "no CUDA GPU is visible"


def resolve_device(spec: str = "auto") -> torch.device:
    """A device that has just run a small convolution. PyTorch then has no more threads than `usable_cores`, unless
    OMP_NUM_THREADS says how many.

    spec: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": the first GPU if it works, else the CPU; `fallback_note`
    tells whether a GPU was passed by.

    Raises UsageError for any other spec, DeviceError when a GPU that was asked for by name cannot be used.
    """
    if torch.get_num_threads() > usable_cores() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    if spec == "cpu":
        return torch.device("cpu")
    if spec == "auto":
        return torch.device("cpu" if cuda_problem() else "cuda:0")
    if not re.fullmatch(r"cuda(:[0-9]{1,3})?", spec):
        raise UsageError(f"--device expects auto, cpu, cuda or cuda:N (N counts GPUs from 0), got {spec!r}.")
    index = int(spec.partition(":")[2] or 0)
    if problem := cuda_problem(index):
        raise DeviceError(
            f"--device {spec} cannot be used: {problem}. Use --device cpu or auto, or check the driver with nvidia-smi."
        )
    return torch.device("cuda", index)


def fallback_note(spec: str, device: torch.device) -> str | None:
    """Why "auto" went past a GPU to the CPU, as a sentence; None where there is none to go past."""
    if spec != "auto" or device.type != "cpu":
        return None
    problem = cuda_problem()
    return f"the GPU is not used: {problem}" if problem not in (None, _NO_CUDA_BUILD, _NO_GPU) else None


def cuda_problem(index: int = 0) -> str | None:
    """What keeps GPU `index` from computing, found out by a small convolution; None if it works.

    `torch.cuda.is_available()` alone says yes to GPUs that this PyTorch has no kernels for, and to full or failed ones.
    """
    with warnings.catch_warnings(record=True) as caught:  # a driver too old for this PyTorch is only warned of
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        if caught:
            return _one_line(caught[-1].message)
        return _NO_GPU if torch.backends.cuda.is_built() else _NO_CUDA_BUILD
    if index >= count:
        return f"there is no GPU {index}, only {', '.join(f'cuda:{i}' for i in range(count))}"
    try:
        return _try_convolution(torch.device("cuda", index))
    except Exception as error:  # drivers and kernels fail with more than RuntimeError
        return _one_line(error)


def precision(device: torch.device) -> torch.dtype:
    """The type for the network's convolutions: bfloat16 where the processor is fast at it, else float32.

    GPUs from compute capability 8.0, CPUs with AVX512-BF16 or AMX. Boxes, NMS and scores stay float32 everywhere.
    """
    fast = _cuda_has_bfloat16(device) if device.type == "cuda" else _cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """A context in which the network computes in `precision`."""
    dtype = precision(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def describe(device: torch.device) -> str:
    """The device's name for people, such as "NVIDIA A100 (cuda:0)" or "AMD EPYC (cpu, 2 threads)"."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    threads = torch.get_num_threads()
    return f"{_cpu_name()} (cpu, {threads} thread{'s' if threads > 1 else ''})"


def _try_convolution(device: torch.device) -> str | None:
    total = F.conv2d(torch.ones(1, 3, 8, 8, device=device), torch.ones(4, 3, 3, 3, device=device)).sum().item()
    expected = 4 * 6 * 6 * 27
    return None if total == expected else f"a test convolution gave {total:g} instead of {expected}"


def _cuda_has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _BFLOAT16_CUDA


def _cpu_has_bfloat16() -> bool:
    if not torch.backends.mkldnn.is_available():  # oneDNN, which has the fast kernels
        return False
    features = _cpu_features()
    return "avx512_bf16" in features or "amx_bf16" in features


def _cpu_features() -> set[str]:
    """Names of instruction sets, spelled as in Linux's /proc/cpuinfo."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in older versions of PyTorch
    names = {name for name, present in capabilities().items() if present is True} if capabilities else set()
    return names or set(_cpuinfo("flags").split())


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "CPU"


def _cpuinfo(key: str) -> str:
    """The value of a key for the first processor; empty where the system has no such file or key."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _one_line(message: Warning | Exception | str) -> str:
    lines = str(message).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(message).__name__
