"""`qeeps` as a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRAMES = ("vtest_0000.jpg", "vtest_0050.jpg", "vtest_0100.jpg")
SIZE = (384, 288)  # of the gallery's frames: width, height
FEW = ("--proposals", "20")


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("QEEPS_WEIGHTS", "QEEPS_CACHE")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


def start(*arguments: str | Path, **options) -> subprocess.Popen:
    """The process, with stdout and stderr as pipes of bytes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()} | options
    return subprocess.Popen([sys.executable, "-m", "qeeps_cli", *map(os.fspath, arguments)], **streams)


def qeeps(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    """The finished process; stdout and stderr are bytes."""
    process = start(*arguments, **options)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
