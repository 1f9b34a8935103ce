"""A Ray cluster: started for this run, or found at an address."""

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from qeeps_cli.cores import usable_cores
from qeeps_cli.distributed.stdout import divert
from qeeps_cli.errors import ClusterError, UsageError

EXTRA = "pip install 'qeeps-cli[ray]'"
ANSWER_SECONDS = 5.0  # that an address may take to answer


class Cluster:
    """Connected when it is first needed: a run for which everything is cached starts nothing.

    address: of a cluster, "host:port" or "auto" (the one of this machine); None: one is started here, and stopped at
    the end. A Ray to which this process is connected already is used in its place, and left as it is. workers: how
    many; None: one for each processor core, or for each share of a GPU. gpus_per_worker: 0 computes on the processor.
    tell: gets what Ray says on standard output: of workers that died, for example. warn: gets sentences for the user.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float = 0.0,
        tell: Callable[[str], None] = lambda text: None,
        warn: Callable[[str], None] = lambda text: None,
    ):
        if workers is not None and workers < 1:
            raise UsageError(f"--workers expects a whole number of at least 1, got {workers}.")
        if not 0 <= gpus_per_worker < float("inf") or (gpus_per_worker > 1 and gpus_per_worker % 1):
            raise UsageError(
                f"--gpus-per-worker expects a share of a GPU up to 1, such as 0.5, or a whole number, got "
                f"{gpus_per_worker:g}."
            )
        self.address = address
        self.gpus_per_worker = gpus_per_worker
        self._wanted = workers
        self._workers = 0
        self._tell = tell
        self._warn = warn
        self._started = False
        self._scratch: str | None = None
        self._restore: Callable[[], None] | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._started:
                self._stop()
        finally:
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)
            if self._restore:
                self._restore()

    def _stop(self) -> None:
        """Raises nothing: what was found is to be written, and what went wrong before is what the user has to know."""
        self._started = False
        try:
            load_ray().shutdown()
        except Exception as error:
            told = f"Ray could not be shut down: {_one_line(error)}. Nothing that was found is lost."
            if self.address is None:
                told += " `ray stop`, which ends every Ray on this machine, removes what may be left of it."
            self._warn(told)

    @property
    def workers(self) -> int:
        """How many processes work. Connects. Raises ClusterError for more than the cluster has room for."""
        if not self._workers:
            self.connect()
        return self._workers

    @property
    def device(self) -> str:
        """What the workers compute on, as `resolve_device` takes it."""
        return "cuda" if self.gpus_per_worker else "cpu"

    @property
    def needs(self) -> dict[str, Any]:
        """What Ray reserves for a worker."""
        return {"num_gpus": self.gpus_per_worker} if self.gpus_per_worker else {"num_cpus": 1}

    def connect(self) -> None:
        """Raises UsageError, and ClusterError, also for more workers than have room: Ray would wait for ever."""
        _check_address(self.address)
        if self.address is None:
            _set_token()
        ray = load_ray()
        self._restore = self._restore or divert(self._tell)
        if not ray.is_initialized():
            self._start(ray)
        self._workers = self._count()

    def _start(self, ray: Any) -> None:
        terminate = signal.getsignal(signal.SIGTERM)  # which Ray replaces
        quiet = {"log_to_driver": False, "configure_logging": True, "logging_level": logging.ERROR}
        which = self._own() if self.address is None else {"address": self.address}
        try:
            with _muted():
                ray.init(**which, **quiet)
        except Exception as error:  # Ray also raises plain ones
            if self.address is None:
                place, advice = "on this machine", "Try again, or start one with `ray start --head` and give --address"
            else:
                place, advice = f"at {self.address}", "Start one with `ray start --head`, or leave out --address"
            raise ClusterError(
                f"no Ray that can be used {place}: {_one_line(error)}. {advice}. Python and Ray must be of the same "
                "versions everywhere: see docs/scale.md."
            ) from error
        finally:
            if terminate is not None:
                signal.signal(signal.SIGTERM, terminate)
        self._started = True

    def _own(self) -> dict[str, Any]:
        """How a Ray of this run alone is started: nothing of it stays."""
        self._scratch = tempfile.mkdtemp(prefix="qeeps-ray-", dir="/tmp" if os.name == "posix" else None)
        there = {"num_cpus": usable_cores(), "_temp_dir": self._scratch}  # short: sockets have short names
        return {"address": "local", "include_dashboard": False, **there}

    def _count(self) -> int:
        has = load_ray().cluster_resources()
        name, each = ("GPU", self.gpus_per_worker) if self.gpus_per_worker else ("CPU", 1)
        there = has.get(name, 0)
        room = int(there // each) if each <= 1 or not each % 1 else 0
        wanted = self._wanted or max(1, room)
        if wanted > room:
            need = f"{wanted} worker{'s' if wanted > 1 else ''} with {each:g} {name}{'s' if each > 1 else ''} each"
            raise ClusterError(
                f"the Ray cluster has {there:g} {name}s, expected enough for {need}. Ask for fewer with --workers or "
                f"--gpus-per-worker, or add machines (`ray status` shows what it has)."
            )
        return wanted


def check_installed() -> None:
    """Raises UsageError where there is no Ray; to import it takes seconds."""
    if not all(map(find_spec, ("ray", "pyarrow"))):
        raise UsageError(f"--engine ray needs Ray, which is not installed: {EXTRA}")


def load_ray() -> Any:
    """The library, which tells nobody that it is used. Raises UsageError where it cannot be imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it logs to stderr what is no business of a user
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray, which cannot be imported ({error}). Install it: {EXTRA}") from None
    return ray


def _set_token() -> None:
    """Nobody else may use a Ray of this run alone. Ray would keep a token in the user's home folder; it reads these
    variables when it is imported."""
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_address(address: str | None) -> None:
    """Ray itself waits for a minute for an address where nobody is."""
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UsageError(f"--address expects host:port, such as 10.0.0.1:6379, or auto, got {address!r}.")
    try:
        with suppress(TimeoutError), socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS):
            return
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray answers at {address}: {getattr(error, 'strerror', None) or error}. `ray start --head` on that "
            "machine starts one and tells its address; see docs/scale.md."
        ) from None
    raise ClusterError(f"no Ray answers at {address} within {ANSWER_SECONDS:.0f} s. Check the address and firewalls.")


@contextmanager
def _muted() -> Iterator[None]:
    """Ray's own core writes past Python to stdout and stderr when it starts, whatever it is told."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        with open(os.devnull, "wb") as nowhere:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
