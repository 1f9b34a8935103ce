"""`qeeps info`: what a network consists of, and what weights say of themselves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import visible, visible_name
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.model.config import BACKBONES, VARIANTS, ModelConfig

if TYPE_CHECKING:
    from torch import nn

    from qeeps_cli.weights import Checkpoint

SCHEMA = "qeeps.info/1"

Backbone = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Show a network without weights: {', '.join(BACKBONES)}. Default: resnet50."),
]
Variant = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"Show a network without weights: {', '.join(VARIANTS)}.")
]


def info(
    weights: options.Weights = None,
    backbone: Backbone = None,
    variant: Variant = None,
    as_json: options.AsJson = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Show a network's parameters, and what weights say of themselves."""
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.output.json_writer import dump

    named = {key: value for key, value in (("backbone", backbone), ("variant", variant)) if value is not None}
    if named and weights is not None:
        raise UsageError("expected either --weights or --backbone and --variant, got both.")
    checkpoint = None if named else read(weights)
    document = describe(checkpoint.config if checkpoint else ModelConfig(**named), checkpoint)
    blocks = [network_lines(document), weights_lines(document)]
    write_stdout(dump(document) if as_json else as_text(blocks))
    return ExitCode.OK


def read(weights: str | None) -> "Checkpoint":
    """The weights of that name or file, or the default ones. Raises WeightsError."""
    from qeeps_cli.weights import find_weights, read_checkpoint

    return read_checkpoint(find_weights(weights))


def describe(config: ModelConfig, checkpoint: "Checkpoint | None") -> dict[str, Any]:
    """All that is shown, as JSON types. The network is built without memory for its parameters."""
    from qeeps_cli.model.unfilled import build_unfilled

    model = build_unfilled(config)
    return {
        "schema": SCHEMA,
        "config": config.to_dict(),
        "parameters": _count(model),
        "blocks": [
            {"name": name, "parameters": _count(block), "parts": _parts(block)}
            for name, block in model.named_children()
            if _count(block)
        ],
        "weights": None if checkpoint is None else _describe_weights(checkpoint),
    }


def _count(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parts(block: "nn.Module") -> list[dict[str, Any]]:
    parts = [{"name": name, "parameters": _count(part)} for name, part in block.named_children()]
    return [part for part in parts if part["parameters"]]


def _describe_weights(checkpoint: "Checkpoint") -> dict[str, Any]:
    return {"path": str(checkpoint.path), **checkpoint.describe(), "card": checkpoint.card}


def network_lines(document: dict[str, Any]) -> list[str]:
    """What the network consists of, and its settings."""
    config = document["config"]
    rows = [("total", document["parameters"])]
    for block in document["blocks"]:
        rows.append((block["name"], block["parameters"]))
        rows += [(f"  {part['name']}", part["parameters"]) for part in block["parts"]]
    return [
        f"{config['variant']} on {config['backbone']}",
        "",
        "parameters",
        *(f"  {name:<20} {count:>12,}  {count / 1e6:6.2f} M" for name, count in rows),
        "",
        "config",
        *_as_lines(config),
    ]


def weights_lines(document: dict[str, Any]) -> list[str]:
    """What weights say of themselves, their terms first; nothing without weights."""
    about = document["weights"]
    if about is None:
        return []
    card = {key: about["card"][key] for key in sorted(about["card"], key=lambda key: (key != "terms", key))}
    return [f"weights {visible_name(Path(about['path']).name)}", *_as_lines({**about, "card": card or "none"})]


def as_text(blocks: list[list[str]]) -> bytes:
    """Blocks of lines, an empty line between them."""
    text = "\n\n".join("\n".join(block) for block in blocks if block)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _as_lines(values: dict[str, Any], indent: int = 2) -> list[str]:
    """Nested settings, one a line, by depth."""
    lines = []
    for key, value in ((visible_name(key), value) for key, value in values.items()):
        if isinstance(value, dict):
            lines += [f"{' ' * indent}{key}", *_as_lines(value, indent + 2)]
        elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
            lines += [f"{' ' * indent}{key}", *(f"{' ' * (indent + 2)}{visible(_on_one_line(item))}" for item in value)]
        else:
            shown = visible(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
            lines.append(f"{' ' * indent}{key:<{max(1, 22 - indent)}} {shown}")
    return lines


def _on_one_line(value: Any) -> str:
    """`kind crops, root cuhk03`: the settings that are not empty."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{key} {item}" for key, item in value.items() if item not in ({}, [], None))
