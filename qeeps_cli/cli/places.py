"""The places where the results of a search can go: standard output or a file, and a folder."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from qeeps_cli.cli.messages import Messages

if TYPE_CHECKING:
    from qeeps_cli.output.folder import Written
    from qeeps_cli.output.searches import SearchesFolder
    from qeeps_cli.output.writers import Writer
    from qeeps_cli.types import Match, SearchResult


class Place(ABC):
    """Takes results. flows: whether it also has `flow`, which wants matches as they are found. is_terminal: whether its
    lines appear there."""

    flows = False
    is_terminal = False

    def opened(self) -> AbstractContextManager:
        """For as long as results come."""
        return nullcontext()

    @abstractmethod
    def take(self, id: str, result: "SearchResult") -> Sequence[str]:
        """The next result; returns what the user should know."""

    @abstractmethod
    def finish(self) -> None:
        """When all results came."""

    @abstractmethod
    def tell(self, messages: Messages) -> None:
        """Says where the results are."""


class File(Place):
    """A file of one format. path: None: standard output."""

    def __init__(self, writer: "Writer", path: Path | None):
        self.writer = writer
        self.path = path
        self.flows = writer.flows
        self._stream: BinaryIO | None = None

    @property
    def is_terminal(self) -> bool:
        return self.path is None and sys.stdout is not None and sys.stdout.isatty()

    @contextmanager
    def opened(self) -> Iterator[None]:
        from qeeps_cli.output.atomic import atomic_file

        if self.path is None:
            yield
            return
        with atomic_file(self.path) as self._stream:
            yield

    def flow(self, id: str, matches: "Sequence[Match]") -> None:
        """Matches of a query, as they are found."""
        self._write(*self.writer.lines(id, matches))

    def take(self, id: str, result: "SearchResult") -> Sequence[str]:
        self.writer.take(id, result)
        return ()

    def finish(self) -> None:
        self._write(self.writer.finish())

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_file

        if self.path is not None:
            tell_file(self.path, messages)

    def _write(self, *parts: bytes) -> None:
        from qeeps_cli.cli.stdout import write_stdout
        from qeeps_cli.output.atomic import write_stream

        if self._stream is None:
            write_stdout(*parts)
        else:
            write_stream(self._stream, *parts, name=str(self.path))


class Folder(Place):
    """A folder as `output.folder` lays it out."""

    def __init__(self, out: Path, ids: Sequence[str], weights: dict[str, str], mode: str, drawing: dict[str, Any]):
        self.out = out
        self.common = weights, mode
        self.drawing = drawing
        self.written: Written | None = None

    def take(self, id: str, result: "SearchResult") -> Sequence[str]:
        from qeeps_cli.output.folder import write_folder

        self.written = write_folder(self.out, result, *self.common, **self.drawing)
        return self.written.notes

    def finish(self) -> None:
        """All is written."""

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_files

        if self.written is not None:
            tell_files(self.written, messages)


class FolderOfSeveral(Place):
    """A folder as `output.searches` lays it out; each search is written when it comes."""

    def __init__(self, out: Path, ids: Sequence[str], weights: dict[str, str], mode: str, drawing: dict[str, Any]):
        self.out = out
        self.ids = ids
        self.common = weights, mode
        self.drawing = drawing
        self.folder: SearchesFolder | None = None
        self.overview: Path | None = None

    def take(self, id: str, result: "SearchResult") -> Sequence[str]:
        from qeeps_cli.output.searches import SearchesFolder

        self.folder = self.folder or SearchesFolder(self.out, self.ids)
        return self.folder.write(result, *self.common, **self.drawing).notes

    def finish(self) -> None:
        if self.folder is not None:
            self.overview = self.folder.finish(*self.common)

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_overview

        if self.overview is not None:
            tell_overview(self.overview, messages)
