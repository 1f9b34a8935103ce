"""What people do with a cache: look into it, verify it, compact it, clear it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qeeps_cli.cache import folder as disk
from qeeps_cli.cache.columns import FILES
from qeeps_cli.cache.folder import Survey
from qeeps_cli.cache.merge import counted_rows, merge_all
from qeeps_cli.cache.segment import Segment
from qeeps_cli.errors import CacheError, OutputError


@dataclass(frozen=True)
class Group:
    """The segments of one kind ("frames", "pairs", "files") and fingerprint.

    rows: frames, pairs or files that count; superseded: older ones of the same. people: detections of both.
    """

    kind: str
    fingerprint: dict[str, Any]
    segments: int
    rows: int
    superseded: int
    people: int
    size: int


@dataclass(frozen=True)
class Change:
    """What compacting or clearing did to the files of the cache. Sizes in bytes."""

    files_before: int
    size_before: int
    files_after: int
    size_after: int


def inspect(folder: Path) -> Survey:
    """Lists the cache and verifies every segment; changes nothing. Raises CacheError where there is no cache."""
    if not folder.is_dir():
        raise CacheError(f"there is no cache {folder}. `qeeps index --gallery DIR` makes one.")
    return disk.survey(folder)


def problems(found: Survey) -> dict[str, str]:
    """The names of the segments that cannot be used although they are of this version, with the reasons."""
    reasons = {item.name: item.reason for item in found.ignored}
    reasons |= {path.name: "damaged: its bytes are not those that were written" for path in found.damaged}
    return {path.name: reasons[path.name] for path in found.paths if path.name in reasons}


def describe(segments: Iterable[Segment]) -> list[Group]:
    """What is in the segments: the groups in the order of kind and fingerprint."""
    groups = []
    for (kind, fingerprint), group in _groups(segments).items():
        rows = sum(counted_rows(group))
        superseded = sum(segment.rows for segment in group) - rows
        people = sum(segment.entries("boxes") for segment in group if kind != FILES.name)
        size = sum(segment.size for segment in group)
        groups.append(Group(kind, json.loads(fingerprint), len(group), rows, superseded, people, size))
    return groups


def compact(folder: Path, keep: Callable[[dict[str, Any]], bool] = lambda fingerprint: True) -> Change:
    """Merges segments, and removes superseded rows, damaged segments, those of older versions and what killed processes
    have left. What is found in the cache stays the same. keep: whether what was computed under a fingerprint stays.

    Other processes may use the cache meanwhile. Raises CacheError where there is no cache, or one that cannot be
    written, OutputError on a full disk.
    """
    found = inspect(folder)
    before = _ours(found)
    _check_writable(folder)
    for (kind, fingerprint), group in _groups(found.segments).items():
        if kind == FILES.name or keep(json.loads(fingerprint)):
            _merge(folder, group)
        else:
            _remove(segment.path for segment in group)
    _remove([*found.damaged, *found.older, *found.aside, *filter(disk.is_stale, found.temporaries)])
    return _change(before, folder)


def clear(folder: Path) -> Change:
    """Removes all segments and what killed processes have left, and then the folder if it is empty.

    Files that are not named as ours stay. Raises CacheError where there is no cache, or one that cannot be written.
    """
    if not folder.is_dir():
        raise CacheError(f"there is no cache {folder}.")
    found = disk.survey(folder, kinds=())
    before = _ours(found)
    _check_writable(folder)
    _remove([*found.paths, *found.aside, *filter(disk.is_stale, found.temporaries)])
    try:
        folder.rmdir()
    except OSError:  # it holds other files
        return _change(before, folder)
    return _change(before, folder)


def _groups(segments: Iterable[Segment]) -> dict[tuple[str, str], list[Segment]]:
    groups: dict[tuple[str, str], list[Segment]] = {}
    for segment in sorted(segments, key=lambda segment: (segment.kind.name, segment.fingerprint, segment.path)):
        groups.setdefault((segment.kind.name, segment.fingerprint), []).append(segment)
    return groups


def _merge(folder: Path, group: list[Segment]) -> None:
    try:
        merge_all(folder, group)
    except FileNotFoundError:
        raise CacheError(f"another process compacts the cache {folder} too. Nothing is lost.") from None
    except disk.NotWritableError as error:
        raise CacheError(f"the cache {folder} cannot be written: {error}.") from None


def _check_writable(folder: Path) -> None:
    if not disk.is_writable(folder):
        raise CacheError(f"the cache {folder} cannot be written. Check its permissions.")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}. Check the permissions of the cache.") from error


def _ours(found: Survey) -> list[int]:
    """The sizes of our files."""
    sizes = []
    for path in (*found.paths, *found.aside, *found.temporaries):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sizes


def _change(before: list[int], folder: Path) -> Change:
    after = _ours(disk.survey(folder, kinds=()))
    return Change(len(before), sum(before), len(after), sum(after))
