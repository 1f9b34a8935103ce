"""The cache as a search sees it: stores of frames, pairs and files in one folder."""

import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from qeeps_cli.cache import folder as disk
from qeeps_cli.cache.columns import FILES, FRAMES, KINDS, PAIRS, Columns, Kind
from qeeps_cli.cache.files import FileMemory
from qeeps_cli.cache.frames import FrameStore
from qeeps_cli.cache.merge import merge_small
from qeeps_cli.cache.pairs import PAIR_COMPUTATION, PairStore
from qeeps_cli.cache.segment import Segment, encode, read_segment
from qeeps_cli.cache.snapshot import Snapshot
from qeeps_cli.cache.table import Table
from qeeps_cli.errors import CacheError, OutputError
from qeeps_cli.types import Box

Snapshots = dict[tuple[str, str], Snapshot]  # by kind and fingerprint


class Cache:
    """A folder of cached results. Use it as a context manager: what is pending is published at its end.

    folder: made when the first segment is published; None: a temporary folder that is removed at the end. What is added
    to a folder that cannot be written goes to such a temporary folder too, and `writable` is False. warn: gets
    sentences for the user. snapshots: of another process that has read and checked the folder (`Cache.snapshots`), so
    that this one need not. Any number of processes may use one folder.

    Raises CacheError where the folder is a file or cannot be listed.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        read_only: bool = False,
        warn: Callable[[str], None],
        snapshots: Snapshots | None = None,
    ):
        self.folder = folder
        self.writable = False
        self._warn = warn
        self._lock = threading.RLock()
        self._tables: dict[tuple[str, str], Table] = {}
        self._snapshots = snapshots or {}
        self._known = {item.path: item for snapshot in self._snapshots.values() for item in snapshot.segments}
        self._published: set[tuple[str, str]] = set()
        self._temporary: Path | None = None
        self._remove_temporary: Callable[[], object] = lambda: None
        if folder is not None:
            disk.survey(folder, kinds=())
            self.writable = not read_only and disk.is_writable(folder)
            if not read_only and not self.writable:
                warn(f"the cache {folder} cannot be written: what is there is used, and nothing is added.")

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self.flush()
            if error is None:
                self._tidy()
        except OutputError as failed:
            if error is None:
                raise
            if str(error) != str(failed):
                self._warn(str(failed))
        finally:
            self._remove_temporary()

    def frames(self, fingerprint: Mapping[str, Any]) -> FrameStore:
        """Detections of frames without a query. fingerprint: JSON types, all that they depend on beside the picture.

        Raises CacheError where a segment is of a newer version of qeeps.
        """
        return FrameStore(self._table(FRAMES, fingerprint))

    def pairs(self, fingerprint: Mapping[str, Any], query_digest: str, box: Box | None) -> PairStore:
        """Detections of frames for one query: its file's digest and its box in xyxy pixels, None: the whole picture.

        fingerprint: as of frames; what pairs alone depend on joins it.
        Raises CacheError where a segment is of a newer version of qeeps.
        """
        key = {**fingerprint, "pair_computation": PAIR_COMPUTATION}
        return PairStore(self._table(PAIRS, key), query_digest, box)

    def digest_of(self, path: Path) -> str | None:
        """The digest of a file that did not change since it was remembered, without reading it; else None."""
        return self._files.digest_of(path)

    def remember(self, path: Path, stat: os.stat_result, digest: str, *, taken_ns: int) -> None:
        """Remembers a file's digest: see `FileMemory.remember`."""
        self._files.remember(path, stat, digest, taken_ns=taken_ns)

    def tell(self, path: Path, digest: str) -> None:
        """The digest of what is no file: see `FileMemory.tell`."""
        self._files.tell(path, digest)

    def flush(self) -> None:
        """Publishes what is pending. Raises OutputError on a full disk."""
        with self._lock:
            for table in self._tables.values():
                table.flush()

    def snapshots(self) -> Snapshots:
        """What is published of all that was asked for so far, for the Cache of another process."""
        with self._lock:
            return {key: table.snapshot() for key, table in self._tables.items()}

    def reload(self) -> None:
        """Sees what other processes have published meanwhile. At the end their small segments are merged as if they
        were of this process."""
        with self._lock:
            for key, table in self._tables.items():
                table.flush()
                table.reload()
                self._published.add(key)

    @cached_property
    def _files(self) -> FileMemory:
        return FileMemory(self._table(FILES, {}))

    def _tidy(self) -> None:
        """Merges what many small runs have left. That can wait for another run: it is no reason to fail."""
        for kind, fingerprint in self._published:
            with suppress(OSError, OutputError, disk.NotWritableError):
                merge_small(self.folder, self._load(KINDS[kind], fingerprint))

    def _table(self, kind: Kind, fingerprint: Mapping[str, Any]) -> Table:
        text = canonical_json(fingerprint)
        with self._lock:
            if (kind.name, text) not in self._tables:
                self._tables[kind.name, text] = Table(
                    kind,
                    load=lambda: self._load(kind, text),
                    publish=lambda columns: self._publish(kind, text, columns),
                    lock=self._lock,
                    snapshot=self._snapshots.get((kind.name, text)),
                )
            return self._tables[kind.name, text]

    def _load(self, kind: Kind, fingerprint: str) -> list[Segment]:
        segments: list[Segment] = []
        for folder in (self.folder, self._temporary):
            if folder is not None:
                found = disk.survey(folder, (kind.name,), self._known.values())
                self._handle(found)
                segments += found.segments
        self._known = {path: known for path, known in self._known.items() if known.kind != kind}
        self._known |= {segment.path: segment for segment in segments}
        return [segment for segment in segments if segment.fingerprint == fingerprint]

    def _handle(self, found: disk.Survey) -> None:
        if found.newer:
            raise CacheError(
                f"the cache {self.folder} holds {found.newer[0].name}, of a newer version of qeeps. Update qeeps, or "
                "name another place with --cache."
            )
        for path in found.damaged:
            done = "set aside" if self.writable and disk.set_aside(path) else "not used"
            self._warn(f"{path} is damaged: it is {done}, and what it held is computed again.")

    def _publish(self, kind: Kind, fingerprint: str, columns: Columns) -> Segment:
        content = encode(kind, fingerprint, columns)
        if self.writable:
            try:
                segment = self._publish_in(self.folder, kind, content)
                self._published.add((kind.name, fingerprint))
                return segment
            except disk.NotWritableError as error:
                self.writable = False
                self._warn(f"the cache {self.folder} cannot be written any more ({error}): nothing more is kept.")
        return self._publish_in(self._make_temporary(), kind, content)

    def _publish_in(self, folder: Path, kind: Kind, content: memoryview) -> Segment:
        segment = read_segment(disk.publish(folder, kind.name, content))
        self._known[segment.path] = segment
        return segment

    def _make_temporary(self) -> Path:
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="qeeps-"))
            self._remove_temporary = weakref.finalize(self, _remove, self._temporary, os.getpid())
        return self._temporary


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not at the end of a fork
        shutil.rmtree(folder, ignore_errors=True)


def canonical_json(value: Mapping[str, Any]) -> str:
    """The same text for equal mappings of JSON types. Raises ValueError for NaN, TypeError for other types."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
