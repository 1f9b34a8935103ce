"""Frames that are no files: objects of an object store, by URI (s3://, gs://, file:// and whatever fsspec knows).

A URI is both the frame's name and, as far as pathlib lets it, its path; nobody opens that path. The digest is that of
the object's bytes, as of a file's.
"""

import os
from collections.abc import Iterable
from typing import Any

from qeeps_cli.errors import ImageError, NothingToSearchError, UsageError
from qeeps_cli.gallery import CACHE_SUFFIX, FrameList, is_uri, is_video_name, natural_key
from qeeps_cli.gallery.names import is_searchable_name
from qeeps_cli.images import ImageFile, image_of
from qeeps_cli.searching.galleries import Gallery, nothing_searched
from qeeps_cli.searching.reading import read_frame
from qeeps_cli.types import GalleryFrame, Skipped
from qeeps_cli.videos import parse_sampling

_VIDEO = "a video in an object store is not read; copy it to a folder, and search that"


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
    """As `list_galleries`, of URIs of pictures: videos are read as files only, and skipped here. names: URIs of a
    list, which are not looked for. Raises UsageError, and NothingToSearchError."""
    step = parse_sampling(every, start, end).every.pictures
    if (every is not None and step is None) or (start, end) != (None, None):
        raise UsageError("--start, --end and an --every of seconds or frames are for videos, which are no URIs here.")
    roots = tuple(roots)
    found = {uri for root in roots for uri in _list(root, recursive)} | set(names)
    if not found:
        raise NothingToSearchError(f"nothing to search: no image under {', '.join(roots) or files_from}.")
    ordered = sorted(found, key=natural_key)
    pictures, skipped = _distinct([uri for uri in ordered if not is_video_name(uri)])
    skipped += [Skipped(uri, _VIDEO) for uri in filter(is_video_name, ordered)]
    if not pictures:
        raise nothing_searched(skipped, ())
    frames = FrameList(None, pictures[::step][:limit])
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
    folder = path.rstrip("/")
    return [
        _uri(root, folder, each, system)
        for each in paths
        if is_searchable_name(each) and not any(map(_is_left_out, each.removeprefix(folder).split("/")))
    ]


def _uri(root: str, folder: str, path: str, system: Any) -> str:
    """Of a path below the root's folder. It goes on from the root as it was given: `unstrip_protocol` would lose the
    host of hdfs://host/frames. Only of local files the root may be relative, to a folder in which no worker stands."""
    from fsspec.implementations.local import LocalFileSystem

    if not path.startswith(f"{folder}/") or isinstance(system, LocalFileSystem):
        return system.unstrip_protocol(path)
    scheme, _, place = root.partition("://")
    return f"{scheme}://{place.rstrip('/')}{path.removeprefix(folder)}"


def _is_left_out(part: str) -> bool:
    return part.startswith(".") or part.endswith(CACHE_SUFFIX)


def _system(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it."""
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{uri} cannot be used: {_one_line(error)}.") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
