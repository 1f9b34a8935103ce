"""The process around a command: the only place where errors and signals become messages and exit codes."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from threading import current_thread, main_thread
from typing import Any, NoReturn

import typer

from qeeps_cli.cli.messages import Messages
from qeeps_cli.errors import ExitCode, QeepsError

AGAIN_SECONDS = 0.01  # long enough for most callbacks to be over; where one is not, the alarm is dropped and set again


class Terminated(BaseException):
    """SIGTERM came. No Exception, so that nothing but the end of the process handles it."""


def run(app: typer.Typer) -> NoReturn:
    """Run the command line and end the process."""
    _fill_closed_descriptors()
    _handle_signals()
    stdout = sys.stdout
    try:
        app(prog_name="qeeps")
        code: Any = ExitCode.OK
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = ExitCode.SIGINT
    except Terminated:
        code = ExitCode.SIGTERM
    _let_signals_be()
    if sys.stdout is not stdout:  # Typer's own answer to a reader of the help that went away
        _discard_output()
        code = ExitCode.SIGPIPE
    try:
        if stdout is not None:
            stdout.flush()
    except OSError:  # what could not be written would fail again, and loudly, when Python ends
        _discard_output()
        code = code or ExitCode.OUTPUT
    sys.exit(code)


def command(function: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """A command whose errors end the process with the exit code that belongs to them."""

    @wraps(function)  # Typer reads the options from the signature of what is wrapped
    def guarded(**options: Any) -> None:
        try:
            code = _exit_code(lambda: function(**options), Messages(verbose=bool(options.get("verbose"))))
        except BrokenPipeError:
            _discard_output()
            code = ExitCode.SIGPIPE
        raise typer.Exit(code)

    return guarded


def _exit_code(function: Callable[[], ExitCode | None], messages: Messages) -> int:
    """Runs it. Raises BrokenPipeError when the reader of stdout or stderr went away."""
    try:
        code = function() or ExitCode.OK
    except BrokenPipeError:
        raise
    except QeepsError as error:
        messages.error(str(error))
        if messages.verbose and error.__cause__:
            messages.error("".join(traceback.format_exception(error)).rstrip(), prefix="")
        code = error.exit_code
    except KeyboardInterrupt:
        messages.error("interrupted", prefix="")
        code = ExitCode.SIGINT
    except Terminated:
        messages.error("terminated", prefix="")
        code = ExitCode.SIGTERM
    except Exception as error:
        messages.error(f"unexpected {type(error).__name__}: {error}")
        if messages.verbose:
            messages.error("".join(traceback.format_exception(error)).rstrip(), prefix="")
        else:
            messages.error("This is a bug in qeeps. The same command with -v shows where it happened.", prefix="")
        code = ExitCode.UNEXPECTED
    return int(code)


def _discard_output() -> None:
    """What is still buffered for a reader that went away would fail once more, and loudly, when Python ends."""
    with open(os.devnull, "wb") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)


def _fill_closed_descriptors() -> None:
    """A descriptor 0-2 that was closed (`qeeps ... 2>&-`) would be given to the next file opened, and what libraries
    print would end up in that."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one


def _handle_signals() -> None:
    # A background job whose shell made it ignore Ctrl-C goes on ignoring it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _raise_again


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Python prints and drops what is raised in the callback of a weak reference or in a finaliser, and goes on: a
    signal that comes in one of those would be lost. It comes again as an alarm, until it is heard."""
    is_signal = isinstance(dropped.exc_value, (KeyboardInterrupt, Terminated))
    if not is_signal or current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        sys.__unraisablehook__(dropped)
        return
    ends = type(dropped.exc_value)

    def ring(number: int, frame: object) -> NoReturn:
        raise ends

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _let_signals_be() -> None:
    """The command is over. An alarm that comes while Python ends, when no handler is left, would kill it."""
    sys.unraisablehook = sys.__unraisablehook__
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
    raise KeyboardInterrupt


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
