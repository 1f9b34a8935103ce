"""Few large segments instead of many small ones, without the rows that newer ones have superseded.

The merged segments are published before the old ones are removed. Whoever reads at the same time finds each row in one
or the other; two processes that merge at the same time at worst leave rows twice, of which one counts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from qeeps_cli.cache import folder as disk
from qeeps_cli.cache.columns import Columns, concatenate, row_sizes, take
from qeeps_cli.cache.segment import Segment, encode
from qeeps_cli.cache.snapshot import snapshot_of

SEGMENT_BYTES = 32 * 2**20  # of a merged segment; some four times this is needed in memory
SMALL_BYTES = SEGMENT_BYTES // 4
MANY = 32  # small segments of one fingerprint are merged when they are as many as this


def merge_small(folder: Path, segments: Sequence[Segment]) -> None:
    """Merges the small segments of one kind and fingerprint when there are many. Raises as `merge` does."""
    small = [segment for segment in segments if segment.size < SMALL_BYTES]
    if len(small) >= MANY:
        merge(folder, segments, small)


def merge_all(folder: Path, segments: Sequence[Segment]) -> None:
    """Merges the segments of one kind and fingerprint that are not half full or hold superseded rows. Once that is
    done, doing it again changes nothing. Raises as `merge` does."""
    pairs = zip(segments, counted_rows(segments), strict=True)
    wasteful = {segment.path for segment, rows in pairs if rows < segment.rows}
    chosen = [segment for segment in segments if segment.path in wasteful or segment.size < SEGMENT_BYTES // 2]
    if wasteful or len(chosen) > 1:
        merge(folder, segments, chosen)


def counted_rows(segments: Sequence[Segment]) -> list[int]:
    """How many rows of each segment are not superseded. segments: all of one kind and fingerprint."""
    return np.bincount(snapshot_of(segments).merged().segment, minlength=len(segments)).tolist()


def merge(folder: Path, segments: Sequence[Segment], chosen: Sequence[Segment]) -> None:
    """Rewrites the chosen segments. segments: all of their kind and fingerprint, which say what is superseded.

    Raises OutputError on a full disk, NotWritableError where the folder does not take files, FileNotFoundError when
    another process has merged them meanwhile; nothing is lost then.
    """
    kind, fingerprint = chosen[0].kind, chosen[0].fingerprint
    paths = {segment.path for segment in chosen}
    numbers = [number for number, segment in enumerate(segments) if segment.path in paths]
    published = {
        disk.publish(folder, kind.name, encode(kind, fingerprint, columns)) for columns in _parts(segments, numbers)
    }
    for path in paths - published:
        path.unlink(missing_ok=True)


def _parts(segments: Sequence[Segment], numbers: Sequence[int]) -> Iterator[Columns]:
    """The rows of some segments that count, in the order of their creation, SEGMENT_BYTES at a time."""
    index = snapshot_of(segments).merged()
    counted = np.isin(index.segment, numbers)
    segment, row = index.segment[counted], index.row[counted]
    created, size = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
    for number in numbers:
        columns = segments[number].map()
        here = segment == number
        created[here] = columns["created"][row[here]]
        size[here] = row_sizes(segments[number].kind, columns)[row[here]]
    order = np.argsort(created, kind="stable")
    part = (np.cumsum(size[order]) - 1) // SEGMENT_BYTES
    for rows in np.split(order, np.flatnonzero(np.diff(part)) + 1):
        if len(rows):
            yield _gather(segments, segment[rows], row[rows])


def _gather(segments: Sequence[Segment], segment: np.ndarray, row: np.ndarray) -> Columns:
    """Rows, each by the number of its segment and its own, in their order."""
    kind = segments[0].kind
    parts, places = [], []
    for number in np.unique(segment):
        here = np.flatnonzero(segment == number)
        parts.append(take(kind, segments[number].map(), row[here]))
        places.append(here)
    joined = concatenate(kind, parts)
    order = np.argsort(np.concatenate(places))
    return joined if np.all(np.diff(order) > 0) else take(kind, joined, order)
