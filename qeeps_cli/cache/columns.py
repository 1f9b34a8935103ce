"""What a segment holds: the columns of each kind, and rows of them in memory.

A column has one entry a row, or, where `offsets` is named, any number: the entries of row i are those from offsets[i]
to offsets[i + 1] of a flat array. Everything is little-endian and of fixed size: a file's bytes are the arrays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

KEY_BYTES = 16

Row = dict[str, np.ndarray]  # one row: the entry, or the (k, ...) entries, of every column but the offsets
Columns = Mapping[str, np.ndarray]  # many rows: every column, offsets included


@dataclass(frozen=True)
class Column:
    """shape: of one entry; -1 stands for any length, the same in all of a segment."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    offsets: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of segment. key: the column that names a row; of two rows with one key the later `created` counts."""

    name: str
    key: str
    columns: tuple[Column, ...]

    @cached_property
    def offsets(self) -> tuple[str, ...]:
        """The names of the offset columns, each once."""
        return tuple(dict.fromkeys(column.offsets for column in self.columns if column.offsets))


_KEY = (KEY_BYTES,)
_CREATED = Column("created", "<i8")  # nanoseconds since 1970, never twice the same from one process
_FOUND = (
    Column("sizes", "<i4", (2,)),
    Column("notes", "|u1", (), "note_offsets"),
    Column("boxes", "<f4", (4,), "offsets"),
    Column("person_scores", "<f4", (), "offsets"),
    Column("has_proposals", "|u1"),
    Column("proposals", "<f4", (4,), "proposal_offsets"),
)

FRAMES = Kind(
    "frames",
    "digests",
    (
        Column("digests", "|u1", _KEY),
        _CREATED,
        Column("names", "|u1", (), "name_offsets"),
        *_FOUND,
        Column("features", "<f2", (-1,), "offsets"),
    ),
)
PAIRS = Kind(
    "pairs",
    "keys",
    (
        Column("keys", "|u1", _KEY),
        _CREATED,
        Column("query_digests", "|u1", _KEY),
        Column("query_boxes", "<f8", (4,)),
        Column("digests", "|u1", _KEY),
        *_FOUND,
        Column("scores", "<f4", (), "offsets"),
    ),
)
FILES = Kind(
    "files",
    "paths",
    (
        Column("paths", "|u1", _KEY),
        _CREATED,
        Column("sizes", "<i8"),
        Column("mtimes", "<i8"),
        Column("ctimes", "<i8"),
        Column("inodes", "<u8"),
        Column("digests", "|u1", _KEY),
    ),
)
KINDS = {kind.name: kind for kind in (FRAMES, PAIRS, FILES)}


def join(kind: Kind, rows: Sequence[Row]) -> Columns:
    """Rows, one or more, as columns."""
    joined: dict[str, np.ndarray] = {}
    for column in kind.columns:
        entries = [np.asarray(row[column.name], column.dtype) for row in rows]
        if column.offsets:
            joined[column.offsets] = _offsets([len(entry) for entry in entries])
            joined[column.name] = np.concatenate(entries)
        else:
            joined[column.name] = np.stack(entries)
    return joined


def row_at(kind: Kind, columns: Columns, row: int) -> Row:
    """One row, as views: what is not looked at is not read."""
    bounds = {name: slice(*columns[name][row : row + 2]) for name in kind.offsets}
    return {
        column.name: columns[column.name][bounds[column.offsets] if column.offsets else row] for column in kind.columns
    }


def take(kind: Kind, columns: Columns, rows: np.ndarray) -> Columns:
    """The rows of those numbers, (n,) int64, in their order."""
    taken: dict[str, np.ndarray] = {}
    entries: dict[str, np.ndarray] = {}
    for name in kind.offsets:
        entries[name], taken[name] = entries_of(columns[name], rows)
    for column in kind.columns:
        taken[column.name] = columns[column.name][entries[column.offsets] if column.offsets else rows]
    return taken


def concatenate(kind: Kind, parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, one or more."""
    joined = {column.name: np.concatenate([part[column.name] for part in parts]) for column in kind.columns}
    for name in kind.offsets:
        joined[name] = _offsets(np.concatenate([np.diff(part[name]) for part in parts]))
    return joined


def entries_of(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of a flat array belong to the rows, (m,) int64, and the offsets (n + 1,) of those entries."""
    begins = offsets[rows]
    lengths = offsets[rows + 1] - begins
    taken = _offsets(lengths)
    return np.arange(taken[-1]) + np.repeat(begins - taken[:-1], lengths), taken


def row_sizes(kind: Kind, columns: Columns) -> np.ndarray:
    """Bytes that each row takes in a segment, (n,) int64."""
    sizes = np.full(len(columns[kind.key]), 8 * len(kind.offsets), np.int64)
    for column in kind.columns:
        values = columns[column.name]
        entry = values.itemsize * math.prod(values.shape[1:])
        sizes += entry * np.diff(columns[column.offsets]) if column.offsets else entry
    return sizes


def size_of(row: Row) -> int:
    """Bytes of a row's values."""
    return sum(value.nbytes for value in row.values())


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
