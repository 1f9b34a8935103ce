"""Which digest a file had, by what the system says of it: a gallery that did not change need not be read again."""

import hashlib
import os
import stat
from pathlib import Path

import numpy as np

from qeeps_cli.cache.columns import KEY_BYTES, Row
from qeeps_cli.cache.detections import parse_digest
from qeeps_cli.cache.table import Table

RACY_NS = 2_000_000_000  # the coarsest clock of a common file system, FAT's


class FileMemory:
    """Digests by path, size, times and inode."""

    def __init__(self, table: Table):
        self._table = table
        self._told: dict[bytes, bytes] = {}

    def digest_of(self, path: Path) -> str | None:
        """The digest of a file that did not change since it was remembered, without reading it; else None."""
        if (told := self._told.get(_key(path))) is not None:
            return told.hex()
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # gone, or a NUL in the path
            return None
        row = self._table.get(_key(path))
        if row is None or not stat.S_ISREG(status.st_mode):
            return None
        unchanged = all(row[name] == value for name, value in _state(status).items())
        return bytes(row["digests"]).hex() if unchanged else None

    def tell(self, path: Path, digest: str) -> None:
        """For this process, the digest of what has no state to know it by: an object of an object store."""
        self._told[_key(path)] = parse_digest(digest)

    def remember(self, path: Path, status: os.stat_result, digest: str, *, taken_ns: int) -> None:
        """Remembers a file's digest.

        status: as it was before the bytes were read. taken_ns: `time.time_ns()` just before that. A file that was
        changed within two seconds before is not remembered: it could change again without a trace in its times.
        """
        if taken_ns - max(status.st_mtime_ns, status.st_ctime_ns) <= RACY_NS:
            return
        self._table.add(_key(path), {"digests": np.frombuffer(parse_digest(digest), np.uint8), **_state(status)})


def _key(path: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=KEY_BYTES).digest()


def _state(status: os.stat_result) -> Row:
    return {
        "sizes": np.int64(status.st_size),
        "mtimes": np.int64(status.st_mtime_ns),
        "ctimes": np.int64(status.st_ctime_ns),
        "inodes": np.uint64(status.st_ino),
    }
