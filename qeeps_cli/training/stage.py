"""What the stages have in common: a step's data is a function of the seed and the step, and losses have names."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qeeps_cli.model.qeeps import QEEPS

Batch = dict[str, Any]


class Stage(Protocol):
    """One stage of training.

    A killed run resumes exactly because nothing is drawn from a stream of random numbers: `batch(step)` seeds its own
    generator from (seed, stage, step), so the position in the data is the step.
    """

    name: str
    keeps: tuple[str, ...]  # beginnings of the names of parameters that stay as they are
    batch_is_stateless: bool  # whether `batch` may be called in other processes, forked from this one

    def batch(self, step: int) -> Batch:
        """The step's data, on the CPU but for what a stage has kept of earlier steps; called in a background thread, or
        in another process. `files` lists the pictures in it."""

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name, unweighted."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained beside the model, at the rate of new heads."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that live beside the model (OIM's table and queue, the classifier of identities)."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


def step_rng(seed: int, stage: str, step: int) -> np.random.Generator:
    """The generator that draws everything about one step."""
    return np.random.default_rng([seed, *stage.encode(), step])


def stack_images(images: list[np.ndarray]) -> Tensor:
    """(H, W, 3) uint8 pictures of one size to (N, 3, H, W) uint8, channels last. Losses normalise them on the device:
    float32 would be four times as much to bring there."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
