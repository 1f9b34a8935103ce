"""The searches of one run as one file: a class for each format, picked by name with `get_writer`.

A writer takes the results in the order of the queries, and `finish` gives the file. JSONL may instead flow: its lines
are then made from matches as they are found, and neither the results nor `finish` add anything.

With several queries every format says whose a match is: JSON has a search for each (schema `qeeps.searches/1`), JSONL
a field `query` and CSV a column `query` with the query's id, COCO a category for each.

Where sightings are asked for, JSON holds them beside the matches, and a line of JSONL or CSV is a sighting.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

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

    columns = ("rank", "image", "x", "y", "w", "h", "score", "person_score")
    video_columns = ("video", "time", "frame")  # where a match is in a video; empty for matches in pictures

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._rows: list[list] = []
        self._moments: list[list] = []

    def take(self, id: str, result: SearchResult) -> None:
        whose = [id] if self.several else []
        for match in map(json_writer.match_document, result.matches):
            row = [match["rank"], name_cell(match["image"]), *match["box"], match["score"], match["person_score"]]
            self._rows.append([*whose, *row])
            moment = [name_cell(match["video"]), match["time"], match["frame"]] if "video" in match else [""] * 3
            self._moments.append(moment)

    def finish(self) -> bytes:
        in_videos = any(any(moment) for moment in self._moments)
        whose = ("query",) if self.several else ()
        table = CsvTable((*whose, *self.columns, *(self.video_columns if in_videos else ())))
        for row, moment in zip(self._rows, self._moments, strict=True):
            table.add([[*row, *moment] if in_videos else row])
        return table.encode()


class SightingsCsvWriter(Writer):
    """A sighting a row."""

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._table = CsvTable((("query",) if self.several else ()) + SIGHTING_COLUMNS)

    def take(self, id: str, result: SearchResult) -> None:
        whose = [id] if self.several else []
        self._table.add([*whose, *row] for row in sighting_rows(result.sightings or ()))

    def finish(self) -> bytes:
        return self._table.encode()


class CocoWriter(Writer):
    """A COCO dataset of the matches (see `coco`)."""

    def __init__(self, *common, **options):
        super().__init__(*common, **options)
        self._dataset = CocoDataset(self.weights, self.mode)

    def take(self, id: str, result: SearchResult) -> None:
        self._dataset.add(id if self.several else "query", result)

    def finish(self) -> bytes:
        return self._dataset.encode()


JSON, COCO = "json", "coco"
WRITERS: dict[str, type[Writer]] = {JSON: JsonWriter, "jsonl": JsonlWriter, "csv": CsvWriter, COCO: CocoWriter}
SIGHTING_WRITERS: dict[str, type[Writer]] = {
    JSON: JsonWriter,
    "jsonl": SightingsJsonlWriter,
    "csv": SightingsCsvWriter,
}


def ending_of(path: Path) -> str:
    """What could be the name of a format: "csv" of new.CSV; empty where there is none."""
    return path.suffix.lower().removeprefix(".")


def choose_format(name: str | None, file: Path | None) -> str:
    """The format that was asked for, else that of the file's ending, and JSON where it has none.

    file: None: standard output. Raises UsageError for a format or an ending that is unknown, and for two that differ.
    """
    ending = ending_of(file) if file else ""
    if name is None:
        if ending and ending not in WRITERS:
            raise UsageError(
                f"--output {file} has the ending of no format: expected one of {', '.join(WRITERS)}. Name the format "
                "with --format, or give the file another ending."
            )
        return ending or JSON
    check_format(name)
    if ending in WRITERS and ending != name and (name, ending) != (COCO, JSON):  # a COCO dataset is JSON
        raise UsageError(
            f"--format {name} and the ending of --output {file} contradict each other. Leave out --format, or give the "
            "file another ending."
        )
    return name


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
