"""Files that are either wholly written or not there: every file of the output floor goes through `atomic_file`."""

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from qeeps_cli.errors import OutputError


@contextmanager
def reporting(path: str | os.PathLike) -> Iterator[None]:
    """Turns an OSError into an OutputError that names `path` and the system's reason.

    A BrokenPipeError passes: a reader that went away is no fault of the output (exit 141).
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        folder = os.path.dirname(path)
        if isinstance(error, FileNotFoundError) and folder and not os.path.exists(folder):
            raise OutputError(
                f"cannot write {path}: there is no folder {folder}. Make it first, or name another place."
            ) from error
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. "
            "Free some space, check the permissions, or name another place."
        ) from error


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens `path` for binary writing; it takes its name only when the block ends without an exception.

    The bytes go to a temporary file in the same folder, which is fsynced and renamed. Whatever interrupts the block
    leaves an existing `path` as it was, and only a kill leaves the temporary file (`.qeeps-….tmp`) behind. A link keeps
    pointing where it points. A device or a pipe is written directly: it cannot be replaced.
    Raises OutputError with the path and the system's reason. What the block raises passes as it is, for it may be about
    something else: write with `write_stream`.
    """
    target, temporary = Path(os.path.realpath(path)), None
    with reporting(path):
        mode = _mode(path)
        if _is_device(mode):
            stream = open(path, "wb")  # not target: a pipe behind /dev/fd/63 has no path of its own
        else:
            temporary, stream = _create_beside(target)
    try:
        if temporary and mode is not None:
            with reporting(path):
                os.chmod(temporary, stat.S_IMODE(mode))
        yield stream
        with reporting(path):
            stream.flush()
            if temporary:
                os.fsync(stream.fileno())
            stream.close()
            if temporary:
                os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # what is still buffered need not fit any more
            stream.close()
        if temporary:
            temporary.unlink(missing_ok=True)
        raise


def check_file(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Raises OutputError unless `atomic_file` can write `path`; creates nothing. For use before the model is loaded.

    A file that exists is good only with `overwrite`; a device or a pipe is good when it may be written.
    """
    with reporting(path):
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise OutputError(f"expected a file to write, but {path} is a folder. Name a file in it.")
        if _is_device(mode):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if mode is not None and not overwrite:
            raise OutputError(f"expected a new file, but {path} exists. Use --overwrite or another name.")
        with tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
            pass


def write_file(path: str | os.PathLike, data: bytes) -> None:
    """Writes `data` to `path` as `atomic_file` does."""
    with atomic_file(path) as stream:
        write_stream(stream, data, name=str(path))


def write_stream(stream: BinaryIO, *parts: bytes, name: str = "standard output") -> None:
    """Writes the parts and flushes; raises OutputError (full device) or BrokenPipeError (the reader left).

    A signal that interrupts a write leaves each part, where it fits into the stream's buffer, either in it or out: with
    lines as parts, what was written consists of whole lines once the stream is closed.
    """
    with reporting(name):
        for part in parts:
            stream.write(part)
        stream.flush()


def _mode(path: str | os.PathLike) -> int | None:
    """The file's type and permissions; None where there is none."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _is_device(mode: int | None) -> bool:
    """Whether it cannot be replaced: a device, pipe or socket."""
    return mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _create_beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new file in the target's folder: its path, and open for writing."""
    # Not tempfile.mkstemp: that makes files which only their owner can read, whatever the umask says.
    temporary = target.with_name(f".qeeps-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    return temporary, open(descriptor, "wb")
