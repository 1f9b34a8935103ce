"""CSV for spreadsheets: a header line and rows, whose names are quoted and keep their bytes."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qeeps_cli.output import json_writer
from qeeps_cli.types import Sighting

SIGHTING_COLUMNS = (
    *("camera", "clock", "first", "last", "seconds", "frames"),
    *("rank", "image", "x", "y", "w", "h", "score"),
)

# A spreadsheet takes a cell that begins with one of these for a formula, also inside quotes.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvTable:
    """Rows under the names of their columns."""

    def __init__(self, columns: Sequence[str]):
        self._text = io.StringIO()
        # Text is always quoted: a reader then keeps a carriage return or a newline inside a file name.
        self._rows = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._text.write(",".join(columns) + "\n")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        self._rows.writerows(rows)

    def encode(self) -> bytes:
        """UTF-8, but for bytes of names that are none."""
        return self._text.getvalue().encode("utf-8", "surrogateescape")


def name_cell(name: str) -> str:
    """A name that a spreadsheet would take for a formula begins with `./`, which is the same file."""
    return f"./{name}" if name.startswith(_FORMULA) else name


def sighting_rows(sightings: Iterable[Sighting]) -> Iterator[list[Any]]:
    """A row of SIGHTING_COLUMNS for each, with its best match. Raises NotANumberError."""
    for sighting in map(json_writer.sighting_document, sightings):
        best = sighting["best"]
        seconds = "" if sighting["seconds"] is None else sighting["seconds"]
        when = [sighting["clock"], sighting["first"], sighting["last"], seconds, sighting["frames"]]
        where = [best["rank"], name_cell(best["image"]), *best["box"], best["score"]]
        yield [name_cell(sighting["camera"]), *when, *where]


def sightings_csv(sightings: Iterable[Sighting]) -> bytes:
    """Those of one search as a file."""
    table = CsvTable(SIGHTING_COLUMNS)
    table.add(sighting_rows(sightings))
    return table.encode()
