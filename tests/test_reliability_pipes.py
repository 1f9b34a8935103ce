"""Standard streams as shells and scripts give them (docs/reliability.md, rows 37–40)."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import FEW, FRAMES, environment
from json_contract import check_search, parse

from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]


@pytest.fixture(scope="module")
def arguments(frames, weights, tmp_path_factory) -> list:
    """A search; what it computes is kept for the next one."""
    cache = tmp_path_factory.mktemp("cache") / "c"
    query = ["--query", frames / FRAMES[0], "--box", "80,40,40,90", "--gallery", frames]
    return ["search", *query, "--weights", weights, *FEW, "--mode", "exact", "--cache", cache]


@pytest.fixture(scope="module")
def usual(arguments, preloaded) -> subprocess.CompletedProcess:
    """The search with its streams redirected."""
    done = preloaded.run(*arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    return done


def test_a_reader_that_takes_one_line(arguments, usual, preloaded):
    """Row 37, `| head -1`: the reader leaves while there is more to write than the pipe holds."""
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("needs a pipe of a known size")
    reader, writer = os.pipe()
    several = [*arguments, *arguments[1:5] * 5]  # the same query six times
    assert 3 * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096) < 6 * len(usual.stdout)
    with subprocess.Popen(["head", "-n", "1"], stdin=reader, stdout=subprocess.PIPE) as head:
        os.close(reader)
        done = preloaded.run(*several, stdout=writer)
        os.close(writer)
        assert head.stdout.read() == b"{\n"
    assert done.returncode == ExitCode.SIGPIPE and done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this system")
def test_a_full_device(arguments, preloaded):
    """Row 38."""
    with open("/dev/full", "wb") as full:
        done = preloaded.run(*arguments, stdout=full.fileno())
    assert done.returncode == ExitCode.OUTPUT
    assert done.stderr.startswith(b"error: cannot write standard output: No space left on device")


@pytest.mark.parametrize("redirections", ["<&- 2>&-", "<&-"])
def test_closed_streams_a_c_locale_and_a_dumb_terminal(arguments, usual, redirections):
    """Row 39, in a process that starts so."""
    line = [sys.executable, "-m", "qeeps_cli", *map(os.fspath, arguments)]
    variables = environment(LC_ALL="C", TERM="dumb", COLUMNS="20")
    done = subprocess.run(
        ["sh", "-c", f'"$0" "$@" {redirections}', *line], capture_output=True, env=variables, timeout=300
    )
    assert done.returncode == ExitCode.OK and done.stdout == usual.stdout
    if "2>" not in redirections:
        told = done.stderr.decode("ascii")
        assert "3 frames searched" in told and "\x1b" not in told
        assert max(map(len, told.splitlines())) > 20, "not wrapped off a terminal"


@pytest.mark.parametrize("verbosity", [["-q"], [], ["-v"]])
def test_stdout_is_the_same_json_at_every_verbosity(arguments, usual, preloaded, verbosity):
    """Row 40."""
    done = preloaded.run(*arguments, *verbosity)
    assert done.returncode == ExitCode.OK and done.stdout == usual.stdout and b"\x1b" not in done.stderr
    check_search(parse(done.stdout))
    assert (done.stderr == b"") == (verbosity == ["-q"])
    assert (b"sha256" in done.stderr) == (verbosity == ["-v"])


@pytest.mark.parametrize("variables", [{"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_stdout_is_json_also_when_stderr_is_a_terminal(arguments, usual, preloaded, variables):
    """Row 40: what moves or shines is on stderr alone, and colours only where they are wanted."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    seen: list[bytes] = []
    watcher = threading.Thread(target=lambda: seen.extend(iter(lambda: _read(ours), b"")))
    watcher.start()
    reader, writer = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    process = preloaded.start(*arguments, streams=(nothing, writer, theirs), **variables)
    for descriptor in (writer, theirs, nothing):
        os.close(descriptor)
    with open(reader, "rb") as stream:
        assert stream.read() == usual.stdout
    assert process.wait() == ExitCode.OK
    watcher.join(30)
    os.close(ours)
    told = b"".join(seen)
    assert b"3 frames searched" in told
    coloured = any(code in told for code in (b"\x1b[1m", b"\x1b[33m", b"\x1b[1;"))
    assert coloured == (variables == {"TERM": "xterm"}) or "NO_COLOR" in variables
    assert (b"\x1b" in told) <= (variables["TERM"] != "dumb")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other end is closed
        return b""
