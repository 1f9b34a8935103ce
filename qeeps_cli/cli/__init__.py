"""The command line: wiring between options and the floors below, one small file a command.

`main` answers `--help` without loading torch; a command loads what it needs when it runs.
"""

from typing import NoReturn


def main() -> NoReturn:
    """The program `qeeps`. Ends the process with a code of `qeeps_cli.errors.ExitCode`."""
    from qeeps_cli.cli.app import app
    from qeeps_cli.cli.process import run

    run(app)
