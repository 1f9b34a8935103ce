"""Searching does without PyTorch's compiler, which still works for who asks for it. Fresh processes: what these tests
run in has loaded it long ago."""

import subprocess
import sys

import pytest
from command_line import environment
from networks import small_config

from qeeps_cli.model.config import ROI_HEADS
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.unfilled import build_unfilled

COMMAND = """
import atexit, sys
atexit.register(lambda: print("compiler", "torch._dynamo" in sys.modules))
from qeeps_cli.cli import main
main()
"""
# Every initialiser that a network may use: of each head, with and without bottlenecks, with all blocks.
UNFILLED = """
import sys
from qeeps_cli.model.config import ROI_HEADS, ModelConfig
from qeeps_cli.model.unfilled import build_unfilled
for backbone in ("resnet18", "resnet50"):
    for head in ROI_HEADS:
        build_unfilled(ModelConfig(backbone=backbone, roi_head=head))
print("torch._dynamo" in sys.modules)
"""
ASKED = """
import sys
import torch
from qeeps_cli.model import torchvision_parts
from torchvision.ops import roi_align

assert roi_align is torchvision_parts.roi_align
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
assert "torch._dynamo" not in sys.modules
answers = [asked(device) for device in ("cpu", "cuda", "mps")]
from torch._dynamo.utils import is_compile_supported
assert answers == [is_compile_supported(device) for device in ("cpu", "cuda", "mps")], answers
double = torch.compile(lambda x: x + x, backend="eager")
print(double(torch.ones(1)).item())
"""
# While torchvision's module is being run, another thread, or a later torchvision, imports the compiler.
MEANWHILE = """
import importlib
import sys
from qeeps_cli.model import torchvision_parts

sys.modules.pop("torchvision.ops.roi_align")
with torchvision_parts._asking_later():
    import torch._dynamo.utils as real
    assert real.is_compile_supported is not torchvision_parts.is_compile_supported
    again = importlib.import_module("torchvision.ops.roi_align")
assert again.is_compile_supported is torchvision_parts.is_compile_supported
assert sys.modules["torch._dynamo.utils"] is real
assert not [finder for finder in sys.meta_path if isinstance(finder, torchvision_parts._Finder)]
print("whole")
"""
TORCHVISION_FIRST = """
import sys
import torchvision
before = sys.modules["torchvision.ops.roi_align"].is_compile_supported
from qeeps_cli.model import torchvision_parts
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported is before
assert torchvision.ops.roi_align is torchvision_parts.roi_align
print("whole")
"""


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_search_does_without_the_compiler(tmp_path, examples):
    frames = examples / "cctv" / "frames"
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "one.jpg").write_bytes((frames / "vtest_0600.jpg").read_bytes())
    query = ["--query", frames / "vtest_0550.jpg", "--box", "169,367,57,146", "--device", "cpu"]
    out = tmp_path / "matches.json"
    told = run(COMMAND, "search", *query, "--gallery", tmp_path / "gallery", "--no-cache", "-o", out, "-q")
    assert told.splitlines()[-1] == "compiler False"
    assert "one.jpg" in out.read_text()


@pytest.mark.parametrize("command", [["info"], ["weights", "verify"]], ids=" ".join)
def test_so_do_commands_that_look_at_a_network(command):
    assert run(COMMAND, *command).splitlines()[-1] == "compiler False"


def test_a_network_is_built_without_it():
    assert run(UNFILLED) == "False"


@pytest.mark.parametrize("head", ROI_HEADS)
def test_an_unfilled_network_has_the_tensors_of_a_drawn_one(head):
    config = small_config(roi_head=head)
    drawn, unfilled = QEEPS(config).state_dict(), build_unfilled(config).state_dict()
    assert [(name, tensor.shape, tensor.dtype) for name, tensor in unfilled.items()] == [
        (name, tensor.shape, tensor.dtype) for name, tensor in drawn.items()
    ]
    assert {tensor.device.type for tensor in unfilled.values()} == {"meta"}


def test_the_compiler_is_there_for_who_asks():
    assert run(ASKED) == "2.0"


def test_nobody_elses_compiler_is_touched():
    assert run(MEANWHILE) == "whole"


def test_torchvision_may_have_been_imported_before():
    assert run(TORCHVISION_FIRST) == "whole"
