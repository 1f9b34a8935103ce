"""`qeeps` as a process that is forked from one in which everything is imported: seconds earlier than a fresh one.

It is the same program with streams, signals, limits and an exit code of its own, but every module is there already
(tests/test_floors.py imports each alone). What an interpreter decides when it starts (closed streams, the locale) needs
`command_line.start`. A plugin of the tests that ask for `preloaded`.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest
from command_line import environment, wait_until
from typer.testing import CliRunner

_WORD = 8  # bytes of a number on the link
_SECONDS = 180.0  # for a process to end, unless a test says otherwise


class Running:
    """A process that was started."""

    def __init__(self, link: socket.socket, pid: int):
        self._link = link
        self.pid = pid

    @property
    def has_ended(self) -> bool:
        return bool(select.select([self._link], [], [], 0)[0])

    def wait(self) -> int:
        """The exit code; a signal's number, negative, where that ended the process. Kills what does not end in time."""
        with self._link as link:
            try:
                return os.waitstatus_to_exitcode(_receive(link))
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise


class Begun:
    """A process that was begun, with what it writes in files."""

    def __init__(self, running: Running, arguments: tuple, out: BinaryIO, err: BinaryIO):
        self._running = running
        self._arguments = arguments
        self._out, self._err = out, err
        self.pid = running.pid

    def wait_for(self, happened: Callable[[], object], seconds: float = 100) -> None:
        """Until something has happened; fails, with its stderr, where the process ends before or does not get there."""
        if not wait_until(happened, lambda: self._running.has_ended, seconds):
            if not self._running.has_ended:
                os.kill(self.pid, signal.SIGKILL)
            pytest.fail(f"it did not get there: {self.finish()}")

    def finish(self) -> subprocess.CompletedProcess:
        """Waits for it; stdout (where no descriptor was given for it) and stderr as bytes."""
        with self._out as out, self._err as err:
            code = self._running.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(self._arguments, code, out.read(), err.read())


class Preloaded:
    """The process that others are forked from. before: a program that starts it, such as setpriv."""

    def __init__(self, *before: str) -> None:
        self._link, theirs = socket.socketpair()
        line = [*before, sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment())
        theirs.close()

    def start(
        self,
        *arguments: str | Path,
        streams: tuple[int, int, int],
        cwd: Path | None = None,
        limits: dict[str, int] | None = None,
        seconds: float = _SECONDS,
        **variables: str,
    ) -> Running:
        """streams: descriptors of stdin, stdout and stderr. limits: soft ones, such as {"RLIMIT_NOFILE": 256}. seconds:
        how long it may take."""
        request = {
            "arguments": [os.fspath(argument) for argument in arguments],
            "cwd": os.fspath(cwd or os.getcwd()),
            "limits": limits or {},
            "environment": environment(**variables),
        }
        link, theirs = socket.socketpair()
        link.settimeout(seconds)
        with theirs:
            socket.send_fds(self._link, [json.dumps(request).encode()], [*streams, theirs.fileno()])
        return Running(link, _receive(link))

    def begin(self, *arguments: str | Path, stdin: bytes = b"", stdout: int | None = None, **options) -> Begun:
        """A process that ends later, by a signal or by itself. stdout: a descriptor for it. options: of `start`."""
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        with tempfile.TemporaryFile() as source:
            source.write(stdin)
            source.seek(0)
            streams = (source.fileno(), out.fileno() if stdout is None else stdout, err.fileno())
            return Begun(self.start(*arguments, streams=streams, **options), arguments, out, err)

    def run(self, *arguments: str | Path, **options) -> subprocess.CompletedProcess:
        """The finished process. options: of `begin`."""
        return self.begin(*arguments, **options).finish()

    def close(self) -> None:
        self._link.close()
        self._process.wait()


def _receive(link: socket.socket) -> int:
    try:
        word = link.recv(_WORD, socket.MSG_WAITALL)
    except ConnectionError:
        word = b""
    if not word:
        raise RuntimeError("the preloaded process has ended; its own stderr says why")
    return int.from_bytes(word, "big")


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    server = Preloaded()
    yield server
    server.close()


def _serve(link: socket.socket) -> None:
    import qeeps_cli
    from qeeps_cli.cli.app import app

    for module in pkgutil.walk_packages(qeeps_cli.__path__, "qeeps_cli."):
        if module.name != "qeeps_cli.__main__":
            importlib.import_module(module.name)
    CliRunner().invoke(app, ["report", os.devnull])  # in vain, but it imports what only commands do
    gc.freeze()  # so that collections in its children neither go through nor copy what is loaded here
    while True:
        request, descriptors, *_ = socket.recv_fds(link, 1 << 16, 4)
        _bury()
        if not request:
            return
        if os.fork() == 0:
            link.close()
            _watch(json.loads(request), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _bury() -> None:
    """Takes leave of the children that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(request: dict, descriptors: list[int]) -> NoReturn:
    """Starts the process, and tells its number and how it ended. Each has such a parent, so that several may run."""
    *streams, ours = descriptors
    with socket.socket(fileno=ours) as link:
        if (child := os.fork()) == 0:
            link.close()
            _become(request, streams)
        for descriptor in streams:
            os.close(descriptor)
        with suppress(OSError):  # nobody waits for it any more
            link.sendall(child.to_bytes(_WORD, "big"))
            link.sendall(os.waitpid(child, 0)[1].to_bytes(_WORD, "big"))
    os._exit(0)


def _become(request: dict, streams: list[int]) -> NoReturn:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for name, limit in request["limits"].items():
        kind = getattr(resource, name)
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell ignore it
    sys.argv = ["qeeps", *request["arguments"]]
    os._exit(_run())


def _run() -> int:
    """The exit code. The streams are flushed as an interpreter does that ends, but nothing is torn down: that takes a
    second when torch is loaded."""
    from qeeps_cli.cli import main

    code: int | str | None = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120  # as Python itself
    return int(code or 0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as link:
        _serve(link)
