"""Choosing a device: what is asked for, what works, and what is told when it does not (docs/reliability.md, row 47)."""

import os
import subprocess
import sys

import pytest
import torch

from qeeps_cli import device as device_module
from qeeps_cli.device import cuda_problem, describe, fallback_note, precision, resolve_device
from qeeps_cli.errors import DeviceError, ExitCode, UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize("spec", ["", "gpu", "mps", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "cpu:0", " cpu"])
def test_unknown_specs_are_usage_errors(spec):
    with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N"):
        resolve_device(spec)


def test_cpu_is_the_cpu():
    assert resolve_device("cpu") == CPU
    assert fallback_note("cpu", CPU) is None


def test_auto_gives_a_device_that_computes():
    device = resolve_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    assert (device.type == "cuda") == (cuda_problem() is None)


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)])
def test_no_more_threads_than_cores_unless_somebody_says_so(given, threads):
    """As in a container with a quota, which PyTorch does not see."""
    program = """
import torch
from qeeps_cli import device
torch.set_num_threads(2)
device.usable_cores = lambda: 1
device.resolve_device("cpu")
print(torch.get_num_threads())
"""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | given
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == f"{threads}\n"


def test_a_machine_without_a_gpu_gets_the_cpu_and_no_note():
    """CUDA_VISIBLE_DEVICES must be set before torch starts, so in a process of its own."""
    program = """
from qeeps_cli.device import cuda_problem, fallback_note, resolve_device
from qeeps_cli.errors import DeviceError
device = resolve_device("auto")
print(device, fallback_note("auto", device), bool(cuda_problem()))
try:
    resolve_device("cuda")
except DeviceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=without_gpu())
    first, second = done.stdout.splitlines()
    assert first == "cpu None True"
    assert "--device cuda cannot be used" in second and "--device cpu" in second
    assert done.stderr == ""


def without_gpu() -> dict[str, str]:
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


# A GPU that says it is available and cannot compute: the driver's side of it cannot be made by a test, so
# availability is claimed here and everything after it is torch's own failure.


@pytest.fixture
def claimed_gpu(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_auto_passes_by_a_gpu_that_cannot_compute_and_says_so(claimed_gpu):
    assert resolve_device("auto") == CPU
    note = fallback_note("auto", CPU)
    assert note.startswith("the GPU is not used: ") and "\n" not in note


def test_a_gpu_asked_for_by_name_is_an_error_that_says_what_to_do(claimed_gpu):
    for spec in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=f"--device {spec} cannot be used: .*--device cpu") as error:
            resolve_device(spec)
        assert error.value.exit_code == ExitCode.USAGE


def test_a_gpu_that_does_not_exist_is_told_from_those_that_do(claimed_gpu):
    with pytest.raises(DeviceError, match="no GPU 7, only cuda:0"):
        resolve_device("cuda:7")


# Precision and names


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (set(), torch.float32),
        ({"avx2", "avx512_f", "avx512_vnni"}, torch.float32),
        ({"avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16", "amx_tile"}, torch.bfloat16),
    ],
)
def test_precision_follows_the_processor(monkeypatch, features, expected):
    monkeypatch.setattr(device_module, "_cpu_features", lambda: features)
    assert precision(CPU) is expected


def test_precision_of_this_processor_is_what_linux_says_of_it():
    flags = device_module._cpuinfo("flags").split()
    if not flags:
        pytest.skip("needs /proc/cpuinfo of an x86 processor")
    assert (precision(CPU) is torch.bfloat16) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


def test_cpu_has_a_name():
    name = describe(CPU)
    assert "(cpu, " in name and "thread" in name and len(name) > len("(cpu, 1 thread)")


@pytest.mark.gpu
def test_gpu_computes_and_has_a_name():
    device = resolve_device("cuda")
    assert device == torch.device("cuda", 0)
    assert resolve_device("auto") == device and fallback_note("auto", device) is None
    assert torch.cuda.get_device_name(0) in describe(device)
    capable = torch.cuda.get_device_capability(0) >= (8, 0)
    assert (precision(device) is torch.bfloat16) == capable
