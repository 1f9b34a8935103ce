"""A run's folder: the state from which a killed run resumes exactly, and the JSONL log."""

import json
import os
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch

from qeeps_cli.errors import DataError
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.training.config import DataSource, StageConfig, TrainConfig

STATE = "state.pt"
LOG = "log.jsonl"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Atomically: a kill in the middle leaves the state before."""
    temporary = folder / f".{STATE}.tmp"
    torch.save(state, temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, folder / STATE)


def load_state(folder: Path, config: TrainConfig) -> dict[str, Any] | None:
    """The state to resume from, or None for a new run. Raises DataError if the run was made by another recipe."""
    path = folder / STATE
    if not path.is_file():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    begun = [*state["done"], state["stage"]]
    found = _with_defaults(json.loads(state["recipe"]))
    wanted, found = _only_stages(config.to_dict(), begun), _only_stages(found, begun)
    if wanted != found:
        raise DataError(
            f"{folder} holds a run of another recipe ({_difference(found, wanted)}). "
            "Resume it with its own recipe, or give another --out."
        )
    return state


def _only_stages(recipe: dict, names: list[str]) -> dict:
    """The recipe without stages that have not begun and without the card's text: those may still be changed."""
    recipe = json.loads(json.dumps(recipe))
    recipe.pop("card", None)
    return recipe | {"stages": {name: stage for name, stage in recipe["stages"].items() if name in names}}


def _with_defaults(recipe: dict) -> dict:
    """The recipe with the keys, at its top, of its model, its data and its stages, that it had no word for when the run
    began: the default of a new key is what was done before it."""
    top = {f.name: f.default for f in fields(TrainConfig) if f.default is not MISSING}
    stage = json.loads(json.dumps(asdict(StageConfig())))
    model = json.loads(json.dumps(ModelConfig().to_dict())) | recipe["model"]
    source = {f.name: f.default for f in fields(DataSource) if f.default is not MISSING}
    data = [source | values for values in recipe["data"]]
    validation = recipe.get("validation") and source | recipe["validation"]
    stages = {name: stage | values for name, values in recipe["stages"].items()}
    return {**top, **recipe, "model": model, "data": data, "validation": validation, "stages": stages}


def _difference(found: dict, wanted: dict, prefix: str = "") -> str:
    for key in sorted(set(found) | set(wanted)):
        a, b = found.get(key), wanted.get(key)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                return _difference(a, b, f"{prefix}{key}.")
            return f"{prefix}{key} was {a!r} and is now {b!r}"
    return "same keys"


class Log:
    """One JSON object a line, appended; lines after the state that a run resumes from are cut off first."""

    def __init__(self, folder: Path, stage: str | None, step: int):
        self.path = folder / LOG
        if self.path.is_file():
            self._cut(stage, step)

    def _cut(self, stage: str | None, step: int) -> None:
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the line in the making when the run was killed
                continue
            if stage is not None and record.get("stage") == stage and record.get("step", 0) > step:
                continue
            kept.append(line)
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def write(self, **record: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.is_file() else []
