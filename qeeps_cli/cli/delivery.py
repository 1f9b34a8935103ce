"""Where the results of a search go: standard output or a folder, for one query or several."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages

if TYPE_CHECKING:
    from qeeps_cli.searching.request import QueryPicture
    from qeeps_cli.types import SearchResult


class Delivery(ABC):
    """Takes results as they come; `finish` writes what is to be written at the end, and tells about it on stderr.

    weights: `Checkpoint.describe()`. mode: of the plan.
    """

    def __init__(self, weights: dict[str, str], mode: str, messages: Messages):
        self.weights = weights
        self.mode = mode
        self.messages = messages
        self.has_skipped = False

    def take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        """The next result."""
        self.has_skipped |= bool(result.skipped)
        self._take(picture, result)

    @abstractmethod
    def _take(self, picture: "QueryPicture", result: "SearchResult") -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """When all results came."""


class OneToStdout(Delivery):
    """JSON of schema qeeps.search/1."""

    def _take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        self.result = result

    def finish(self) -> None:
        from qeeps_cli.cli.stdout import write_stdout
        from qeeps_cli.cli.summary import tell_result
        from qeeps_cli.output.writers import get_writer

        write_stdout(get_writer("json").encode(self.result, self.weights, self.mode))
        tell_result(self.result, self.messages)


class OneToFolder(Delivery):
    """A folder as `output.folder` lays it out."""

    def __init__(self, out: Path, annotate: bool, max_pixels: int, *common):
        super().__init__(*common)
        self.out = out
        self.pictures = {"annotate": annotate, "max_pixels": max_pixels}

    def _take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        self.result = result

    def finish(self) -> None:
        from qeeps_cli.cli.summary import tell_files, tell_result
        from qeeps_cli.output.folder import write_folder

        written = write_folder(self.out, self.result, self.weights, self.mode, **self.pictures)
        tell_result(self.result, self.messages)
        tell_files(written, self.messages)


class SeveralToStdout(Delivery):
    """JSON of schema qeeps.searches/1. Keeps the text of each result, which is smaller than the result."""

    def __init__(self, *common):
        super().__init__(*common)
        self.documents: list[bytes] = []
        self.summary = _Summary()

    def _take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        from qeeps_cli.output.searches import encode_search

        self.documents.append(encode_search(picture.id, result, self.weights, self.mode))
        self.summary.add(picture, result)

    def finish(self) -> None:
        from qeeps_cli.cli.stdout import write_stdout
        from qeeps_cli.output.searches import join_searches

        write_stdout(join_searches(self.documents))
        self.summary.tell(self.messages)


class SeveralToFolder(Delivery):
    """A folder as `output.searches` lays it out; each search is written when it comes."""

    def __init__(self, out: Path, ids: Sequence[str], annotate: bool, max_pixels: int, *common):
        super().__init__(*common)
        self.out = out
        self.ids = ids
        self.pictures = {"annotate": annotate, "max_pixels": max_pixels}
        self.folder = None
        self.summary = _Summary()

    def _take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        from qeeps_cli.output.searches import SearchesFolder

        self.folder = self.folder or SearchesFolder(self.out, self.ids)
        written = self.folder.write(result, self.weights, self.mode, **self.pictures)
        self.summary.add(picture, result, written.notes)

    def finish(self) -> None:
        from qeeps_cli.cli.summary import tell_overview

        overview = self.folder.finish(self.weights, self.mode)
        self.summary.tell(self.messages)
        tell_overview(overview, self.messages)


class _Summary:
    """What is told of several searches: a line each, and what they have in common once."""

    def __init__(self):
        self.rows: list[tuple[str, SearchResult]] = []
        self.notes: list[str] = []
        self.skipped = {}

    def add(self, picture: "QueryPicture", result: "SearchResult", notes: Sequence[str] = ()) -> None:
        self.rows.append((picture.id, replace(result, matches=result.matches[:1], skipped=[], notes=[])))
        self.notes += [f"query {picture.id}: {note}" for note in [*result.notes, *notes]]
        self.skipped |= {(item.name, item.reason): item for item in result.skipped}

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_results

        tell_results(self.rows, list(self.skipped.values()), self.notes, messages)
