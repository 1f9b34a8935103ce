"""Names of what may be searched: which are images or videos, and how they are ordered."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm"}
    | {".pnm"}
)
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"}
    | {".wmv", ".asf", ".flv", ".ogv"}
)
# Pictures that a folder of photographs may hold and that nobody here can decode: left out, and said so.
UNREAD_EXTENSIONS = frozenset(
    {".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
)

_URI = re.compile(r"[a-z][a-z0-9+.-]+://")

OUTPUT_MARKER = ".qeeps-output"  # writers put a file of this name into every folder that they fill with pictures
CACHE_SUFFIX = ".qeeps"


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


def distinct(paths: Iterable[str]) -> Iterator[str]:
    """Each file once: of several paths to it, the first."""
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


def unread_extension(name: str) -> str | None:
    """The extension, in small letters, of a picture in a format that is not read; None for any other file."""
    extension = _extension(name)
    return extension if extension in UNREAD_EXTENSIONS else None


def is_searchable_name(name: str) -> bool:
    """Whether it is that of an image or a video, by the extension, in any case."""
    return is_image_name(name) or is_video_name(name)


def is_uri(name: str) -> bool:
    """Whether it names an object of an object store (`s3://bucket/1.jpg`). A path would lose slashes of it."""
    return bool(_URI.match(name))


def is_image_name(name: str) -> bool:
    """By the extension, in any case."""
    return _extension(name) in IMAGE_EXTENSIONS


def is_video_name(name: str) -> bool:
    """By the extension, in any case."""
    return _extension(name) in VIDEO_EXTENSIONS


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()
