"""`qeeps` as a process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRAMES = ("vtest_0000.jpg", "vtest_0050.jpg", "vtest_0100.jpg")
SIZE = (384, 288)  # of the gallery's frames: width, height
FEW = ("--proposals", "20")


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("QEEPS_WEIGHTS", "QEEPS_CACHE")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


def start(*arguments: str | Path, **options) -> subprocess.Popen:
    """The process, with stdout and stderr as pipes of bytes. It heeds Ctrl-C."""
    return start_program([sys.executable, "-m", "qeeps_cli", *map(os.fspath, arguments)], **options)


def start_program(command: list[str], **options) -> subprocess.Popen:
    """The same of any program."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
    return subprocess.Popen(command, **streams | {"preexec_fn": _heed_interrupts} | options)


def _heed_interrupts() -> None:
    """Tests in the background of a shell ignore Ctrl-C, and so would a process that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(happened: Callable[[], object], has_ended: Callable[[], bool], seconds: float) -> bool:
    """Whether something happens before a process ends, and in time."""
    limit = time.monotonic() + seconds
    while not happened():
        if has_ended() or time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
