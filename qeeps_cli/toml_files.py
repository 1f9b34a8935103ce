"""What users write in TOML: recipes, lists of sets."""

import tomllib
from pathlib import Path
from typing import Any

from qeeps_cli.errors import UsageError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The file's tables. what: "the recipe", for messages. Raises UsageError if it cannot be read or is no TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}.") from error
