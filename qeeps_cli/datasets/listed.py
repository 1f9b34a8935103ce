"""Several labelled sets, from a file that lists them."""

from pathlib import Path
from typing import NamedTuple

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.registry import load
from qeeps_cli.errors import UsageError
from qeeps_cli.toml_files import read_toml


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


# What the readers' options have to be: whether a value is that, and how to say it.
_OPTIONS = {
    "annotations": (lambda value: isinstance(value, str), "a text"),
    "queries": (lambda value: isinstance(value, str), "a text"),
    "split": (lambda value: isinstance(value, str), "a text"),
    "extra": (_is_texts, "a list of texts"),
    "gallery_size": (lambda value: type(value) is int or value == "all", 'a whole number or "all"'),
    "cross_camera": (lambda value: isinstance(value, bool), "true or false"),
}


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
        for key, value in options.items():
            fits, expected = _OPTIONS.get(key, (lambda value: True, ""))  # `load` knows which option is of which kind
            if not fits(value):
                raise UsageError(f"{path}: expected {key} of the set {name!r} to be {expected}, got {value!r}.")
        sets.append(ListedSet(name, base / root, load(kind, base / root, **options)))
    return sets
