"""Several labelled sets, from a file that lists them."""

from pathlib import Path
from typing import NamedTuple

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.registry import load
from qeeps_cli.errors import UsageError
from qeeps_cli.toml_files import read_toml


class ListedSet(NamedTuple):
    """A set, what the file calls it, and its folder."""

    name: str
    root: Path
    frames: FrameSet


def read_sets(path: Path, base: Path | None = None) -> list[ListedSet]:
    """The sets that a TOML file lists: tables [[set]] with name, kind (of DATASETS) and root, and the options of that
    kind's reader. Roots are relative to base, or to the file's folder.

    Raises UsageError for a file that cannot be read, lists nothing, or holds a table of another form, and what the
    readers raise.
    """
    base, sets = base or path.parent, []
    tables = read_toml(path, "the list of sets").get("set")
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{path} lists no sets: expected tables [[set]] with name, kind and root.")
    for values in tables:
        options = dict(values) if isinstance(values, dict) else {}
        name, kind, root = (options.pop(key, None) for key in ("name", "kind", "root"))
        if not all(isinstance(value, str) for value in (name, kind, root)):
            raise UsageError(f"{path}: expected tables [[set]] with name, kind and root, three texts; got {values}.")
        if name in (listed.name for listed in sets):
            raise UsageError(f"{path} lists two sets named {name!r}: give each a name of its own.")
        try:
            frames = load(kind, base / root, **options)
        except UsageError as error:
            raise UsageError(f"{path}, set {name!r}: {error}") from error
        sets.append(ListedSet(name, base / root, frames))
    return sets
