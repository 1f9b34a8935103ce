"""Weights to an engine, with what the user should know about it."""

from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages, visible_name

if TYPE_CHECKING:
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.weights import Checkpoint


def load(
    weights: str | None, device: str, params: "InferenceParams | None", messages: Messages
) -> "tuple[Engine, Checkpoint]":
    """The network on its device. Raises WeightsError, DeviceError, UsageError."""
    from qeeps_cli.device import describe, fallback_note
    from qeeps_cli.searching.run import load_engine

    engine, checkpoint = load_engine(weights, device, params)
    messages.detail(f"weights {visible_name(checkpoint.path)}, sha256 {checkpoint.digest}")
    messages.detail(f"device  {describe(engine.device)}, {str(engine.dtype).removeprefix('torch.')}")
    if note := fallback_note(device, engine.device):
        messages.note(note)
    return engine, checkpoint
