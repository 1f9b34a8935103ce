"""What is to be searched: the images of a folder, in an order that does not depend on how the disk lists them."""

import heapq
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.types import GalleryFrame, Skipped

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm"}
    | {".pnm"}
)

OUTPUT_MARKER = ".qeeps-output"  # writers put a file of this name into every folder that they fill with pictures
CACHE_SUFFIX = ".qeeps"

Identity = tuple[int, int]  # device and inode: one for all paths and links to a file


def list_gallery(
    root: Path, *, recursive: bool = True, exclude: Iterable[Path] = (), skipped: list[Skipped] | None = None
) -> "FrameList":
    """The images under root in natural order (`2.jpg` before `10.jpg`), known by extension in any case.

    root: a folder, or one image, which is then a gallery of one. exclude: folders and files to leave out; they need not
    exist. skipped: gets the subfolders that could not be listed, with the reason.

    Left out are names that begin with a dot, qeeps' own caches (`*.qeeps`) and results (folders with OUTPUT_MARKER),
    and what is no file in the end: dangling links, pipes, devices. Links to folders are followed; a folder that several
    links or a loop of links lead to is listed once.

    Raises UsageError where root is missing, cannot be listed or is itself excluded, NothingToSearchError where it holds
    no image.
    """
    root = Path(root)
    status = _stat_root(root)
    excluded = {_identity(found) for path in exclude if (found := _stat(path))}
    if _identity(status) in excluded:
        raise UsageError(
            f"the gallery {root} is itself excluded from the search, as the query or as the place of the results. "
            "Write results to another folder; one inside the gallery will do."
        )
    if stat.S_ISREG(status.st_mode):
        return FrameList(root.parent, [root.name])
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"the gallery {root} is neither a folder nor an image file, but a pipe, socket or device.")
    walk = _Walk(root, recursive, excluded)
    names = sorted((name for name in walk if _is_image_name(name)), key=natural_key)
    if not names:
        raise NothingToSearchError(_nothing_found(root, walk))
    if skipped is not None:
        skipped.extend(sorted(walk.skipped, key=lambda item: natural_key(item.name)))
    return FrameList(root, names)


class FrameList(Sequence[GalleryFrame]):
    """Frames of one folder, or of any (root None: names are paths). Holds the names only; frames are made when they are
    asked for, so that a hundred thousand of them take little memory."""

    def __init__(self, root: Path | None, names: list[str]):
        self.root = root
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return FrameList(self.root, self.names[index])
        name = self.names[index]
        return GalleryFrame(Path(name) if self.root is None else self.root / name, name)


def natural_key(name: str) -> str:
    """Sort key of a relative path: folder by folder, numbers by value, then letters without case; total, so that no two
    names are equal."""
    # One string a name, for the memory's sake. A name has no NUL, which therefore ends whatever comes before a longer
    # name's next letter; what follows it says how: the path ends, its component ends, or a number follows.
    parts = (_NUMBER.sub(_number_key, part.casefold()) for part in name.split("/"))
    return f"{_COMPONENT_ENDS.join(parts)}{_PATH_ENDS}{name}"


_NUMBER = re.compile("[0-9]+")
_PATH_ENDS, _COMPONENT_ENDS, _NUMBER_FOLLOWS = "\0\0", "\0\1", "\0\2"


def _number_key(match: re.Match) -> str:
    """Of two numbers the one with more digits is larger."""
    digits = match[0].lstrip("0")
    return f"{_NUMBER_FOLLOWS}{chr(len(digits))}{digits}"


class _Walk:
    """Iterates over the names of all files under a folder, relative and with forward slashes."""

    def __init__(self, root: Path, recursive: bool, excluded: set[Identity]):
        self.root = root
        self.recursive = recursive
        self.excluded = excluded
        self.skipped: list[Skipped] = []
        self.subfolders_left = 0

    def __iter__(self) -> Iterator[str]:
        # Links wait until all real folders are listed: a folder inside the gallery then has its own name and not that
        # of a link to it, and the order in which the disk lists them does not matter.
        folders, links, seen = [""], [], set()
        while folders or links:
            folder = folders.pop() if folders else heapq.heappop(links)[-1]
            for entry in self._list(folder, seen):
                name = f"{folder}/{entry.name}" if folder else entry.name
                kind = _kind(entry)
                if kind == "file" and not self._is_excluded(entry):
                    yield name
                elif kind == "folder" and not entry.name.endswith(CACHE_SUFFIX):
                    if not self.recursive:
                        self.subfolders_left += 1
                    elif entry.is_symlink():
                        heapq.heappush(links, (natural_key(name), name))
                    else:
                        folders.append(name)

    def _list(self, folder: str, seen: set[Identity]) -> list[os.DirEntry]:
        try:
            identity = _identity(os.stat(self.root / folder))
            if identity in seen or identity in self.excluded:
                return []
            seen.add(identity)
            with os.scandir(self.root / folder) as listing:
                entries = list(listing)
        except OSError as error:
            if not folder:
                raise UsageError(f"the gallery {self.root} cannot be listed: {error.strerror}.") from None
            self.skipped.append(Skipped(folder, f"this folder cannot be listed: {error.strerror}"))
            return []
        if folder and any(entry.name == OUTPUT_MARKER for entry in entries):
            return []
        return [entry for entry in entries if not entry.name.startswith(".")]

    def _is_excluded(self, entry: os.DirEntry) -> bool:
        return bool(self.excluded) and (status := _stat(entry.path)) is not None and _identity(status) in self.excluded


def _kind(entry: os.DirEntry) -> str | None:
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else None
    except OSError:  # a link that leads round to itself
        return None


def _is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def _stat_root(root: Path) -> os.stat_result:
    try:
        return os.stat(root)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the gallery {root} cannot be used: {reason}. Give a folder or an image.") from None


def _stat(path: Path | str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _nothing_found(root: Path, walk: _Walk) -> str:
    message = f"nothing to search: {root} holds no image ({', '.join(sorted(IMAGE_EXTENSIONS))})."
    if walk.subfolders_left:
        message += f" Its {walk.subfolders_left} subfolders were not searched; --recursive searches them too."
    for item in walk.skipped:
        message += f"\n  {item.name}: {item.reason}"
    return message
