"""What all readers share: files that must be there, JSON that must parse, and messages that say what was looked for."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from qeeps_cli.errors import DataError

NAMED = 3  # how many missing files a message names before it only counts


class Listing:
    """Which files exist, by one directory listing per folder: 18,000 images are checked without 18,000 stats."""

    def __init__(self) -> None:
        self._folders: dict[Path, frozenset[str]] = {}

    def holds(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._folders:
            try:
                self._folders[folder] = frozenset(entry.name for entry in folder.iterdir())
            except OSError:
                self._folders[folder] = frozenset()
        return path.name in self._folders[folder]


def require_folder(path: Path, what: str) -> Path:
    """The folder itself. Raises DataError, saying what it should have been, if it is not one."""
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise DataError(f"{path} {state}; expected {what}.")
    return path


def find_root(root: Path, wanted: Sequence[str], what: str, inside: Sequence[str] = ()) -> Path:
    """The folder that holds all of `wanted`: root, or the first that does of the folders `inside` it.

    Raises DataError, saying what was looked for and where, and which folder a level or two higher or lower has it.
    """
    require_folder(root, what)
    places = [root, *(root / name for name in inside)]
    for place in places:
        if not _lacking(place, wanted):
            return place
    nearest = min(places, key=lambda place: len(_lacking(place, wanted)))
    lacking = " and ".join(f"{name}/" for name in _lacking(nearest, wanted))
    hint = next((f" Did you mean {place}?" for place in _around(root, inside) if not _lacking(place, wanted)), "")
    raise DataError(f"{nearest} has no {lacking}; expected {what}. {describe_folder(nearest)}{hint}")


def _lacking(folder: Path, wanted: Sequence[str]) -> list[str]:
    return [name for name in wanted if not (folder / name).is_dir()]


def _around(root: Path, inside: Sequence[str]) -> Iterable[Path]:
    """Folders in whose place root may have been given: those above, then those in it."""
    above = root.resolve().parents[:2]
    below = sorted(entry for entry in root.iterdir() if entry.is_dir())
    for folder in (*above, *below):
        yield folder
        yield from (folder / name for name in inside)


def require_file(path: Path, what: str) -> Path:
    """The file itself. Raises DataError, with what the folder holds instead, if it is not there."""
    if path.is_file():
        return path
    raise DataError(f"{path} does not exist; expected {what}. {describe_folder(path.parent)}")


def require_all(missing: Iterable[str], where: Path, what: str) -> None:
    """Raises DataError, naming the first few, if anything is missing."""
    missing = list(missing)
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DataError(f"{where}: {len(missing)} {what}: {', '.join(missing[:NAMED])}{more}.")


def describe_folder(folder: Path) -> str:
    """One sentence on what a folder holds, for messages about what it lacks."""
    if not folder.is_dir():
        return f"The folder {folder} does not exist either: is the root right?"
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return f"The folder {folder} is empty."
    more = ", …" if len(names) > 8 else ""
    return f"The folder {folder} holds: {', '.join(names[:8])}{more}."


def read_json(path: Path, what: str):
    """The parsed file. Raises DataError if it is absent or not JSON in UTF-8."""
    require_file(path, what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); expected {what}.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); expected {what}."
        ) from error
