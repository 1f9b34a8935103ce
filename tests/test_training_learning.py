"""Training learns."""

import math

import pytest
import torch
from training_sets import crops_source, tiny_recipe, tiny_stage, write_crops

from qeeps_cli.training.run import train


@pytest.mark.slow
def test_the_embedding_learns_to_tell_people_apart(tmp_path):
    """From random weights, 60 steps on four people: the loss falls far below that of a collapsed embedding."""
    write_crops(tmp_path / "crops", identities=4, plain=True)
    stage = tiny_stage(
        steps=60, warmup=10, lr=2e-4, head_lr=1.0, identities=4, crops_each=3, losses={"contrastive": 1.0}
    )
    losses = []
    train(
        tiny_recipe([crops_source(tmp_path / "crops")], {"embed": stage}),
        tmp_path / "out",
        torch.device("cpu"),
        lambda progress: losses.append(progress.losses["contrastive"]),
        lambda line: None,
    )
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    everybody_alike = math.log(1 + 9)  # one positive beside nine people of other names, all at one cosine
    assert last < first / 2
    assert last < everybody_alike / 2
