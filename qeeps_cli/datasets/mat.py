"""MATLAB files as PRW and CUHK-SYSU have them: cells, strings and nested struct arrays, flattened to plain Python.

scipy is imported only here and only when a .mat file is read: nobody needs it to search.
"""

from pathlib import Path

import numpy as np

from qeeps_cli.datasets.files import require_file
from qeeps_cli.errors import DataError


def read_mat(path: Path, keys: tuple[str, ...], what: str) -> np.ndarray:
    """The first of the variables `keys` that the file holds.

    Raises DataError if the file is absent or unreadable, if it has none of the variables, and if scipy is missing.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"reading {path} needs scipy, which is not installed: pip install scipy") from error
    require_file(path, what)
    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises whatever its parser trips over: ValueError, TypeError, zlib.error, ...
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error}); expected {what}.") from error
    for key in keys:
        if key in content:
            return content[key]
    found = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
    raise DataError(f"{path}: expected the variable {' or '.join(keys)}, found {found}.")


def records(value: np.ndarray, where: str) -> list[np.void]:
    """A struct array of whatever shape, or a cell array of such however deep, as a flat list of records; [] is empty.

    Raises DataError for anything else.
    """
    value = np.asarray(value)
    if value.dtype.names is not None:
        return list(value.ravel())
    if value.dtype == object:
        return [record for cell in value.ravel() for record in records(cell, where)]
    if value.size:
        raise DataError(f"{where}: expected structs, found an array of {value.dtype} of shape {value.shape}.")
    return []


def field(record: np.void, name: str, where: str) -> np.ndarray:
    """One field of a record. Raises DataError, naming those it has, if it is not there."""
    if name not in (record.dtype.names or ()):
        raise DataError(f"{where}: expected a struct with the field {name!r}, found {record.dtype.names}.")
    return record[name]


def text(value: np.ndarray) -> str:
    """A char array, wrapped in cells or not, as a string; "" where it is empty."""
    value = _unwrap(value)
    return str(value.ravel()[0]).strip() if value.size else ""


def strings(value: np.ndarray) -> list[str]:
    """A cell array of strings."""
    return [text(cell) for cell in np.asarray(value).ravel()]


def xywh(value: np.ndarray, where: str) -> tuple[int, int, int, int] | None:
    """An `idlocate` as whole x, y, w, h; None where it is empty. Python's integers: the file's may be uint8.

    Raises DataError for anything but four finite numbers.
    """
    values = _unwrap(value).ravel()
    if not values.size:
        return None
    if values.size != 4 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise DataError(f"{where}: expected idlocate [x, y, w, h], found {values.tolist()}.")
    x, y, w, h = (int(v) for v in values)
    return x, y, w, h


def _unwrap(value: np.ndarray) -> np.ndarray:
    """What is in a cell in a cell ..."""
    value = np.asarray(value)
    while value.dtype == object and value.size:
        value = np.asarray(value.ravel()[0])
    return value
