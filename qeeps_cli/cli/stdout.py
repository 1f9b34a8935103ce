"""Results on stdout."""

import sys

from qeeps_cli.errors import OutputError


def write_stdout(data: bytes) -> None:
    """All of it, or OutputError (full device, closed stdout), or BrokenPipeError (the reader left)."""
    from qeeps_cli.output.atomic import write_stream

    if sys.stdout is None:
        raise OutputError("standard output is closed. Redirect it to a file, or give --out.")
    write_stream(sys.stdout.buffer, data)
