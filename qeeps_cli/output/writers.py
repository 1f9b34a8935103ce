"""A search result as one file: a class for each format, picked by name with `get_writer`."""

import csv
import io
from collections.abc import Mapping

from qeeps_cli.errors import UsageError
from qeeps_cli.output import json_writer
from qeeps_cli.types import SearchResult


class JsonWriter:
    """The whole result, schema `qeeps.search/1` (see `json_writer`)."""

    extension = ".json"

    def encode(self, result: SearchResult, weights: Mapping[str, str], mode: str) -> bytes:
        return json_writer.dump(json_writer.search_document(result, weights, mode))


class JsonlWriter:
    """A match a line, each as in the JSON's `matches`; nothing of the query."""

    extension = ".jsonl"

    def encode(self, result: SearchResult, weights: Mapping[str, str], mode: str) -> bytes:
        return b"".join(json_writer.dump_line(json_writer.match_document(match)) for match in result.matches)


class CsvWriter:
    """A match a row under a header line. Names are quoted and keep their bytes, also those that are not UTF-8."""

    extension = ".csv"
    columns = ("rank", "image", "x", "y", "w", "h", "score", "person_score")

    def encode(self, result: SearchResult, weights: Mapping[str, str], mode: str) -> bytes:
        text = io.StringIO()
        # Text is always quoted: a reader then keeps a carriage return or a newline inside a file name.
        rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        text.write(",".join(self.columns) + "\n")
        for match in map(json_writer.match_document, result.matches):
            rows.writerow([match["rank"], match["image"], *match["box"], match["score"], match["person_score"]])
        return text.getvalue().encode("utf-8", "surrogateescape")


WRITERS = {"json": JsonWriter, "jsonl": JsonlWriter, "csv": CsvWriter}


def get_writer(name: str) -> JsonWriter | JsonlWriter | CsvWriter:
    """The writer of a format. Its `encode(result, weights, mode)` gives bytes, or raises NotANumberError."""
    if name not in WRITERS:
        raise UsageError(f"--format expects one of {', '.join(WRITERS)}, got {name!r}.")
    return WRITERS[name]()
