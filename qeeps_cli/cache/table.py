"""All rows of one kind and fingerprint: those of the published segments, found by key, and those still to be published.

Memory is bounded: of published rows only the index is held, a few mapped files, and at most PENDING_BYTES of new rows.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from qeeps_cli.cache.columns import Columns, Kind, Row, join, row_at, size_of
from qeeps_cli.cache.segment import Segment
from qeeps_cli.cache.snapshot import Snapshot, snapshot_of
from qeeps_cli.errors import CacheError

PENDING_BYTES = 8 * 2**20
ROW_BYTES = 200  # what a pending row takes beside its values
FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0  # a kill loses at most about half of a short run and a minute of a long one
MAPPED_SEGMENTS = 8  # each mapping holds a file descriptor
RELOADS = 10


class Table:
    """Thread-safe.

    load: lists the published segments. publish: makes a segment of columns. lock: held in every method. snapshot: what
    is published, where that is known already; None: it is listed.
    """

    def __init__(
        self,
        kind: Kind,
        load: Callable[[], Iterable[Segment]],
        publish: Callable[[Columns], Segment],
        lock: threading.RLock,
        snapshot: Snapshot | None = None,
    ):
        self.kind = kind
        self._load = load
        self._publish = publish
        self._lock = lock
        self._pending: dict[bytes, Row] = {}
        self._pending_bytes = 0
        self._pending_since = 0.0
        self._interval = FIRST_SECONDS
        self._mapped: OrderedDict[Path, Columns] = OrderedDict()
        self._snapshot = snapshot or self.reload()
        self._last_created = self._snapshot.last_created

    def __contains__(self, key: bytes) -> bool:
        with self._lock:
            return key in self._pending or self._snapshot.find_one(key) is not None

    def get(self, key: bytes) -> Row | None:
        """The newest row of a key of 16 bytes, read-only, and read only where it is looked at; None: there is none."""
        with self._lock:
            for _ in range(RELOADS):
                if key in self._pending:
                    return self._pending[key]
                place = self._snapshot.find_one(key)
                if place is None:
                    return None
                segment, row = place
                try:
                    return row_at(self.kind, self._columns(segment), row)
                except FileNotFoundError:
                    self.reload()
        raise _changing()

    def add(self, key: bytes, row: Row) -> None:
        """Adds a row, or puts it in the place of an older one. Its key and `created` are put into it here.

        Raises OutputError when it is time to publish and the disk is full.
        """
        with self._lock:
            self._last_created = max(time.time_ns(), self._last_created + 1)
            row = {**row, self.kind.key: np.frombuffer(key, np.uint8), "created": np.int64(self._last_created)}
            if not self._pending:
                self._pending_since = time.monotonic()
            if replaced := self._pending.pop(key, None):
                self._pending_bytes -= size_of(replaced) + ROW_BYTES
            self._pending[key] = row
            self._pending_bytes += size_of(row) + ROW_BYTES
            if self._pending_bytes >= PENDING_BYTES or time.monotonic() - self._pending_since >= self._interval:
                self.flush()

    def flush(self) -> None:
        """Publishes what is pending. Raises OutputError on a full disk; the rows then stay pending."""
        with self._lock:
            if not self._pending:
                return
            segment = self._publish(join(self.kind, list(self._pending.values())))
            self._pending, self._pending_bytes = {}, 0
            self._interval = min(2 * self._interval, MOST_SECONDS)
            try:
                self._snapshot = self._snapshot.with_segment(segment)
            except FileNotFoundError:
                self.reload()

    def snapshot(self) -> Snapshot:
        """The published rows. Others may be pending."""
        with self._lock:
            return self._snapshot

    def reload(self) -> Snapshot:
        """Lists the published segments anew: another process may have merged some."""
        with self._lock:
            self._mapped.clear()
            for _ in range(RELOADS):
                try:
                    self._snapshot = snapshot_of(self._load())
                    return self._snapshot
                except FileNotFoundError:
                    continue
        raise _changing()

    def _columns(self, segment: Segment) -> Columns:
        if segment.path not in self._mapped:
            self._mapped[segment.path] = segment.map()
            if len(self._mapped) > MAPPED_SEGMENTS:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(segment.path)
        return self._mapped[segment.path]


def _changing() -> CacheError:
    return CacheError("the cache changes faster than it can be read. Run the same command again.")
