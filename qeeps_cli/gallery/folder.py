"""The images and videos of a folder, in an order that does not depend on how the disk lists them."""

import heapq
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from qeeps_cli.errors import NothingToSearchError, UsageError
from qeeps_cli.gallery.disk import Identity, identities_of, identity_of, is_among, kind_of
from qeeps_cli.gallery.frames import FrameList
from qeeps_cli.gallery.names import (
    CACHE_SUFFIX,
    IMAGE_EXTENSIONS,
    OUTPUT_MARKER,
    VIDEO_EXTENSIONS,
    is_searchable_name,
    natural_key,
    unread_extension,
)
from qeeps_cli.types import Skipped


def list_gallery(
    root: Path,
    *,
    recursive: bool = True,
    exclude: Iterable[Path] = (),
    skipped: list[Skipped] | None = None,
    notes: list[str] | None = None,
) -> FrameList:
    """The images and videos under root in natural order (`2.jpg` before `10.jpg`), known by extension in any case.

    root: a folder, or one file, which is then a gallery of one. exclude: folders and files to leave out; they need not
    exist. skipped: gets the subfolders that could not be listed, with the reason. notes: gets a sentence about pictures
    of formats that are not read, if there are any.

    Left out are names that begin with a dot, qeeps' own caches (`*.qeeps`) and results (folders with OUTPUT_MARKER),
    and what is no file in the end: dangling links, pipes, devices. Links to folders are followed; a folder that several
    links or a loop of links lead to is listed once.

    Raises UsageError where root is missing, cannot be listed or is itself excluded, NothingToSearchError where it holds
    neither.
    """
    root = Path(root)
    status = _stat_root(root)
    excluded = identities_of(exclude)
    if identity_of(status) in excluded:
        raise UsageError(
            f"the gallery {root} is itself excluded from the search, as the query or as the place of the results. "
            "Write results to another folder; one inside the gallery will do."
        )
    if stat.S_ISREG(status.st_mode):
        return FrameList(root.parent, [root.name])
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f"the gallery {root} is neither a folder nor an image or a video, but a pipe, socket or device."
        )
    walk = _Walk(root, recursive, excluded)
    names = sorted(walk.searchable(), key=natural_key)
    if notes is not None and walk.unread:
        notes.append(_unread(root, walk))
    if skipped is not None:
        skipped.extend(sorted(walk.skipped, key=lambda item: natural_key(item.name)))
    if not names:
        raise NothingToSearchError(_nothing_found(root, walk))
    return FrameList(root, names)


class _Walk:
    """Iterates over the names of all files under a folder, relative and with forward slashes."""

    def __init__(self, root: Path, recursive: bool, excluded: set[Identity]):
        self.root = root
        self.recursive = recursive
        self.excluded = excluded
        self.skipped: list[Skipped] = []
        self.subfolders_left = 0
        self.unread: Counter[str] = Counter()  # pictures of formats that are not read, by extension

    def searchable(self) -> Iterator[str]:
        for name in self:
            if is_searchable_name(name):
                yield name
            elif (extension := unread_extension(name)) is not None:
                self.unread[extension] += 1

    def __iter__(self) -> Iterator[str]:
        # Links wait until all real folders are listed: a folder inside the gallery then has its own name and not that
        # of a link to it, and the order in which the disk lists them does not matter.
        folders, links, seen = [""], [], set()
        while folders or links:
            folder = folders.pop() if folders else heapq.heappop(links)[-1]
            for entry in self._list(folder, seen):
                name = f"{folder}/{entry.name}" if folder else entry.name
                kind = kind_of(entry)
                if kind == "file" and not is_among(entry.path, self.excluded):
                    yield name
                elif kind == "folder" and not entry.name.endswith(CACHE_SUFFIX):
                    if not self.recursive:
                        self.subfolders_left += 1
                    elif entry.is_symlink():
                        heapq.heappush(links, (natural_key(name), name))
                    else:
                        folders.append(name)

    def _list(self, folder: str, seen: set[Identity]) -> Iterator[os.DirEntry]:
        place = self.root / folder
        try:
            identity = identity_of(os.stat(place))
            if identity in seen or identity in self.excluded or (folder and (place / OUTPUT_MARKER).exists()):
                return
            seen.add(identity)
            with os.scandir(place) as listing:
                yield from (entry for entry in listing if not entry.name.startswith("."))
        except OSError as error:
            if not folder:
                raise UsageError(f"the gallery {self.root} cannot be listed: {error.strerror}.") from None
            self.skipped.append(Skipped(folder, f"this folder cannot be listed: {error.strerror}"))


def _stat_root(root: Path) -> os.stat_result:
    try:
        return os.stat(root)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the gallery {root} cannot be used: {reason}. Give a folder, an image or a video.") from None


def _nothing_found(root: Path, walk: _Walk) -> str:
    images, videos = (", ".join(sorted(extensions)) for extensions in (IMAGE_EXTENSIONS, VIDEO_EXTENSIONS))
    message = f"nothing to search: {root} holds no image ({images}) and no video ({videos})."
    if walk.subfolders_left:
        message += f" Its {walk.subfolders_left} subfolders were not searched; --recursive searches them too."
    if walk.unread:
        message += f"\n  {_unread(root, walk)}"
    for item in walk.skipped:
        message += f"\n  {item.name}: {item.reason}"
    return message


def _unread(root: Path, walk: _Walk) -> str:
    number = walk.unread.total()
    files = "1 picture" if number == 1 else f"{number} pictures"
    formats = ", ".join(sorted(walk.unread))
    return f"{root}: {files} in a format that is not read ({formats}) left out; convert what is to be searched to JPEG"
