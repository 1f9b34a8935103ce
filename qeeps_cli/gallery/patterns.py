"""Glob patterns that no shell has expanded: `frames/*.jpg`, `cam?/2024*`, `archive/**/*.png`."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from qeeps_cli.gallery.disk import Identity, identities_of, is_among, kind_of
from qeeps_cli.gallery.names import CACHE_SUFFIX, OUTPUT_MARKER, is_searchable_name
from qeeps_cli.types import Skipped

_MAGIC = re.compile(r"[*?[]")
_ANY_DEPTH = "**"


def is_pattern(text: str) -> bool:
    """Whether it has a wildcard (`*`, `?`, `[`) and is not itself the name of something."""
    return bool(_MAGIC.search(text)) and not os.path.lexists(text)


def expand_pattern(
    pattern: str, *, exclude: Iterable[Path] = (), skipped: list[Skipped] | None = None
) -> Iterator[str]:
    """The files and folders that match, in no particular order; a path may come twice.

    `*`, `?` and `[...]` match within a name, `**` any number of folders, among them none. A part that is the name of
    something is taken as it stands, whatever wildcards it has. Of files, images and videos are taken, known by
    extension; where the pattern spells out an extension (`*.data`), all that match. Wildcards pass by what a folder's
    listing leaves out: hidden names (unless the part begins with a dot), qeeps' caches and results. `**` does not
    follow links, so that no loop of them matters.

    exclude: files and folders to leave out. skipped: gets the folders that could not be listed, with the reason.
    """
    path = Path(pattern)
    parts = [part for part, before in zip(path.parts, (None, *path.parts), strict=False) if (part, before) != _TWICE]
    if parts[-1] == _ANY_DEPTH:
        parts.append("*")
    return _Matches(parts, identities_of(exclude), [] if skipped is None else skipped).walk()


_TWICE = (_ANY_DEPTH, _ANY_DEPTH)


class _Matches:
    def __init__(self, parts: list[str], excluded: set[Identity], skipped: list[Skipped]):
        self.parts = parts
        self.excluded = excluded
        self.skipped = skipped
        self.unlistable: set[str] = set()
        self.takes_folders = parts[-2:] != [_ANY_DEPTH, "*"]  # their files match by themselves
        extension = os.path.splitext(parts[-1])[1]
        self.takes_any_file = bool(extension) and not _MAGIC.search(extension)

    def walk(self) -> Iterator[str]:
        # Folders to look into: (path, the number of the part to match there, whether the path was spelled out).
        waiting, seen = [("", 0, True)], set()
        while waiting:
            folder, number, spelled = waiting.pop()
            if (folder, number) in seen:  # two `**` lead to a folder in several ways
                continue
            seen.add((folder, number))
            part = self.parts[number]
            if part == _ANY_DEPTH:
                waiting.append((folder, number + 1, spelled))
                entries = self._list(folder, spelled, lambda name: not name.startswith("."))
                waiting += [
                    (_join(folder, entry.name), number, False)
                    for entry in entries
                    if not entry.is_symlink() and self._is_gallery(entry)
                ]
            elif not _MAGIC.search(part) or os.path.lexists(_join(folder, part)):
                yield from self._follow(_join(folder, part), number, waiting)
            else:
                yield from self._match(folder, number, spelled, waiting)

    def _follow(self, path: str, number: int, waiting: list) -> Iterator[str]:
        """A part that is spelled out."""
        if number + 1 < len(self.parts):
            waiting.append((path, number + 1, True))
        elif os.path.exists(path) and not is_among(path, self.excluded):
            yield path

    def _match(self, folder: str, number: int, spelled: bool, waiting: list) -> Iterator[str]:
        """A part with wildcards."""
        part = self.parts[number]
        fits = re.compile(fnmatch.translate(part)).match
        hidden = part.startswith(".")
        is_last = number + 1 == len(self.parts)
        for entry in self._list(folder, spelled, lambda name: fits(name) and (hidden or not name.startswith("."))):
            path = _join(folder, entry.name)
            if not is_last:
                if self._is_gallery(entry):
                    waiting.append((path, number + 1, False))
            elif kind_of(entry) == "file":
                if (self.takes_any_file or is_searchable_name(path)) and not is_among(path, self.excluded):
                    yield path
            elif self.takes_folders and self._is_gallery(entry) and not os.path.exists(f"{path}/{OUTPUT_MARKER}"):
                yield path

    def _is_gallery(self, entry: os.DirEntry) -> bool:
        is_folder = kind_of(entry) == "folder" and not entry.name.endswith(CACHE_SUFFIX)
        return is_folder and not is_among(entry.path, self.excluded)

    def _list(self, folder: str, spelled: bool, wanted: Callable[[str], object]) -> Iterator[os.DirEntry]:
        """The entries with wanted names; none of a folder with results, unless it was spelled out."""
        if not spelled and os.path.exists(f"{folder}/{OUTPUT_MARKER}"):
            return
        try:
            with os.scandir(folder or ".") as listing:
                yield from (entry for entry in listing if wanted(entry.name))
        except (FileNotFoundError, NotADirectoryError):  # as where a shell's pattern matches nothing
            return
        except OSError as error:
            if folder not in self.unlistable:  # `**` comes to a folder once, and what follows it once more
                self.unlistable.add(folder)
                self.skipped.append(Skipped(folder or ".", f"this folder cannot be listed: {error.strerror}"))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and folder != "/" else f"{folder}{name}"
