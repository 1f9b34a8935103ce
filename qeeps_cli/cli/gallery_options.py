"""What `qeeps search` and `qeeps index` look through: the options, and the frames that they name."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.searching.galleries import Gallery

STDIN = Path("-")

Roots = Annotated[
    list[str] | None,  # not Path, which would fold the slashes of URIs
    typer.Option(
        metavar="DIR|IMAGE|VIDEO|PATTERN",
        help="What to search: folders, images, videos and patterns such as 'cam*/**/*.jpg'; may be repeated.",
    ),
]
MoreRoots = Annotated[
    list[str] | None, typer.Argument(metavar="MORE", help="More to search, so that `--gallery *.jpg` works.")
]
FilesFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|-", help="Search the images and videos that a file names, a line each; -: standard input."
    ),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="The names of --files-from end in NUL, as from `find -print0`.")
]
Recursive = Annotated[bool, typer.Option(help="Search subfolders too.")]
Every = Annotated[
    str | None,
    typer.Option(
        metavar="N|Ns|Nf",
        help="Search only the first picture and each N-th after it, and of a video each N-th frame. 0.5s: of a video a "
        "frame every half second; 25f: each 25th. Default: all pictures, and of a video a frame a second.",
    ),
]
Start = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Where in each video to begin: hh:mm:ss.mmm, mm:ss or seconds."),
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="The last moment of each video to search.")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="Search only the first N frames (after --every).")]


@dataclass(frozen=True)
class GalleryOptions:
    """Which frames to look through; a group for `groups.flat`."""

    gallery: Roots = None
    more: MoreRoots = None
    files_from: FilesFrom = None
    null: Null = False
    recursive: Recursive = True
    every: Every = None
    start: Start = None
    end: End = None
    limit: Limit = None

    def check(self, queries: Path | None = None) -> None:
        """Before anything is read. queries: of --queries. Raises UsageError for options that do not go together."""
        if not (self.gallery or self.more) and self.files_from is None:
            raise UsageError("expected --gallery with folders, images or videos, or a list of them: --files-from FILE.")
        if self.null and self.files_from is None:
            raise UsageError("--null belongs to --files-from; there is no list whose names could end in NUL.")
        if queries == self.files_from == STDIN:
            raise UsageError("--queries - and --files-from - both read standard input. Put one of them in a file.")

    def find(self, exclude: Iterable[Path] = (), *, objects: bool = False) -> "Gallery":
        """objects: whether URIs of an object store will do. Raises UsageError and NothingToSearchError as
        `list_galleries` does."""
        from qeeps_cli.gallery import read_names
        from qeeps_cli.searching.galleries import list_galleries

        every = int(self.every) if self.every and self.every.isdecimal() else self.every
        cut = {"every": every, "start": self.start, "end": self.end, "limit": self.limit}
        if self.files_from is None:
            return self._find_objects((), objects, cut) or list_galleries(self.roots, self.recursive, exclude, **cut)
        source = "standard input" if self.files_from == STDIN else str(self.files_from)
        with _opened(self.files_from) as stream:
            names = read_names(stream, f"--files-from: {source}", null=self.null)
            cut["files_from"] = str(self.files_from)
            if objects:
                names = list(names)
                if remote := self._find_objects(names, objects, cut):
                    return remote
            return list_galleries(self.roots, self.recursive, exclude, names=names, **cut)

    def _find_objects(self, names: Sequence[str], allowed: bool, cut: dict[str, Any]) -> "Gallery | None":
        """None where there is no URI, neither among the roots nor among the names of a list."""
        from qeeps_cli.distributed.objects import list_objects
        from qeeps_cli.gallery import is_uri

        roots = self.roots
        remote = [name for name in (*roots, *names) if is_uri(name)]
        if not remote:
            return None
        if not allowed:
            raise UsageError(f"{remote[0]} is no file or folder. Only --engine ray reads from object stores.")
        if len(remote) < len(roots) + len(names):
            raise UsageError(f"{remote[0]} is a URI: expected nothing but URIs together, got files or folders too.")
        return list_objects(roots, self.recursive, names=names, **cut)

    @property
    def roots(self) -> list[str]:
        """URIs as they were given, paths tidied: `frames` for `frames/`."""
        from qeeps_cli.gallery import is_uri

        given = (*(self.gallery or ()), *(self.more or ()))
        return [root if is_uri(root) else str(Path(root)) for root in given]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STDIN:
        if sys.stdin is None:
            raise UsageError("--files-from - reads standard input, which is closed.")
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise UsageError(f"--files-from {path} cannot be read: {error.strerror or error}.") from None
    with stream:
        yield stream
