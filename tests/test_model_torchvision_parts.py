"""The network is built of torchvision's parts without PyTorch's compiler, which still works for who asks for it."""

import subprocess
import sys

import pytest
import torch
from networks import small_config

from qeeps_cli.model.qeeps import QEEPS, build_unfilled

SEARCH = """
import sys
import qeeps_cli

query, gallery = sys.argv[1:]
result = qeeps_cli.search(query, gallery, box=(169, 367, 226, 513), cache=False)
assert result.matches
"""
NOTHING_MORE = "print(*(name for name in ('torch._dynamo', 'torch._dynamo.utils', 'sympy') if name in sys.modules))"
ASKED = """
import sys
import torch
from qeeps_cli.model import torchvision_parts

torchvision_parts.roi_align  # the same that torchvision has
from torchvision.ops import roi_align
assert roi_align is torchvision_parts.roi_align
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
assert "torch._dynamo" not in sys.modules
answers = [asked("cpu"), asked("mps")]
from torch._dynamo.utils import is_compile_supported
assert answers == [is_compile_supported("cpu"), is_compile_supported("mps")], answers
double = torch.compile(lambda x: x + x, backend="eager")
print(double(torch.ones(1)).item())
"""
COMPILER_FIRST = """
import sys
import torch._dynamo.utils as before
from qeeps_cli.model import torchvision_parts

assert sys.modules["torch._dynamo.utils"] is before
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported is before.is_compile_supported
"""


def run(program: str, *arguments: object) -> str:
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_search_does_without_the_compiler(tmp_path, examples):
    frames = examples / "cctv" / "frames"
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "one.jpg").write_bytes((frames / "vtest_0600.jpg").read_bytes())
    assert run(SEARCH + NOTHING_MORE, frames / "vtest_0550.jpg", tmp_path / "gallery") == ""


def test_the_compiler_is_there_for_who_asks():
    assert run(ASKED) == "2.0"


def test_a_compiler_that_is_there_already_stays():
    run(COMPILER_FIRST)


@pytest.mark.parametrize("head", ["shared", "separate", "fine"])
def test_an_unfilled_network_has_the_tensors_of_a_drawn_one(head):
    config = small_config(roi_head=head)
    drawn, unfilled = QEEPS(config).state_dict(), build_unfilled(config).state_dict()
    assert {name: (t.shape, t.dtype) for name, t in unfilled.items()} == {
        name: (t.shape, t.dtype) for name, t in drawn.items()
    }
    assert {tensor.device.type for tensor in unfilled.values()} == {"meta"}


def test_it_draws_no_random_numbers():
    before = torch.get_rng_state()
    build_unfilled(small_config())
    assert torch.equal(torch.get_rng_state(), before)
