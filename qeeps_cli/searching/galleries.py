"""All frames to search: of one gallery or more, and of a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.gallery import FrameList, expand_pattern, is_pattern, list_gallery, unite, usable_names
from qeeps_cli.types import Skipped

_REASONS_TOLD = 10


@dataclass(frozen=True)
class Gallery:
    """The frames to search in natural order, and what could not be listed. roots: as they were given. files_from: the
    list's path, or "-"; None: there was none. every, limit: as in `list_galleries`."""

    roots: tuple[str, ...]
    frames: FrameList
    recursive: bool = True
    skipped: list[Skipped] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    files_from: str | None = None
    every: int | None = None
    limit: int | None = None

    @property
    def home(self) -> Path:
        """A root, or else a frame: where something that belongs to the gallery has its place."""
        first = self.roots[0] if self.roots else ""
        return Path(first) if first and not is_pattern(first) else self.frames[0].path

    def to_dict(self) -> dict[str, Any]:
        """How it was asked for, as JSON types; without what was not asked for."""
        asked = {"files_from": self.files_from, "every": self.every, "limit": self.limit}
        return {
            "gallery": list(self.roots),
            "recursive": self.recursive,
            **{name: value for name, value in asked.items() if value is not None},
        }


def list_galleries(
    roots: Sequence[Path | str],
    recursive: bool = True,
    exclude: Iterable[Path] = (),
    *,
    names: Iterable[str] | None = None,
    files_from: str | None = None,
    every: int | None = None,
    limit: int | None = None,
) -> Gallery:
    """The frames of one gallery or more; a frame that several of them lead to is listed once.

    roots: folders, images, and glob patterns (see `expand_pattern`). names: further images, of a list that is called
    files_from. With one folder and nothing else, names are relative to it; else they are paths. every: of the frames in
    their order, only the first and each N-th after it. limit: only the first N of what is then left.

    Raises UsageError for a root that cannot be used, NothingToSearchError when nothing is left to search.
    """
    for name, value in (("every", every), ("limit", limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name} expects a whole number of at least 1, got {value!r}.")
    if not roots and names is None:
        raise UsageError("expected at least one gallery, a folder or an image, got none.")
    listing = _Listing(recursive, list(exclude), alone=len(roots) == 1 and names is None)
    for root in roots:
        listing.add_root(root)
    if names is not None:
        listing.add_names(names, files_from or "the list")
    return Gallery(
        roots=tuple(map(str, roots)),
        frames=listing.frames()[::every][:limit],
        recursive=recursive,
        skipped=listing.skipped,
        notes=tuple(listing.notes),
        files_from=None if names is None else files_from,
        every=every,
        limit=limit,
    )


def nothing_searched(skipped: Sequence[Skipped], notes: Sequence[str]) -> NothingToSearchError:
    """The error of a gallery of which no frame could be used, with the reasons."""
    lines = [f"  {item.name}: {item.reason}" for item in skipped[:_REASONS_TOLD]]
    if len(skipped) > _REASONS_TOLD:
        lines.append(f"  and {len(skipped) - _REASONS_TOLD} more")
    reasons = "\n".join([*lines, *(f"  {note}" for note in notes)])
    return NothingToSearchError(f"nothing to search: none of the gallery's images could be used.\n{reasons}")


@dataclass
class _Listing:
    """alone: there is one root and nothing else."""

    recursive: bool
    exclude: list[Path]
    alone: bool
    paths: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    only: FrameList | None = None
    empty: list[NothingToSearchError] = field(default_factory=list)

    def add_root(self, root: Path | str) -> None:
        try:
            if is_pattern(str(root)):
                self._add_pattern(str(root))
            elif self.alone:
                self.only = self._list(Path(root), self.skipped)
            else:
                self._add_folder(Path(root))
        except NothingToSearchError as error:
            self._note_empty(error)

    def add_names(self, names: Iterable[str], source: str) -> None:
        names = iter(names)
        if (first := next(names, None)) is None:
            self._note_empty(NothingToSearchError(f"nothing to search: {source} names no file."))
        else:
            listed = chain([first], names)
            self.paths += usable_names(listed, exclude=self.exclude, skipped=self.skipped, notes=self.notes)

    def frames(self) -> FrameList:
        if self.only is not None:
            return self.only
        if self.paths:
            return unite(self.paths)
        raise self.empty[0] if self.empty and not self.skipped else nothing_searched(self.skipped, self.notes)

    def _note_empty(self, error: NothingToSearchError) -> None:
        self.empty.append(error)
        self.notes.append(str(error).splitlines()[0])

    def _add_pattern(self, pattern: str) -> None:
        before = len(self.paths)
        for path in expand_pattern(pattern, exclude=self.exclude, skipped=self.skipped):
            if not Path(path).is_dir():
                self.paths.append(path)
                continue
            try:
                self._add_folder(Path(path))
            except NothingToSearchError:
                pass  # nobody named this folder
        if len(self.paths) == before:
            raise NothingToSearchError(f"nothing to search: no image matches {pattern}.")

    def _add_folder(self, root: Path) -> None:
        """Or an image."""
        skipped: list[Skipped] = []
        try:
            self.paths += self._list(root, skipped).paths()
        finally:
            self.skipped += [replace(item, name=(root / item.name).as_posix()) for item in skipped]

    def _list(self, root: Path, skipped: list[Skipped]) -> FrameList:
        return list_gallery(root, recursive=self.recursive, exclude=self.exclude, skipped=skipped)
