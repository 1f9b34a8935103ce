"""Results on stdout."""

import sys

from qeeps_cli.errors import OutputError


def check_stdout() -> None:
    """Raises OutputError where standard output is closed."""
    if sys.stdout is None:
        raise OutputError("standard output is closed. Redirect it to a file, or give --out.")


def write_stdout(*parts: bytes) -> None:
    """All of them, or OutputError (full device, closed stdout), or BrokenPipeError (the reader left)."""
    from qeeps_cli.output.atomic import write_stream

    check_stdout()
    write_stream(sys.stdout.buffer, *parts)
