"""`qeeps benchmark --runtime`: the paper's Table 4 on this machine."""

import re
from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.options import EngineOptions
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from qeeps_cli.model.qeeps import QEEPS

SCHEMA = "qeeps.runtime/1"


def measure(
    size: str,
    compare_eager: bool,
    backbone: str | None,
    network: EngineOptions,
    as_json: bool,
    messages: Messages,
) -> ExitCode:
    """Raises UsageError for a size that is none, and for both weights and a backbone."""
    height_width = parse_size(size)
    if backbone and network.weights:
        raise UsageError("expected either --weights or --backbone (random weights), got both.")
    from qeeps_cli.cli.runtime_table import runtime_table
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.device import fallback_note, resolve_device
    from qeeps_cli.evaluation.runtime import measure_runtime
    from qeeps_cli.output.json_writer import dump

    where = resolve_device(network.device)
    if note := fallback_note(network.device, where):
        messages.note(note)
    model, origin = _network(backbone, network.weights)
    with show_progress(messages) as show:
        runtime = measure_runtime(
            model,
            where,
            network.params(),
            size=height_width,
            compare_eager=compare_eager,
            weights=origin,
            progress=show,
        )
    text = runtime_table(runtime).encode("utf-8", "backslashreplace")
    write_stdout(dump({"schema": SCHEMA, **runtime.to_json()}) if as_json else text)
    return ExitCode.OK


def parse_size(text: str) -> tuple[int, int]:
    """`900x1500` to (height, width)."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX×]\s*([0-9]{1,5})\s*", text)
    if not found:
        raise UsageError(f"--size expects HEIGHTxWIDTH in pixels, such as 900x1500, got {text!r}.")
    return int(found[1]), int(found[2])


def _network(backbone: str | None, weights: str | None) -> "tuple[QEEPS, dict[str, str] | None]":
    from qeeps_cli.evaluation.runtime import random_model
    from qeeps_cli.weights import find_weights, load_model, read_checkpoint

    if backbone:
        return random_model(backbone), None
    checkpoint = read_checkpoint(find_weights(weights))
    return load_model(checkpoint), checkpoint.describe()
