"""Checkpoints: one safetensors file with the weights, and in its metadata everything needed to use them.

Nothing is ever unpickled. A file is verified (digest, structure, every tensor's name and shape) before any of it is
used.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from qeeps_cli.errors import OutputError, UsageError, WeightsError
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.preprocess import PREPROCESSING
from qeeps_cli.model.qeeps import QEEPS

FORMAT = "qeeps.weights/1"
DEFAULT_NAME = "qeeps-r18"
ENVIRONMENT = "QEEPS_WEIGHTS"
CHECKSUMS = "SHA256SUMS"  # as sha256sum writes it; shipped weights stand in one
_PACKAGED = Path(__file__).parent / "weights"  # inside an installed wheel
_CHECKOUT = Path(__file__).parent.parent / "weights"  # in a checkout or an editable install


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. digest: sha256 of the file, hex. card: training data, terms, how it was made."""

    path: Path
    name: str
    digest: str
    config: ModelConfig
    card: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, str]:
        """What results say of the weights that made them."""
        return {"name": self.name, "digest": f"sha256:{self.digest}"}


def find_weights(given: str | Path | None = None) -> Path:
    """The weights to use: those given, then $QEEPS_WEIGHTS, then the shipped default.

    given: a file, or the name of shipped weights ("qeeps-r18"). Raises WeightsError that lists the places searched;
    never reaches for a network.
    """
    wanted = given or os.environ.get(ENVIRONMENT) or DEFAULT_NAME
    source = "--weights" if given else f"${ENVIRONMENT}" if os.environ.get(ENVIRONMENT) else "the default"
    places = [Path(wanted)]
    if os.sep not in str(wanted):
        places += [folder / f"{wanted}.safetensors" for folder in (_PACKAGED, _CHECKOUT)]
    for place in places:
        if place.is_file():
            return place
    searched = "\n".join(f"  {place}" for place in places)
    raise WeightsError(
        f"no weights found for {str(wanted)!r} ({source}). Looked for:\n{searched}\n"
        "Give a .safetensors file with --weights, or reinstall qeeps to get the shipped weights back."
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Metadata of a checkpoint, with the file's digest, without loading its tensors.

    Raises WeightsError when the file is not safetensors, is cut short, or was not written by qeeps.
    """
    metadata = _metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds no qeeps checkpoint: expected the format {FORMAT!r} in its metadata, got "
            f"{metadata.get('format')!r}. Weights are made by `qeeps train`."
        )
    try:
        config = ModelConfig.from_dict(json.loads(metadata["config"]))
        card = json.loads(metadata.get("card", "{}"))
    except (KeyError, ValueError, TypeError, AttributeError, UsageError) as error:
        raise WeightsError(f"{path}: the metadata of this checkpoint cannot be used: {error}") from error
    digest = file_digest(path)
    expected = _listed_digest(path)
    if expected not in (None, digest):
        raise WeightsError(
            f"{path} is not the file that {CHECKSUMS} beside it lists: expected sha256 {expected}, got {digest}. "
            "It was changed or damaged; fetch it again."
        )
    return Checkpoint(path, path.stem, digest, config, card)


def load_model(checkpoint: Checkpoint) -> QEEPS:
    """The network in evaluation mode, float32, on the CPU. Raises WeightsError naming each tensor that does not fit."""
    model = QEEPS(checkpoint.config)
    load_tensors(model, checkpoint.path)
    return model.eval()


def load_tensors(model: torch.nn.Module, path: Path) -> None:
    """Fill every parameter and buffer of model from path, or none: all names and shapes are compared first."""
    expected = model.state_dict()
    with _open(path) as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, not a dict
        problems = [f"  missing: {name} {tuple(expected[name].shape)}" for name in sorted(set(expected) - set(found))]
        problems += [f"  not expected: {name} {found[name]}" for name in sorted(set(found) - set(expected))]
        problems += [
            f"  shape of {name}: expected {tuple(expected[name].shape)}, got {found[name]}"
            for name in sorted(set(expected) & set(found))
            if tuple(expected[name].shape) != found[name]
        ]
        if problems:
            raise WeightsError(f"{path} does not fit the network:\n" + "\n".join(problems))
        tensors = {name: file.get_tensor(name) for name in expected}
    model.load_state_dict(tensors)


def save_checkpoint(path: Path, model: QEEPS, card: dict[str, Any], half: bool = True) -> None:
    """Write model as a checkpoint, atomically: an existing file stays as it was until the new one is whole.

    half: floating-point weights as float16, BatchNorm statistics as float32. Raises OutputError when it cannot be
    written.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        statistic = name.endswith(("running_mean", "running_var"))
        tensors[name] = tensor.half() if half and tensor.is_floating_point() and not statistic else tensor
    metadata = {
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "preprocessing": json.dumps(PREPROCESSING, sort_keys=True),
        "card": json.dumps(card, sort_keys=True),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Not safetensors' save_file: that makes files which only their owner can read, whatever the umask says.
        with open(temporary, "wb") as file:
            file.write(save(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}. Free some space, check the permissions, or name another place."
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def file_digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed_digest(path: Path) -> str | None:
    """The sha256 that the checksum file beside path lists for it; None where there is no such file or line."""
    try:
        lines = (path.parent / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    listed = dict(reversed(line.split(maxsplit=1)) for line in lines if len(line.split(maxsplit=1)) == 2)
    return listed.get(path.name) or listed.get(f"*{path.name}")  # the star: sha256sum's binary mode


def _metadata(path: Path) -> dict[str, str]:
    with _open(path) as file:
        return file.metadata() or {}


def _open(path: Path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}). Expected weights written by `qeeps train`; "
            "if it was downloaded or copied, do that again. PyTorch .pt/.pth files are not read (they can run code)."
        ) from error
