"""Lists of frames, as `find` and other programs write them: a name a line, or names that end in NUL."""

import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from qeeps_cli.errors import UsageError
from qeeps_cli.gallery.disk import identities_of, is_among
from qeeps_cli.gallery.names import OUTPUT_MARKER
from qeeps_cli.types import Skipped

_BLOCK = 1 << 16
_LONGEST = 1 << 16  # no system takes a path as long as this
_UTF_8_MARK = b"\xef\xbb\xbf"  # as some editors begin a text


def read_names(stream: BinaryIO, source: str, *, null: bool = False) -> Iterator[str]:
    """The names of a list, while it is read; its length does not matter.

    null: names end in NUL (`find -print0`) and may hold anything else. Otherwise each is a line, which may end in a
    carriage return too; blank lines and a byte order mark of UTF-8 mean nothing. A name that is not UTF-8 is kept as
    Python keeps it (surrogateescape). source: the list, for messages. Raises UsageError for what is no such list.
    """
    for record in _records(stream, source, b"\0" if null else b"\n"):
        if null:
            if record:
                yield os.fsdecode(record)
        elif b"\0" in record:
            raise UsageError(
                f"{source} holds NUL, expected a name a line. If its names end in NUL (find -print0), give --null; "
                "if it is UTF-16, save it as UTF-8."
            )
        elif record.strip():
            yield os.fsdecode(record.removesuffix(b"\r"))


def usable_names(
    names: Iterable[str], *, exclude: Iterable[Path] = (), skipped: list[Skipped], notes: list[str]
) -> Iterator[str]:
    """The names that lead to files, as tidy paths (`a/1.jpg`, not `./a//1.jpg`).

    exclude: folders whose files are left out, as are those in folders of qeeps' own results; `notes` tells how many.
    skipped: gets what is no file, with the reason.
    """
    excluded = identities_of(exclude)

    @lru_cache(1024)
    def is_own(folder: str) -> bool:
        return os.path.exists(os.path.join(folder, OUTPUT_MARKER)) or is_among(folder or ".", excluded)

    own = 0
    for name in names:
        path = Path(name).as_posix()
        if reason := _problem(path):
            skipped.append(Skipped(path, reason))
        elif is_own(os.path.dirname(path)):
            own += 1
        else:
            yield path
    if own:
        notes.append(f"{own} of the listed files are results of qeeps and were left out")


def _records(stream: BinaryIO, source: str, separator: bytes) -> Iterator[bytes]:
    rest, separated = _read(stream, source), False
    if separator == b"\n":
        rest = rest.removeprefix(_UTF_8_MARK)
    while True:
        *whole, rest = rest.split(separator)
        separated |= bool(whole)
        yield from whole
        is_long = len(rest) > _LONGEST
        block = b"" if is_long else _read(stream, source)
        if not block:
            break
        rest += block
    if separator == b"\0" and not separated and b"\n" in rest:
        raise UsageError(f"{source} holds no NUL, expected names that end in it. If they are lines, omit --null.")
    if is_long:
        raise UsageError(f"{source} is no list of files: it holds a name of more than {_LONGEST} bytes.")
    yield rest


def _read(stream: BinaryIO, source: str) -> bytes:
    try:
        return stream.read(_BLOCK)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror or error}.") from None


def _problem(path: str) -> str | None:
    """Why this is no file to be opened, without opening it."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if stat.S_ISDIR(mode):
        return "is a folder, expected a picture or a video; give folders with --gallery"
    return None if stat.S_ISREG(mode) else "is no file but a pipe, socket or device"
