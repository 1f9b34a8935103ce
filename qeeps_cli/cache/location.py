"""Where the cache of a gallery is."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from qeeps_cli.cache.folder import is_writable, survey
from qeeps_cli.errors import CacheError

SUFFIX = ".qeeps"  # a gallery inside which it lies does not list it


def choose_folder(roots: Sequence[Path], given: Path | None = None) -> Path:
    """`given`, else `<gallery>.qeeps` beside the first root, else a folder in the user's own cache.

    A root that is a file counts as the folder that it is in. Beside the root: where a cache is already, or where one
    could be made. The user's own cache: $XDG_CACHE_HOME or ~/.cache; the name there holds a digest of the root's
    absolute path. Raises CacheError where there is none of these.
    """
    if given is not None:
        return given
    root = Path(os.path.abspath(roots[0]))
    if os.path.isfile(root):
        root = root.parent
    beside = root.with_name(root.name + SUFFIX) if root.name else None
    if beside and (os.path.isdir(beside) or is_writable(beside)):
        return beside
    digest = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    return _user_cache() / "qeeps" / f"{root.name or 'root'}-{digest}{SUFFIX}"


def _user_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the standard says that a relative one is to be ignored
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise CacheError("no place for a cache: there is no home folder. Name one with --cache.") from None


def find_folder(place: Path) -> Path:
    """The cache that a path names: a cache folder, or the gallery that has one."""
    if place.name.endswith(SUFFIX) or not os.path.exists(place):
        return place
    is_cache = os.path.isdir(place) and survey(place, kinds=()).paths
    return place if is_cache else choose_folder([place])
