"""Frames that are no files: objects of an object store, by URI (s3://, gs://, file:// and whatever fsspec knows).

A URI is both the frame's name and, as far as pathlib lets it, its path; nobody opens that path. The digest is that of
the object's bytes, as of a file's.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qeeps_cli.errors import ImageError, NothingToSearchError, UsageError
from qeeps_cli.gallery import CACHE_SUFFIX, FrameList, natural_key
from qeeps_cli.gallery.names import is_image_name
from qeeps_cli.images import ImageFile, image_of
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.reading import read_frame
from qeeps_cli.types import GalleryFrame, Skipped
from qeeps_cli.videos import parse_sampling

_URI = re.compile(r"[a-z][a-z0-9+.-]+://")
_FOLDED = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")


def is_uri(name: str) -> bool:
    return bool(_URI.match(name))


def unfolded(path: Path) -> str:
    """The URI that pathlib has folded (`s3:/bucket/frames`); any other path as it is."""
    text = str(path)
    return text if path.exists() else _FOLDED.sub(lambda m: f"{m[1]}://{'/' if m[1] == 'file' else ''}", text, count=1)


def list_objects(
    roots: Iterable[str],
    recursive: bool = True,
    *,
    names: Iterable[str] = (),
    files_from: str | None = None,
    every: int | str | None = None,
    start: float | str | None = None,
    end: float | str | None = None,
    limit: int | None = None,
) -> Gallery:
    """As `list_galleries`, of URIs of pictures: videos are read as files only. names: URIs of a list, which are not
    looked for. Raises UsageError, and NothingToSearchError."""
    step = parse_sampling(every, start, end).every.pictures
    if (every is not None and step is None) or (start, end) != (None, None):
        raise UsageError("--start, --end and an --every of seconds or frames are for videos, which are no URIs here.")
    roots = tuple(roots)
    found = {uri for root in roots for uri in _list(root, recursive)} | set(names)
    if not found:
        raise NothingToSearchError(f"nothing to search: no image under {', '.join(roots) or files_from}.")
    uris, skipped = _distinct(sorted(found, key=natural_key))
    frames = FrameList(None, uris[::step][:limit])
    return Gallery(roots, frames, recursive, skipped, files_from=files_from, every=every, limit=limit)


def read(frame: GalleryFrame, max_pixels: int) -> ImageFile:
    """A frame's bytes, wherever they are. Raises ImageError."""
    if not is_uri(frame.name):
        return read_frame(frame, max_pixels)
    try:
        system, path = _system(frame.name)
        data = system.cat_file(path)
    except Exception as error:  # every store has exceptions of its own
        raise ImageError(frame.name, f"cannot be read: {_one_line(error)}") from None
    return image_of(frame.path, data)


def _distinct(uris: Iterable[str]) -> tuple[list[str], list[Skipped]]:
    """Those that differ as paths too, by which the cache remembers digests; not `a//1.jpg` beside `a/1.jpg`."""
    kept: dict[str, str] = {}
    skipped = []
    for uri in uris:
        if (first := kept.setdefault(os.path.normpath(uri), uri)) != uri:
            skipped.append(Skipped(uri, f"as a path it is that of {first}: give it another name"))
    return list(kept.values()), skipped


def _list(root: str, recursive: bool) -> list[str]:
    try:
        system, path = _system(root)
        if system.isfile(path):
            return [root]
        paths = system.find(path, maxdepth=None if recursive else 1)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"the gallery {root} cannot be listed: {_one_line(error)}.") from None
    below = [(each, each.removeprefix(path).split("/")) for each in paths]
    return [
        system.unstrip_protocol(each)
        for each, parts in below
        if is_image_name(each) and not any(part.startswith(".") or part.endswith(CACHE_SUFFIX) for part in parts)
    ]


def _system(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it."""
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{uri} cannot be used: {_one_line(error)}.") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
