"""Checkpoints: one safetensors file with the weights, and in its metadata everything needed to use them.

Nothing is ever unpickled. A file is verified (digest, structure, every tensor's name and shape) before any of it is
used. Finding weights and reading what they say of themselves takes no torch.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from qeeps_cli.errors import OutputError, UsageError, WeightsError
from qeeps_cli.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

    from qeeps_cli.model.qeeps import QEEPS

FORMAT = "qeeps.weights/1"
DEFAULT_NAME = "qeeps-r18"
ENVIRONMENT = "QEEPS_WEIGHTS"
CHECKSUMS = "SHA256SUMS"  # as sha256sum writes it; shipped weights stand in one
SUFFIX = ".safetensors"
_PACKAGED = Path(__file__).parent / "weights"  # inside an installed wheel
_CHECKOUT = Path(__file__).parent.parent / "weights"  # in a checkout or an editable install
SHIPPED = (_PACKAGED, _CHECKOUT)
_TOLD = 30  # tensors that a message names before it only counts them

Shapes = Mapping[str, tuple[int, ...]]


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

    given: a file, or the name of shipped weights ("qeeps-r18", with the suffix or without). Raises WeightsError that
    lists the places searched; never reaches for a network.
    """
    wanted = given or os.environ.get(ENVIRONMENT) or DEFAULT_NAME
    source = "--weights" if given else f"${ENVIRONMENT}" if os.environ.get(ENVIRONMENT) else "the default"
    places = [Path(wanted)]
    if os.sep not in str(wanted):
        places += [folder / f"{str(wanted).removesuffix(SUFFIX)}{SUFFIX}" for folder in SHIPPED]
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

    Raises WeightsError when the file is not safetensors, is cut short, was not written by qeeps, or is listed with
    another digest.
    """
    checkpoint = read_metadata(path)
    listed = listed_digest(path)
    if listed not in (None, checkpoint.digest):
        raise WeightsError(f"{path} {wrong_digest(checkpoint.digest, listed)}")
    return checkpoint


def read_metadata(path: Path) -> Checkpoint:
    """`read_checkpoint` without comparing the digest with the listed one."""
    metadata = _metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds no qeeps checkpoint: expected the format {FORMAT!r} in its metadata, got "
            f"{metadata.get('format')!r}. Weights are made by `qeeps train`, or from a torch checkpoint by "
            "`qeeps weights convert`."
        )
    try:
        config = ModelConfig.from_dict(json.loads(metadata["config"]))
        card = json.loads(metadata.get("card", "{}"))
        if not isinstance(card, dict):
            raise TypeError(f"expected a JSON object as its card, got {card!r:.60}")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise WeightsError(f"{path}: the metadata of this checkpoint cannot be used: {error}") from error
    return Checkpoint(path, path.stem, file_digest(path), config, card)


def load_model(checkpoint: Checkpoint) -> "QEEPS":
    """The network in evaluation mode, float32, on the CPU. Raises WeightsError naming each tensor that does not fit."""
    from qeeps_cli.model.unfilled import build_unfilled

    model = build_unfilled(checkpoint.config)
    load_tensors(model, checkpoint.path)
    return model.eval()


def load_tensors(model: "nn.Module", path: Path) -> None:
    """Give model the parameters and buffers of path, in its own types, or none of them: all names and shapes are
    compared first. They are new tensors on the CPU, so nothing may refer to its parameters yet; those that model had
    may be on the meta device."""
    own = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    with open_tensors(path) as file:
        if problems := misfits(expected, stored_shapes(file)):
            raise WeightsError(f"{path} does not fit the network:\n{told(problems)}")
        tensors = {name: file.get_tensor(name).to(tensor.dtype, copy=True) for name, tensor in own.items()}
    model.load_state_dict(tensors, assign=True)


def save_checkpoint(path: Path, model: "QEEPS", card: dict[str, Any], half: bool = True) -> None:
    """Write model as a checkpoint, atomically: an existing file stays as it was until the new one is whole.

    half: floating-point weights as float16, but for those that `keeps_float32` names. Raises OutputError when it cannot
    be written.
    """
    from safetensors.torch import save

    from qeeps_cli.model.preprocess import PREPROCESSING

    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        becomes_half = half and tensor.is_floating_point() and not keeps_float32(name)
        tensors[name] = tensor.half() if becomes_half else tensor
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


def keeps_float32(name: str) -> bool:
    """Whether a tensor keeps float32 in every checkpoint: BatchNorm's running statistics, and QSimNet, whose rounding
    would move every score by the same amount."""
    return name.endswith(("running_mean", "running_var")) or name.startswith("qsimnet.")


def misfits(expected: Shapes, found: Shapes) -> list[str]:
    """What keeps tensors from filling a network, a line for each: missing, not expected, of another shape."""
    lines = [f"missing: {name} {expected[name]}" for name in sorted(set(expected) - set(found))]
    lines += [f"not expected: {name} {found[name]}" for name in sorted(set(found) - set(expected))]
    return lines + [
        f"shape of {name}: expected {expected[name]}, got {found[name]}"
        for name in sorted(set(expected) & set(found))
        if expected[name] != found[name]
    ]


def told(problems: list[str]) -> str:
    """Problems as the lines of a message; of many, the first ones."""
    more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
    return "\n".join(f"  {line}" for line in [*problems[:_TOLD], *more])


def holds_halves(path: Path) -> bool:
    """Whether a checkpoint was saved with `half`. Raises WeightsError."""
    with open_tensors(path) as file:
        return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118, not a dict


def file_digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed_digest(path: Path) -> str | None:
    """The sha256 that the checksum file beside path lists for it; None where there is no such file or line."""
    try:
        lines = (path.parent / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    listed = dict(reversed(line.split(maxsplit=1)) for line in lines if len(line.split(maxsplit=1)) == 2)
    return listed.get(path.name) or listed.get(f"*{path.name}")  # the star: sha256sum's binary mode


def wrong_digest(digest: str, listed: str) -> str:
    """What to say of a file whose digest is not the listed one."""
    return (
        f"is not the file that {CHECKSUMS} beside it lists: expected sha256 {listed}, got {digest}. "
        "It was changed or damaged; fetch it again."
    )


def open_tensors(path: Path, framework: str = "pt"):
    """The safetensors file, to be used in a `with`. Raises WeightsError when it is not a whole one."""
    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}). Expected weights written by `qeeps train`; "
            "if it was downloaded or copied, do that again. PyTorch .pt/.pth files are not read (they can run code); "
            "`qeeps weights convert` makes a safetensors file of one."
        ) from error


def stored_shapes(file) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of an open safetensors file, which are not loaded."""
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, not a dict


def _metadata(path: Path) -> dict[str, str]:
    with open_tensors(path, framework="np") as file:  # needs no torch
        return file.metadata() or {}
