"""`qeeps` for shells, answered by processes that are forked from a preloaded one: see `preloaded`.

A plugin of the tests that ask for `qeeps_on_path`.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

_MOST = 1 << 16  # bytes of a request
_CLIENT = """\
#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
socket.send_fds(link, [json.dumps([os.getcwd(), dict(os.environ), *sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(link.recv(1)[0])
"""


@pytest.fixture(scope="module")
def qeeps_on_path(preloaded, tmp_path_factory) -> Iterator[str]:
    """$PATH with a program `qeeps`; one of them runs at a time."""
    folder = tmp_path_factory.mktemp("bin")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(folder / "socket"))
    listener.listen()
    program = folder / "qeeps"
    program.write_text(_CLIENT.format(python=sys.executable, address=os.fspath(folder / "socket")))
    program.chmod(0o755)
    Thread(target=_serve, args=(listener, preloaded), daemon=True).start()
    yield os.pathsep.join([os.fspath(folder), os.environ["PATH"]])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _serve(listener: socket.socket, preloaded) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:  # closed: the tests are over
            return
        with link:
            data, streams, *_ = socket.recv_fds(link, _MOST, 3)
            folder, variables, *arguments = json.loads(data)
            running = preloaded.start(*arguments, streams=tuple(streams), cwd=Path(folder), **variables)
            for descriptor in streams:
                os.close(descriptor)
            link.sendall(bytes([running.wait() & 0xFF]))
