"""One segment: an immutable HDF5 file of rows. The only module that knows h5py.

A file is built in memory and read only after its digest was checked, so that libhdf5 never parses damaged bytes. No
HDF5 handle outlives a call: the arrays are contiguous and uncompressed, their places are noted once, and then the file
is mapped into memory.
"""

import math
import mmap
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np

from qeeps_cli.cache.columns import KINDS, Columns, Kind

FORMAT = "qeeps.cache"
SCHEMA = 1
ALIGNMENT = 64  # bytes; arrays begin at multiples of this, so that they can be used where they are


class ForeignSegmentError(Exception):
    """The file is no segment that this version reads. schema: its schema, where that is another one."""

    def __init__(self, reason: str, schema: int = SCHEMA):
        super().__init__(reason)
        self.schema = schema


@dataclass(frozen=True)
class Place:
    """Where an array lies in a file. offset: bytes from its beginning."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Segment:
    """A published segment. fingerprint: canonical JSON of what the rows depend on. size: of the file, in bytes."""

    path: Path
    kind: Kind
    fingerprint: str
    rows: int
    size: int
    places: dict[str, Place]

    def map(self) -> Columns:
        """The columns, read-only and mapped into memory; the mapping lasts as long as they do.

        Raises FileNotFoundError when the file is gone: another process merged it into a larger one.
        """
        with open(self.path, "rb", buffering=0) as file:
            content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        return {name: _array_at(content, place) for name, place in self.places.items()}

    def entries(self, column: str) -> int:
        """How many entries a column has: `boxes` of `frames` has one a detection."""
        return self.places[column].shape[0]


def encode(kind: Kind, fingerprint: str, columns: Columns) -> memoryview:
    """The bytes of a segment: the same for the same rows. fingerprint: canonical JSON (ASCII)."""
    file = BytesIO()  # not h5py's in_memory, which gives unreadable bytes together with libver (h5py#2558)
    with h5py.File(file, "w", alignment_threshold=512, alignment_interval=ALIGNMENT) as hdf5:
        hdf5.attrs["format"] = np.bytes_(FORMAT)
        hdf5.attrs["schema"] = np.int64(SCHEMA)
        hdf5.attrs["kind"] = np.bytes_(kind.name)
        hdf5.attrs["fingerprint"] = np.bytes_(fingerprint.encode("ascii"))
        for name, dtype in _dtypes(kind).items():
            hdf5.create_dataset(name, data=np.asarray(columns[name], dtype), track_times=False)
    return file.getbuffer()


def read_segment(path: Path) -> Segment:
    """What a segment holds and where. The file's digest must have been checked.

    Raises ForeignSegmentError with the reason for another schema and for what is no segment, OSError where it cannot
    be opened.
    """
    size = path.stat().st_size
    if not h5py.is_hdf5(path):
        raise ForeignSegmentError("no HDF5 file")
    try:
        with h5py.File(path, "r", locking=False) as hdf5:
            kind = _check_attributes(hdf5, path)
            fingerprint = bytes(hdf5.attrs["fingerprint"]).decode("ascii")
            places = {name: _place_of(hdf5, name, dtype) for name, dtype in _dtypes(kind).items()}
        rows = places[kind.key].shape[0]
        _check_shapes(kind, places, rows)
        segment = Segment(path, kind, fingerprint, rows, size, places)
        _check_offsets(segment)
    except (KeyError, TypeError, ValueError) as error:  # what h5py and numpy make of attributes and arrays of others
        raise ForeignSegmentError(f"not as a segment should be: {error}") from None
    return segment


def _dtypes(kind: Kind) -> dict[str, np.dtype]:
    """Of every column, offsets included."""
    dtypes = {column.name: np.dtype(column.dtype) for column in kind.columns}
    return dtypes | {name: np.dtype("<i8") for name in kind.offsets}


def _array_at(content: np.ndarray, place: Place) -> np.ndarray:
    size = math.prod(place.shape) * place.dtype.itemsize
    return content[place.offset : place.offset + size].view(place.dtype).reshape(place.shape)


def _check_attributes(hdf5: h5py.File, path: Path) -> Kind:
    if bytes(hdf5.attrs.get("format", b"")) != FORMAT.encode():
        raise ForeignSegmentError("an HDF5 file of another program")
    schema = int(hdf5.attrs.get("schema", 0))
    if schema != SCHEMA:
        raise ForeignSegmentError(f"of schema {schema}, expected {SCHEMA}", schema)
    kind = bytes(hdf5.attrs.get("kind", b"")).decode("ascii", "replace")
    if kind not in KINDS or not path.name.startswith(f"{kind}-"):
        raise ForeignSegmentError(f"holds {kind or 'an unknown kind of data'}, which its name does not say")
    return KINDS[kind]


def _place_of(hdf5: h5py.File, name: str, dtype: np.dtype) -> Place:
    dataset = h5py.h5d.open(hdf5.id, name.encode())  # several times as fast as hdf5[name]
    offset = dataset.get_offset()
    if dataset.dtype != dtype or (offset is None and math.prod(dataset.shape)):
        raise ForeignSegmentError(f"the array {name} is not contiguous {dtype}")
    return Place(offset or 0, dataset.shape, dtype)


def _check_shapes(kind: Kind, places: dict[str, Place], rows: int) -> None:
    expected = {name: (rows + 1,) for name in kind.offsets}
    entries = {column.offsets: places[column.name].shape[:1] for column in kind.columns if column.offsets}
    for column in kind.columns:
        first = entries[column.offsets] if column.offsets else (rows,)
        shape = places[column.name].shape
        last = shape[1:] if column.shape == (-1,) and len(shape) == 2 else column.shape
        expected[column.name] = (*first, *last)
    for name, shape in expected.items():
        if places[name].shape != shape:
            raise ForeignSegmentError(f"the array {name} has shape {places[name].shape}, expected {shape}")


def _check_offsets(segment: Segment) -> None:
    columns = segment.map()
    for column in segment.kind.columns:
        if column.offsets:
            offsets = columns[column.offsets]
            if offsets[0] != 0 or offsets[-1] != len(columns[column.name]) or np.any(np.diff(offsets) < 0):
                raise ForeignSegmentError(f"the array {column.offsets} does not fit {column.name}")
