"""Exit codes, signals and streams, on a command line of our own that needs no network."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from command_line import environment, start_program

from qeeps_cli import errors
from qeeps_cli.errors import ExitCode

PROGRAM = """
import sys, threading, time, weakref
from pathlib import Path
from typing import Annotated
import typer
from qeeps_cli import errors
from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.process import command, run
from qeeps_cli.cli.progress import show_progress
from qeeps_cli.cli.stdout import write_stdout

app = typer.Typer(rich_markup_mode=None, add_completion=False)

def fail(name: str, verbose: options.Verbose = False):
    raise errors.ImageError("a.jpg", "is odd") if name == "ImageError" else getattr(errors, name)("what to do")

def crash(verbose: options.Verbose = False):
    [][1]

def wait():
    print("ready", flush=True)
    time.sleep(60)

def linger():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(60)

def clean_up():
    class Thing:
        pass

    def callback(reference):
        print("ready", flush=True)
        time.sleep(60)

    thing = Thing()
    references = [weakref.ref(thing, callback) for _ in range(2)]
    del thing
    time.sleep(60)

def leave_a_thread():
    def work():
        print("ready", flush=True)
        time.sleep(3)

    threading.Thread(target=work).start()

def write(lines: int = 10_000):
    write_stdout(*[b"line\\n"] * lines)
    return errors.ExitCode.SKIPPED

def tell(
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    progress: options.Progress = True,
    still: bool = False,
):
    messages = Messages(quiet, verbose, progress)
    with show_progress(messages, still) as show:
        for done in range(1, 4):
            show(done, 3, "frames compared")
            time.sleep(0.05)
    messages.say("[red]a\\x1b[31m\\udce9" + "long " * 40)
    messages.note("a\\nb")
    messages.detail("detail")

for function in (fail, crash, wait, linger, clean_up, leave_a_thread, write, tell):
    app.command()(command(function))
run(app)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> list[str]:
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


@pytest.fixture
def run(program):
    def run(*arguments: str, **options) -> subprocess.CompletedProcess:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()} | options
        return subprocess.run([*program, *arguments], timeout=60, **streams)

    return run


def test_every_error_has_its_exit_code(run):
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    names = [c.__name__ for c in classes if issubclass(c, errors.QeepsError) and c is not errors.QeepsError]
    assert {getattr(errors, name).exit_code for name in names} >= {1, 2, 4, 5, 6, 7}
    for name in names:
        done = run("fail", name)
        assert done.returncode == getattr(errors, name).exit_code
        message = b"a.jpg: is odd" if name == "ImageError" else b"what to do"
        assert done.stderr == b"error: " + message + b"\n" and done.stdout == b""


def test_an_unexpected_error_shows_where_on_request(run):
    plain, verbose = run("crash"), run("crash", "-v")
    assert plain.returncode == verbose.returncode == ExitCode.UNEXPECTED
    assert b"IndexError" in plain.stderr and b"-v" in plain.stderr and b"Traceback" not in plain.stderr
    assert b"Traceback" in verbose.stderr and b"in crash" in verbose.stderr


def test_a_wrong_option_is_a_usage_error(run):
    done = run("crash", "--nonsense")
    assert done.returncode == ExitCode.USAGE and b"--nonsense" in done.stderr


@pytest.mark.parametrize("command", ["wait", "clean-up"])
@pytest.mark.parametrize(
    ("sent", "code", "told"), [(signal.SIGINT, 130, b"interrupted\n"), (signal.SIGTERM, 143, b"terminated\n")]
)
def test_signals(program, command, sent, code, told):
    """Also where Python drops exceptions: in the callback of a weak reference, and then in that of another one."""
    process = start_program([*program, command])
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (code, told)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_command_does_not_kill_what_ends(program, sent):
    """While Python waits for a thread."""
    process = start_program([*program, "leave-a-thread"])
    assert process.stdout.readline() == b"ready\n"
    time.sleep(1)
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == ExitCode.OK


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(program, sent):
    """Row 43: although it is busy with ending."""
    process = start_program([*program, "linger"])
    for line in (b"ready\n", b"ending\n"):
        assert process.stdout.readline() == line
        process.send_signal(sent)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == -sent and stderr == b""


def test_signals_arrive_also_where_a_shell_ignores_them():
    """As `cmd &` in a script does. What this process ignores, the processes that it starts would ignore, too."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start_program(["sleep", "60"])
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


def test_an_exit_code_and_all_of_stdout_arrive(run):
    done = run("write")
    assert done.returncode == ExitCode.SKIPPED and done.stdout == b"line\n" * 10_000


@pytest.mark.parametrize("arguments", [("write",), ("write", "--lines", "1"), ("--help",)])
def test_a_reader_that_leaves(program, arguments):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run([*program, *arguments], stdout=reader.stdin, stderr=subprocess.PIPE, env=environment())
    reader.stdin.close()
    assert done.returncode == ExitCode.SIGPIPE and done.stderr == b""


def test_a_reader_of_stderr_that_leaves(program):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run([*program, "tell"], stdout=subprocess.PIPE, stderr=reader.stdin, env=environment())
    reader.stdin.close()
    assert done.returncode == ExitCode.SIGPIPE


@pytest.mark.parametrize("lines", ["1", "10000"])
def test_a_full_device(run, lines):
    with open("/dev/full", "wb") as full:
        done = run("write", "--lines", lines, stdout=full)
    assert done.stderr.count(b"\n") == 1
    assert done.returncode == ExitCode.OUTPUT and b"No space left" in done.stderr


def test_a_full_device_for_what_is_told_fails_nothing(run):
    with open("/dev/full", "wb") as full:
        assert run("tell", stderr=full).returncode == 0
        assert run("write", stderr=full).returncode == ExitCode.SKIPPED


def test_closed_streams(program):
    def shell(redirections: str) -> subprocess.CompletedProcess:
        line = f'"$0" "$@" {redirections}'
        return subprocess.run(["sh", "-c", line, *program, "write"], capture_output=True, env=environment())

    assert shell("<&-").returncode == shell("2>&-").returncode == ExitCode.SKIPPED
    assert shell(">&-").returncode == ExitCode.OUTPUT
    assert shell(">&- 2>&-").returncode == ExitCode.OUTPUT


def on_a_terminal(command: list[str], **changes: str) -> bytes:
    """What the command writes to a pseudo-terminal as its stderr."""
    screen, terminal = pty.openpty()
    environ = {"TERM": "xterm-256color", "COLUMNS": "300"} | changes
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env=environment(**environ))
    os.close(terminal)
    seen = b""
    with suppress(OSError):  # the end: nobody has the terminal open any more
        while data := os.read(screen, 65536):
            seen += data
    os.close(screen)
    assert process.wait(30) == 0
    return seen


@pytest.mark.parametrize(
    ("arguments", "changes", "moves", "coloured"),
    [
        ((), {}, True, True),
        ((), {"NO_COLOR": "1"}, True, False),
        (("--no-progress",), {}, False, True),
        (("--still",), {}, False, True),
        (("-q",), {}, False, False),
        ((), {"TERM": "dumb"}, False, False),
    ],
)
def test_what_moves_on_a_terminal(program, arguments, changes, moves, coloured):
    seen = on_a_terminal([*program, "tell", *arguments], **changes)
    assert (b"\x1b[?25l" in seen) == moves, "the cursor is hidden while a bar moves"
    assert bool(re.search(rb"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]", seen)) == coloured
    assert (b"frames compared" in seen) == moves, "no lines either: it did not take long"


def test_nothing_moves_off_a_terminal_whatever_the_environment_says(run):
    """Colours are another matter: who forces them gets them."""
    done = run("tell", env=environment(FORCE_COLOR="1", TERM="xterm-256color"))
    assert b"\x1b[?25l" not in done.stderr and b"frames compared" not in done.stderr


@pytest.mark.parametrize("changes", [{}, {"LC_ALL": "C"}, {"TERM": "dumb", "COLUMNS": "40"}])
def test_stderr_is_plain_off_a_terminal(run, changes):
    done = run("tell", "-v", env=environment(**changes))
    lines = done.stderr.decode("ascii").splitlines()
    assert lines == ["[red]a\\x1b[31m\\udce9" + "long " * 40, "note: a\\nb", "detail"]
    assert run("tell").stderr.decode().splitlines() == lines[:2]
    assert run("tell", "-q").stderr == b""


def test_help_needs_neither_torch_nor_numpy():
    """What makes it fast: benchmarks/startup.py measures how fast."""
    program = """
import json, sys
from qeeps_cli.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)
"""
    for arguments in (["--help"], ["search", "--help"], ["train", "-h"], ["benchmark", "-h"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment()
        )
        code, modules = json.loads(done.stderr)
        assert code == 0 and done.stdout.startswith("Usage: qeeps")
        assert not {"torch", "numpy", "PIL", "rich", "matplotlib"} & set(modules)
