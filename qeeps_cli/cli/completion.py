"""`qeeps completion`: what a shell needs to complete commands, options and files. Starts no torch."""

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script

from qeeps_cli.cli import options
from qeeps_cli.errors import ExitCode

PROGRAM = "qeeps"
VARIABLE = "_QEEPS_COMPLETE"  # the shell sets it to ask for candidates


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")], verbose: options.Verbose = False
) -> ExitCode:
    """Print a script that makes a shell complete commands, options and files.

    bash: put eval "$(qeeps completion bash)" into ~/.bashrc.

    zsh: put eval "$(qeeps completion zsh)" into ~/.zshrc, after compinit.

    fish: qeeps completion fish > ~/.config/fish/completions/qeeps.fish
    """
    from qeeps_cli.cli.stdout import write_stdout

    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)
    write_stdout(f"{script.strip()}\n".encode())
    return ExitCode.OK


def enable() -> None:
    """Answer shells that ask for candidates, in the format of Typer's scripts; add_completion would do it too, and
    would add options to the help."""
    completion_init()
