"""The commands of `qeeps`, gathered."""

from typing import Annotated

import typer

from qeeps_cli.cli import cache, completion, weights
from qeeps_cli.cli.benchmark import benchmark
from qeeps_cli.cli.calibrate import calibrate
from qeeps_cli.cli.detect import detect
from qeeps_cli.cli.index import index
from qeeps_cli.cli.info import info
from qeeps_cli.cli.process import command
from qeeps_cli.cli.report import report
from qeeps_cli.cli.search import search
from qeeps_cli.cli.train import train

# Help is plain text: it appears at once, and a pipe, a dumb terminal and a C locale can show it.
app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for function in (search, report, index, detect, train, calibrate, benchmark, info):
    app.command()(command(function))
app.add_typer(weights.app, name="weights")
app.add_typer(cache.app, name="cache")
app.command()(command(completion.completion))
completion.enable()


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from qeeps_cli.cli.version import describe_versions

    typer.echo(describe_versions())
    raise typer.Exit


@app.callback()
def _qeeps(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions and leave.")
    ] = False,
) -> None:
    """Find one person, given as a box in a picture, in a folder of whole frames."""
