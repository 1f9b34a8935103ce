"""Names of frames: which are images, how they are ordered, and how many of them are held."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from qeeps_cli.types import GalleryFrame

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm"}
    | {".pnm"}
)

OUTPUT_MARKER = ".qeeps-output"  # writers put a file of this name into every folder that they fill with pictures
CACHE_SUFFIX = ".qeeps"


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

    def paths(self) -> Iterator[str]:
        """Of all frames, with forward slashes."""
        before = "" if self.root is None else (self.root / "_").as_posix()[:-1]
        return (f"{before}{name}" for name in self.names)


def unite(paths: Iterable[str]) -> FrameList:
    """Frames of any folders in natural order, each file once: of several paths to it, the first in that order."""
    return FrameList(None, list(_distinct(sorted(paths, key=natural_key))))


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


def _distinct(paths: Iterable[str]) -> Iterator[str]:
    real_folder = lru_cache(4096)(os.path.realpath)
    seen: set[bytes] = set()
    for path in paths:
        folder, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), name)
        # A digest takes less memory than a path, of which there may be a million.
        digest = hashlib.blake2b(os.fsencode(real), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield path


def is_image_name(name: str) -> bool:
    """By the extension, in any case."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS
