"""What the two stores of detections have in common: rows to detections and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qeeps_cli.cache.columns import KEY_BYTES, Row
from qeeps_cli.cache.table import Table
from qeeps_cli.errors import NotANumberError
from qeeps_cli.types import Detections


@dataclass(frozen=True)
class About:
    """What is known of a stored frame without reading its detections.

    size: (height, width) in pixels. note: the decoder's. people: number of detections.
    """

    size: tuple[int, int]
    note: str | None
    people: int
    has_proposals: bool


class DetectionStore(ABC):
    """Detections by the digest of a frame's file, 32 hexadecimal digits. Thread-safe.

    Every method that takes a digest raises ValueError for anything else.
    """

    def __init__(self, table: Table):
        self._table = table

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames; publishes what is pending."""

    def __contains__(self, digest: str) -> bool:
        return self._key(digest) in self._table

    def get(self, digest: str) -> Detections | None:
        """What was found in a frame; None: not known."""
        row = self._table.get(self._key(digest))
        return None if row is None else self._detections(row)

    def about(self, digest: str) -> About | None:
        """What else is known of a frame; None: it is not stored. Reads no detections."""
        row = self._table.get(self._key(digest))
        if row is None:
            return None
        height, width = row["sizes"].tolist()
        note = row["notes"].tobytes().decode("utf-8") or None
        return About((height, width), note, len(row["boxes"]), bool(row["has_proposals"]))

    def add(
        self,
        digest: str,
        name: str,
        size: tuple[int, int],
        detections: Detections,
        *,
        note: str | None = None,
        replace: bool = False,
    ) -> Detections:
        """Stores a frame's detections and gives back what `get` then gives: fresh and cached answers are equal.

        name: the frame's, for people. size: (height, width) in pixels. note: the decoder's. replace: a frame that is
        stored stays as it is, unless this is set or proposals come that it does not have.

        Raises NotANumberError for values that are not finite, OutputError when it is time to publish and the disk is
        full; the frame then stays pending.
        """
        key = self._key(digest)
        stored = self._table.get(key)
        if stored is not None and not replace and (detections.proposals is None or stored["has_proposals"]):
            return self._detections(stored)
        row: Row = {
            "sizes": np.array(size, np.int32),
            "notes": np.frombuffer((note or "").encode("utf-8"), np.uint8),
            "boxes": np.array(detections.boxes, np.float32).reshape(-1, 4),
            "person_scores": np.array(detections.person_scores, np.float32),
            "has_proposals": np.uint8(detections.proposals is not None),
            "proposals": np.array(() if detections.proposals is None else detections.proposals, np.float32),
            **self._own_columns(digest, name, detections),
        }
        row["proposals"] = row["proposals"].reshape(-1, 4)
        _check_finite(name, row)
        if not _is_same(stored, row):
            self._table.add(key, row)
        return self._detections(row)

    def _key(self, digest: str) -> bytes:
        return parse_digest(digest)

    @abstractmethod
    def _own_columns(self, digest: str, name: str, detections: Detections) -> Row:
        """The columns that only this kind of row has."""

    @abstractmethod
    def _detections(self, row: Row) -> Detections:
        """As copies: a row may be a view of a file."""


def parse_digest(digest: str) -> bytes:
    """A digest's 16 bytes. Raises ValueError for anything but 32 hexadecimal digits."""
    _check_lengths([digest])
    return bytes.fromhex(digest)


def parse_digests(digests: Sequence[str]) -> np.ndarray:
    """(n, 16) uint8. Raises ValueError for anything but 32 hexadecimal digits each."""
    _check_lengths(digests)
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, KEY_BYTES)


def _check_lengths(digests: Sequence[str]) -> None:
    if set(map(len, digests)) - {2 * KEY_BYTES}:
        wrong = next(digest for digest in digests if len(digest) != 2 * KEY_BYTES)
        raise ValueError(f"expected a digest of {2 * KEY_BYTES} hexadecimal digits, got {wrong!r}")


def proposals_of(row: Row) -> np.ndarray | None:
    """(P, 4) float32, or None where none were kept."""
    return row["proposals"].copy() if row["has_proposals"] else None


def _is_same(stored: Row | None, row: Row) -> bool:
    """Whether there is nothing new in a row; the frame may have been renamed."""
    return stored is not None and all(np.array_equal(stored[name], row[name]) for name in row.keys() - {"names"})


def _check_finite(name: str, row: Row) -> None:
    for column, values in row.items():
        if values.dtype.kind == "f" and column != "query_boxes" and not np.isfinite(values).all():
            raise NotANumberError(
                f"the network gave {column} that are not finite numbers for {name}; nothing of it was cached. The "
                "weights or the device are at fault: try --device cpu."
            )
