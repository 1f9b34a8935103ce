"""Steps prepared by processes: in them, with their errors as they are, and as many as there should be."""

import os
from dataclasses import dataclass

import pytest
import torch
from training_sets import crops_source, tiny_recipe, tiny_stage, write_crops

from qeeps_cli.errors import DataError, ImageError, UsageError
from qeeps_cli.training.prefetch import MOST_PROCESSES, default_workers, from_a_thread, from_processes, require_workers
from qeeps_cli.training.run import train


@dataclass
class Counting:
    """Gives its step's number and process; fails at one step."""

    fails_at: int = -1
    error: Exception | None = None
    name: str = "counting"
    batch_is_stateless: bool = True

    def batch(self, step):
        if step == self.fails_at:
            raise self.error
        return {"images": torch.full((2, 3), step), "process": os.getpid(), "files": [f"{step}.jpg"]}


def test_the_same_steps_in_order_from_other_processes():
    ours = list(from_a_thread(Counting(), 3, 14))
    theirs = list(from_processes(Counting(), 3, 14, workers=2, pinned=False))
    assert [step for step, _ in ours] == [step for step, _ in theirs] == list(range(3, 14))
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        assert a["images"].equal(b["images"]) and a["files"] == b["files"]
    assert {batch["process"] for _, batch in ours} == {os.getpid()}
    processes = {batch["process"] for _, batch in theirs}
    assert len(processes) == 2 and os.getpid() not in processes


@pytest.mark.parametrize("error", [DataError("the box of a.jpg is empty"), ImageError("b.jpg", "it ends early")])
def test_an_error_of_theirs_is_ours(error):
    steps = from_processes(Counting(4, error), 0, 9, workers=2, pinned=False)
    with pytest.raises(type(error)) as raised:
        for step, _ in steps:
            assert step < 4
    assert str(raised.value) == str(error)


def test_how_many(monkeypatch):
    assert default_workers(torch.device("cpu")) == 0
    assert 0 <= default_workers(torch.device("cuda")) <= MOST_PROCESSES
    monkeypatch.setattr("qeeps_cli.training.prefetch.usable_cores", lambda: 4)
    assert default_workers(torch.device("cuda")) == 3
    require_workers(0)
    with pytest.raises(UsageError, match="at least 0, got -1"):
        require_workers(-1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_training_sees_the_same_steps_whoever_prepares_them(tmp_path, device):
    """On a GPU from pinned memory, and by processes that are forked when the device is in use already.

    Not the CPU's losses against the GPU's: the small network's first loss moves by a fifth and more with the precision.
    """
    source = crops_source(write_crops(tmp_path / "crops"))
    recipe = tiny_recipe([source], {"embed": tiny_stage(losses={"contrastive": 1.0})}, seed=4)
    losses = {}
    for workers in (0, 2):
        seen = losses[workers] = []
        out = tmp_path / str(workers)
        train(recipe, out, torch.device(device), lambda p: seen.append(p.total), str, workers=workers)  # noqa: B023
    assert len(losses[2]) == 3 and losses[2] == pytest.approx(losses[0], rel=0.02)
