"""Which weights there are: the shipped ones, those of $QEEPS_WEIGHTS, and those in places that the user names."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qeeps_cli.errors import WeightsError
from qeeps_cli.weights import ENVIRONMENT, SHIPPED, SUFFIX, Checkpoint, find_weights, read_checkpoint


@dataclass(frozen=True)
class Listing:
    """A file of weights. size: bytes. is_default: what a search takes that names none. checkpoint: what the file says
    of itself, or None and the problem with it."""

    path: Path
    size: int
    is_shipped: bool
    is_default: bool
    checkpoint: Checkpoint | None = None
    problem: str | None = None


def list_weights(places: Sequence[Path] = ()) -> list[Listing]:
    """Shipped weights, then those of $QEEPS_WEIGHTS, then those of the places, each file once.

    places: files, and folders whose .safetensors files are listed. A file that cannot be used is listed with its
    problem. Raises WeightsError for a place that does not exist.
    """
    default = _default()
    listings, seen = [], set()
    for path in [*_shipped(), *([default] if default else []), *_files(places)]:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            listings.append(_list(path, default))
    return listings


def _default() -> Path | None:
    try:
        return find_weights()
    except WeightsError:
        if os.environ.get(ENVIRONMENT):  # the user meant a file that is not there
            raise
        return None


def _shipped() -> Iterator[Path]:
    for folder in SHIPPED:
        yield from sorted(folder.glob(f"*{SUFFIX}"))


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted(place.glob(f"*{SUFFIX}"))
        elif place.is_file():
            yield place
        else:
            raise WeightsError(f"expected a {SUFFIX} file or a folder of them, but there is no {place}.")


def _list(path: Path, default: Path | None) -> Listing:
    known = {
        "path": path,
        "size": path.stat().st_size,
        "is_shipped": path.parent in SHIPPED,
        "is_default": default is not None and path.samefile(default),
    }
    try:
        return Listing(**known, checkpoint=read_checkpoint(path))
    except (WeightsError, OSError) as error:
        return Listing(**known, problem=str(error))
