"""A cache folder on the disk: which files are ours and whole, and how a new one comes in.

A segment is named `<kind>-<digest>.h5`, its digest being the first half of the SHA-256 of the file's bytes in
hexadecimal. It is written under a temporary name, fsynced and renamed: under its own name it is whole, or damaged by
something other than a kill.
"""

import errno
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from qeeps_cli.cache.columns import KINDS
from qeeps_cli.cache.segment import SCHEMA, ForeignSegmentError, Segment, read_segment
from qeeps_cli.cores import usable_cores
from qeeps_cli.errors import CacheError, OutputError

DAMAGED_SUFFIX = ".damaged"
STALE_SECONDS = 24 * 3600  # a temporary file of another machine is thought dead after this
LISTINGS = 10
_SEGMENT = re.compile(rf"({'|'.join(KINDS)})-([0-9a-f]{{32}})\.h5")
_TEMPORARY = re.compile(r"\.qeeps-([0-9a-f]{8})-([0-9]+)-[0-9a-f]+\.tmp")
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


class NotWritableError(Exception):
    """The folder does not take files, for a reason other than a full disk."""


@dataclass(frozen=True)
class Ignored:
    """A file or folder in the cache that is not used."""

    name: str
    reason: str


@dataclass
class Survey:
    """What a cache folder holds.

    paths: all files that are named like segments, whether they were read or not. segments: the usable ones. older,
    newer: of another schema. aside: damaged segments that a run has renamed. temporaries: in the making, or left by a
    process that was killed.
    """

    paths: list[Path] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    older: list[Path] = field(default_factory=list)
    newer: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    temporaries: list[Path] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)


def survey(folder: Path, kinds: Iterable[str] = KINDS, known: Iterable[Segment] = ()) -> Survey:
    """Lists the folder, and verifies and reads the segments of some kinds, in the order of their names.

    known: segments that were verified before; they are not read again. A missing folder is an empty one. Raises
    CacheError where the folder is none or cannot be listed.
    """
    verified = {segment.path: segment for segment in known}
    for _ in range(LISTINGS):
        found = Survey()
        _list(folder, found)
        paths = [path for path in found.paths if path.name.split("-")[0] in kinds]
        fresh = [path for path in paths if path not in verified]
        for path, intact in zip(fresh, _check_all(fresh, found), strict=True):
            if intact and (segment := _read(path, found)):
                verified[path] = segment
        if all(path.exists() for path in paths):
            found.segments = [verified[path] for path in paths if path in verified]
            return found
        # Another process has merged segments into a larger one, which this listing may not know: list again.
    raise CacheError(f"the cache {folder} changes faster than it can be read. Run the command again.")


def publish(folder: Path, kind: str, content: bytes | memoryview) -> Path:
    """Writes a segment; it appears whole or not at all. Gives its path.

    Raises OutputError on a full disk, NotWritableError where the folder does not take files.
    """
    path = folder / f"{kind}-{hashlib.sha256(content).hexdigest()[:32]}.h5"
    with _failing_as_ours(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / _temporary_name()
        try:
            _write(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(folder)
    return path


def set_aside(path: Path) -> bool:
    """Renames a damaged segment so that it is not read again. Gives whether that could be done."""
    try:
        os.replace(path, path.with_name(path.name + DAMAGED_SUFFIX))
    except OSError:
        return False
    return True


def is_writable(folder: Path) -> bool:
    """Whether segments can be published there; a folder that does not exist yet would be made."""
    folder = Path(os.path.abspath(folder))
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def marked(folder: Path) -> Iterator[str]:
    """A temporary file there, as long as the block lasts; gives its name, by which others recognise the folder.

    Raises OutputError on a full disk, NotWritableError where the folder does not take files.
    """
    path = folder / _temporary_name()
    with _failing_as_ours(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, b"")
    try:
        yield path.name
    finally:
        with suppress(OSError):
            path.unlink()


def is_stale(temporary: Path) -> bool:
    """Whether the process that wrote a temporary file is dead: surely on this machine, by age on others."""
    match = _TEMPORARY.fullmatch(temporary.name)
    try:
        age = time.time() - temporary.stat().st_mtime
    except OSError:
        return False
    if os.name != "posix" or not match or match[1] != _machine():
        return age > STALE_SECONDS
    try:
        os.kill(int(match[2]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _list(folder: Path, found: Survey) -> None:
    """Puts the entries where they belong by their names, in the order of their names."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise CacheError(f"the cache {folder} is a file, expected a folder. Name another place with --cache.") from None
    except OSError as error:
        raise CacheError(
            f"the cache {folder} cannot be listed: {error.strerror}. Check its permissions, or name another place with "
            "--cache."
        ) from None
    for name in names:
        path = folder / name
        if _TEMPORARY.fullmatch(name):
            found.temporaries.append(path)
        elif name.endswith(DAMAGED_SUFFIX) and _SEGMENT.fullmatch(name.removesuffix(DAMAGED_SUFFIX)):
            found.aside.append(path)
        elif not _SEGMENT.fullmatch(name):
            found.ignored.append(Ignored(name, "not named like a segment of this version"))
        elif not _is_file(path):
            found.ignored.append(Ignored(name, "not a file"))
        else:
            found.paths.append(path)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _check_all(paths: Sequence[Path], found: Survey) -> list[bool]:
    """Whether each file's bytes are those that its name promises. hashlib lets other threads run meanwhile."""
    if not paths:
        return []
    with ThreadPoolExecutor(min(len(paths), usable_cores())) as pool:
        reasons = list(pool.map(_check, paths))
    for path, reason in zip(paths, reasons, strict=True):
        if reason == "damaged":
            found.damaged.append(path)
        elif reason:
            found.ignored.append(Ignored(path.name, reason))
    return [reason is None for reason in reasons]


def _check(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except FileNotFoundError:
        return "gone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if path.name.endswith(f"-{digest}.h5") else "damaged"


def _read(path: Path, found: Survey) -> Segment | None:
    try:
        return read_segment(path)
    except ForeignSegmentError as error:
        if error.schema > SCHEMA:
            found.newer.append(path)
        elif error.schema < SCHEMA:
            found.older.append(path)
        else:
            found.ignored.append(Ignored(path.name, str(error)))
    except OSError as error:
        found.ignored.append(Ignored(path.name, f"cannot be read: {error}"))
    return None


def _temporary_name() -> str:
    return f".qeeps-{_machine()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"


@contextmanager
def _failing_as_ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NOT_ALLOWED:
            raise NotWritableError(reason) from error
        raise OutputError(
            f"cannot write to the cache {folder}: {reason}. What was published before is safe. Free some space and run "
            "the same command again, or name another place with --cache."
        ) from error


def _write(path: Path, content: bytes | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """The new name, too, must survive a loss of power; some systems cannot do this, and then need not."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _machine() -> str:
    """Where a process number means something: this host, and in it this namespace of processes (a container)."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.blake2b(f"{socket.gethostname()} {namespace}".encode(), digest_size=4).hexdigest()
