"""What a path leads to."""

import os
from collections.abc import Iterable
from pathlib import Path

Identity = tuple[int, int]  # device and inode: one for all paths and links to a file


def kind_of(entry: os.DirEntry) -> str | None:
    """"file" or "folder", also through links; None for pipes, devices and links that lead nowhere."""
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else None
    except OSError:  # a link that leads round to itself
        return None


def status_of(path: Path | str) -> os.stat_result | None:
    """None where there is nothing."""
    try:
        return os.stat(path)
    except OSError:
        return None


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def identities_of(paths: Iterable[Path]) -> set[Identity]:
    """Of those that exist."""
    return {identity_of(status) for path in paths if (status := status_of(path))}


def is_among(path: str, identities: set[Identity]) -> bool:
    """Whether a path leads to one of them; asks the disk only where there are any."""
    return bool(identities) and (status := status_of(path)) is not None and identity_of(status) in identities
