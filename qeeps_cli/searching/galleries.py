"""All frames to search: of one gallery or more, and of a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from qeeps_cli.errors import ImageError, NothingToSearchError, UsageError
from qeeps_cli.gallery import (
    FrameList,
    expand_pattern,
    is_pattern,
    is_video_name,
    list_gallery,
    unite,
    usable_names,
)
from qeeps_cli.types import Skipped
from qeeps_cli.videos import DEFAULT_EVERY, Moments, Sampling, parse_sampling, read_timeline

_REASONS_TOLD = 10


@dataclass(frozen=True)
class Gallery:
    """The frames to search in natural order, and what could not be listed. roots: as they were given. files_from: the
    list's path, or "-"; None: there was none. every, start, end, limit: as in `list_galleries`, every also where a
    default was chosen."""

    roots: tuple[str, ...]
    frames: FrameList
    recursive: bool = True
    skipped: list[Skipped] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    files_from: str | None = None
    every: int | str | None = None
    start: float | str | None = None
    end: float | str | None = None
    limit: int | None = None

    @property
    def home(self) -> Path:
        """A root, or else a frame: where something that belongs to the gallery has its place."""
        first = self.roots[0] if self.roots else ""
        return Path(first) if first and not is_pattern(first) else self.frames[0].path

    def to_dict(self) -> dict[str, Any]:
        """How it was asked for, as JSON types; without what was not asked for."""
        asked = {name: getattr(self, name) for name in ("files_from", "every", "start", "end", "limit")}
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
    every: int | str | None = None,
    start: float | str | None = None,
    end: float | str | None = None,
    limit: int | None = None,
) -> Gallery:
    """The frames of one gallery or more; a file that several of them lead to is listed once.

    roots: folders, images, videos, and glob patterns (see `expand_pattern`). names: further files, of a list that is
    called files_from. With one folder and nothing else, names are relative to it; else they are paths. every: of the
    pictures in their order, and of each video's frames, only the first and each N-th after it; or "1s" or "25f", of
    videos only (see `parse_every`); None: all pictures, and a frame a second. start, end: of videos, as in
    `parse_clock`. limit: only the first N of what is then left. Videos are read, but not decoded.

    Raises UsageError for a root that cannot be used, NothingToSearchError when nothing is left to search.
    """
    sampling = parse_sampling(every, start, end)
    if limit is not None and limit < 1:
        raise UsageError(f"limit expects a whole number of at least 1, got {limit!r}.")
    if not roots and names is None:
        raise UsageError("expected at least one gallery, a folder or an image, got none.")
    listing = _Listing(recursive, list(exclude), alone=len(roots) == 1 and names is None)
    for root in roots:
        listing.add_root(root)
    if names is not None:
        listing.add_names(names, files_from or "the list")
    files = listing.files()
    has_videos = any(map(is_video_name, files.names))
    if has_videos:
        frames = _with_videos(files, sampling, listing, tells_default=every is None)
    elif every is not None and sampling.every.pictures is None:
        raise UsageError(
            f"--every {every} is for videos, of which the gallery has none; --every N takes each N-th picture."
        )
    elif sampling.start is not None or sampling.end is not None:
        raise UsageError("--start and --end are for videos, of which the gallery has none.")
    else:
        frames = FrameList(files.root, files.names[:: sampling.every.pictures])
    return Gallery(
        roots=tuple(map(str, roots)),
        frames=frames if limit is None else frames.first(limit),
        recursive=recursive,
        skipped=listing.skipped,
        notes=tuple(listing.notes),
        files_from=None if names is None else files_from,
        every=DEFAULT_EVERY if every is None and has_videos else every,
        start=start,
        end=end,
        limit=limit,
    )


def nothing_searched(skipped: Sequence[Skipped], notes: Sequence[str]) -> NothingToSearchError:
    """The error of a gallery of which no frame could be used, with the reasons."""
    lines = [f"  {item.name}: {item.reason}" for item in skipped[:_REASONS_TOLD]]
    if len(skipped) > _REASONS_TOLD:
        lines.append(f"  and {len(skipped) - _REASONS_TOLD} more")
    reasons = "\n".join([*lines, *(f"  {note}" for note in notes)])
    return NothingToSearchError(f"nothing to search: none of the gallery's images could be used.\n{reasons}")


def _with_videos(files: FrameList, sampling: Sampling, listing: "_Listing", tells_default: bool) -> FrameList:
    """The frames of files of which some are videos. What those lack goes to the listing."""
    videos: dict[str, Moments] = {}
    shown, paths = 0, dict(zip(files.names, files.paths(), strict=True))
    for name in filter(is_video_name, files.names):
        try:
            timeline = read_timeline(Path(paths[name]))
        except ImageError as error:
            listing.skipped.append(Skipped(name, error.reason))
            continue
        if timeline.lost:
            listing.skipped.append(Skipped(name, timeline.lost))
        moments = sampling.pick(timeline)
        if not len(moments):
            listing.notes.append(f"{name} has no frame in the time to search; its last one is at {timeline.end}")
            continue
        videos[name] = moments
        shown += len(timeline)
    pictures = [name for name in files.names if not is_video_name(name)][:: sampling.every.pictures]
    kept = videos.keys() | set(pictures)
    if not kept:
        raise nothing_searched(listing.skipped, listing.notes)
    if tells_default and videos:
        taken = sum(map(len, videos.values()))
        listing.notes.append(
            f"of videos, one frame a second is searched: {taken} of {shown} frames; --every 0.2s or --every 5f looks "
            "more closely"
        )
    return FrameList(files.root, [name for name in files.names if name in kept], videos)


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

    def files(self) -> FrameList:
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
            raise NothingToSearchError(f"nothing to search: no image or video matches {pattern}.")

    def _add_folder(self, root: Path) -> None:
        """Or an image."""
        skipped: list[Skipped] = []
        try:
            self.paths += self._list(root, skipped).paths()
        finally:
            self.skipped += [replace(item, name=(root / item.name).as_posix()) for item in skipped]

    def _list(self, root: Path, skipped: list[Skipped]) -> FrameList:
        return list_gallery(root, recursive=self.recursive, exclude=self.exclude, skipped=skipped, notes=self.notes)
