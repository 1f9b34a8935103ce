"""`qeeps weights`: list weights, show what they say of themselves, verify them, convert torch checkpoints."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli import info as network_info
from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages, format_count, format_size, format_table, visible, visible_name
from qeeps_cli.cli.process import command
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.model.config import BACKBONES, VARIANTS

if TYPE_CHECKING:
    from qeeps_cli.checkpoints.catalogue import Listing
    from qeeps_cli.checkpoints.verify import Verification

LIST_SCHEMA = "qeeps.weights-list/1"
VERIFY_SCHEMA = "qeeps.weights-verify/1"
_SHORT = 12  # digits of a digest

Places = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE|DIR]...", help="List these too, besides the shipped weights.")
]
Named = Annotated[
    str | None,
    typer.Argument(metavar="[FILE|NAME]", help="A .safetensors file, or a name of shipped ones. Default: the default."),
]
AllNamed = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE|NAME]...", help="Files, or names of shipped weights. Default: the default."),
]
Source = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth or .pt file of torch.save.")]
Target = Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")]
Backbone = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"{', '.join(BACKBONES)}. Default: as the tensors look.")
]
Variant = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"{', '.join(VARIANTS)}. Default: as the tensors look.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help='More settings of the network as JSON, such as {"shorter_side": 900}; `qeeps info --json` has them all '
        "under config.",
    ),
]
Half = Annotated[bool, typer.Option("--fp16", help="Store half precision: half the size, scores change slightly.")]
Terms = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Under which the weights may be used; `weights info` shows them.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --out where it exists.")]

app = typer.Typer(no_args_is_help=True, help="List weights, show and verify them, convert torch checkpoints.")


def list_(places: Places = None, as_json: options.AsJson = False, verbose: options.Verbose = False) -> ExitCode:
    """List the shipped weights, and those in other places."""
    from qeeps_cli.checkpoints.catalogue import list_weights

    listings = list_weights(places or [])
    document = {"schema": LIST_SCHEMA, "weights": [_as_entry(listing) for listing in listings]}
    _write(document, _as_table(listings), as_json)
    return ExitCode.OK


def info(weights: Named = None, as_json: options.AsJson = False, verbose: options.Verbose = False) -> ExitCode:
    """Show what weights say of themselves: training data, terms, how they were made, the network."""
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.output.json_writer import dump

    checkpoint = network_info.read(weights)
    document = network_info.describe(checkpoint.config, checkpoint)
    blocks = [network_info.weights_lines(document), network_info.network_lines(document)]
    write_stdout(dump(document) if as_json else network_info.as_text(blocks))
    return ExitCode.OK


def verify(weights: AllNamed = None, as_json: options.AsJson = False, verbose: options.Verbose = False) -> ExitCode:
    """Read weights whole: digest, tensors, values. Exit code 5 when something is wrong with any of them."""
    from qeeps_cli.checkpoints.verify import verify
    from qeeps_cli.weights import find_weights

    found = [verify(find_weights(name)) for name in weights or [None]]
    document = {"schema": VERIFY_SCHEMA, "weights": [_as_verdict(item) for item in found]}
    _write(document, [line for item in found for line in _as_lines(item)], as_json)
    return ExitCode.WEIGHTS if any(item.problems for item in found) else ExitCode.OK


def convert(
    checkpoint: Source,
    out: Target,
    backbone: Backbone = None,
    variant: Variant = None,
    config: Config = None,
    half: Half = False,
    terms: Terms = None,
    overwrite: Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Make weights of a torch checkpoint, offline. A file that holds code is refused, and nothing in it is run."""
    from qeeps_cli.checkpoints.convert import check_target, convert
    from qeeps_cli.output.atomic import check_file

    check_target(out, checkpoint, overwrite)
    check_file(out, overwrite)
    named = {key: value for key, value in (("backbone", backbone), ("variant", variant)) if value is not None}
    settings = {**(_read_settings(config) if config else {}), **named}
    made = convert(checkpoint, out, settings=settings, half=half, terms=terms, overwrite=overwrite)
    messages = Messages(quiet, verbose)
    network = f"{made.config.variant} on {made.config.backbone}"
    messages.say(f"{visible_name(out)}: {network}, {format_size(out.stat().st_size)}, sha256 {made.digest}")
    return ExitCode.OK


for name, function in (("list", list_), ("info", info), ("verify", verify), ("convert", convert)):
    app.command(name)(command(function))


def _as_entry(listing: "Listing") -> dict[str, Any]:
    known = listing.checkpoint
    return {
        "path": os.fspath(listing.path),
        "name": listing.path.stem,
        "variant": known and known.config.variant,
        "backbone": known and known.config.backbone,
        "bytes": listing.size,
        "digest": known and f"sha256:{known.digest}",
        "shipped": listing.is_shipped,
        "default": listing.is_default,
        "problem": listing.problem,
    }


def _as_table(listings: "list[Listing]") -> list[str]:
    if not listings:
        return ["no weights found"]
    rows, problems = [], []
    for listing in listings:
        known, path = listing.checkpoint, visible_name(listing.path)
        if known is None:
            problems.append(f"not usable: {visible(listing.problem or '')}")
            continue
        name = f"{visible_name(known.name)}{' (default)' if listing.is_default else ''}"
        digest, size = known.digest[:_SHORT], format_size(listing.size)
        rows.append([size, name, known.config.variant, known.config.backbone, digest, path])
    heads = ["size", "name", "variant", "backbone", "sha256", "path"]
    return [*([format_table(heads, rows, left=5)] if rows else []), *problems]


def _as_verdict(item: "Verification") -> dict[str, Any]:
    return {
        "path": os.fspath(item.path),
        "digest": item.digest and f"sha256:{item.digest}",
        "listed": item.is_listed,
        "tensors": item.tensors,
        "problems": list(item.problems),
    }


def _as_lines(item: "Verification") -> list[str]:
    path = visible_name(item.path)
    if item.problems:
        return [f"{path}: {format_count(len(item.problems), 'problem')}", *(f"  {visible(p)}" for p in item.problems)]
    listed = "as listed" if item.is_listed else "not listed anywhere, so not compared"
    return [f"{path}: {format_count(item.tensors, 'tensor')} whole and finite; sha256 {item.digest}, {listed}"]


def _read_settings(path: Path) -> dict[str, Any]:
    import json

    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--config expects a JSON file, got {visible_name(path)} ({error}).") from error
    if not isinstance(settings, dict):
        raise UsageError(f"--config expects a JSON object with settings, got {visible_name(path)}.")
    return settings


def _write(document: dict[str, Any], lines: list[str], as_json: bool) -> None:
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.output.json_writer import dump

    write_stdout(dump(document) if as_json else network_info.as_text([lines]))
