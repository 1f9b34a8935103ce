"""The searches of one run as one file: a class for each format, picked by name with `get_writer`.

A writer takes the results in the order of the queries, and `finish` gives the file. JSONL may instead flow: its lines
are then made from matches as they are found, and neither the results nor `finish` add anything.

With several queries every format says whose a match is: JSON has a search for each (schema `qeeps.searches/1`), JSONL
a field `query` and CSV a column `query` with the query's id, COCO a category for each.

Where sightings are asked for, JSON holds them beside the matches, and a line of JSONL or CSV is a sighting.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from qeeps_cli.errors import UsageError
from qeeps_cli.output import json_writer
from qeeps_cli.output.coco import CocoDataset
from qeeps_cli.output.csv_table import SIGHTING_COLUMNS, CsvTable, name_cell, sighting_rows
from qeeps_cli.output.searches import encode_search, join_searches
from qeeps_cli.types import Match, SearchResult


class Writer(ABC):
    """One format. weights, mode: as in `search_document`. several: whether matches need to say whose they are."""

    flows = False

    def __init__(self, weights: Mapping[str, str], mode: str, several: bool = False):
        self.weights = weights
        self.mode = mode
        self.several = several

    @abstractmethod
    def take(self, id: str, result: SearchResult) -> None:
        """The next result. Raises NotANumberError when a score or a box is not finite."""

    @abstractmethod
    def finish(self) -> bytes:
        """The file."""


class JsonWriter(Writer):
    """Everything, schema `qeeps.search/1` (see `json_writer`), of several queries `qeeps.searches/1`.

    Keeps the text of each result, which is smaller than the result.
    """

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._documents: list[bytes] = []

    def take(self, id: str, result: SearchResult) -> None:
        if self.several:
            self._documents.append(encode_search(id, result, self.weights, self.mode))
        else:
            self._documents.append(json_writer.dump(json_writer.search_document(result, self.weights, self.mode)))

    def finish(self) -> bytes:
        return join_searches(self._documents) if self.several else b"".join(self._documents)


class JsonlWriter(Writer):
    """A match a line, ranked as in the JSON's `matches`; nothing of the query but, of several, its id."""

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._lines: list[bytes] = []

    def take(self, id: str, result: SearchResult) -> None:
        self._lines += self.lines(id, result.matches)

    def finish(self) -> bytes:
        return b"".join(self._lines)

    def lines(self, id: str, matches: Sequence[Match]) -> list[bytes]:
        """The lines of some matches. Raises NotANumberError."""
        whose = {"query": id} if self.several else {}
        return [json_writer.dump_line({**whose, **json_writer.match_document(match)}) for match in matches]


class FlowingJsonlWriter(JsonlWriter):
    """The same in the order in which frames are finished, and so without ranks: only `lines` gives any."""

    flows = True

    def take(self, id: str, result: SearchResult) -> None:
        """Its matches were lines already."""


class SightingsJsonlWriter(JsonlWriter):
    """A sighting a line, as in the JSON's `sightings`."""

    def take(self, id: str, result: SearchResult) -> None:
        whose = {"query": id} if self.several else {}
        sightings = map(json_writer.sighting_document, result.sightings or ())
        self._lines += [json_writer.dump_line({**whose, **sighting}) for sighting in sightings]


class CsvWriter(Writer):
    """A match a row under a header line; see `csv_table` for names."""

    columns: tuple[str, ...] = ("rank", "image", "x", "y", "w", "h", "score", "person_score")

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._table = CsvTable((("query",) if self.several else ()) + self.columns)

    def take(self, id: str, result: SearchResult) -> None:
        whose = [id] if self.several else []
        self._table.add([*whose, *row] for row in self._rows_of(result))

    def finish(self) -> bytes:
        return self._table.encode()

    def _rows_of(self, result: SearchResult) -> Iterator[list]:
        for match in map(json_writer.match_document, result.matches):
            yield [match["rank"], name_cell(match["image"]), *match["box"], match["score"], match["person_score"]]


class SightingsCsvWriter(CsvWriter):
    """A sighting a row."""

    columns = SIGHTING_COLUMNS

    def _rows_of(self, result: SearchResult) -> Iterator[list]:
        return sighting_rows(result.sightings or ())


class CocoWriter(Writer):
    """A COCO dataset of the matches (see `coco`)."""

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._dataset = CocoDataset(self.weights, self.mode)

    def take(self, id: str, result: SearchResult) -> None:
        self._dataset.add(id if self.several else "query", result)

    def finish(self) -> bytes:
        return self._dataset.encode()


WRITERS: dict[str, type[Writer]] = {"json": JsonWriter, "jsonl": JsonlWriter, "csv": CsvWriter, "coco": CocoWriter}
SIGHTING_WRITERS: dict[str, type[Writer]] = {
    "json": JsonWriter,
    "jsonl": SightingsJsonlWriter,
    "csv": SightingsCsvWriter,
}


def check_format(name: str, *, sightings: bool = False) -> None:
    """Raises UsageError when no format is called that, or when it cannot hold sightings and is to."""
    if name not in WRITERS:
        raise UsageError(f"--format expects one of {', '.join(WRITERS)}, got {name!r}.")
    if sightings and name not in SIGHTING_WRITERS:
        raise UsageError(f"--sightings expects a format of {', '.join(SIGHTING_WRITERS)}; {name} cannot hold them.")


def get_writer(
    name: str,
    weights: Mapping[str, str],
    mode: str,
    *,
    several: bool = False,
    flows: bool = False,
    sightings: bool = False,
) -> Writer:
    """The writer of a format. flows: without ranks but as frames are finished, where the format can do that. sightings:
    whether the results have them.

    Raises UsageError for an unknown name.
    """
    check_format(name, sightings=sightings)
    if sightings:
        kind = SIGHTING_WRITERS[name]
    else:
        kind = FlowingJsonlWriter if flows and name == "jsonl" else WRITERS[name]
    return kind(weights, mode, several=several)


def encode_result(name: str, result: SearchResult, weights: Mapping[str, str], mode: str) -> bytes:
    """One search in a format. Raises UsageError for an unknown name, NotANumberError."""
    writer = get_writer(name, weights, mode, sightings=result.sightings is not None)
    writer.take("", result)
    return writer.finish()
