"""Whether weights are whole: the file, its digest, and every tensor's name, shape, type and values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from qeeps_cli.errors import WeightsError
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.unfilled import build_unfilled
from qeeps_cli.weights import (
    Checkpoint,
    listed_digest,
    misfits,
    open_tensors,
    read_metadata,
    stored_shapes,
    wrong_digest,
)


@dataclass(frozen=True)
class Verification:
    """problems: all that is wrong with the file; none: it can be used. is_listed: whether a checksum file beside it
    lists it; without, its digest could not be compared with anything. tensors: how many were looked at."""

    path: Path
    digest: str | None = None
    is_listed: bool = False
    tensors: int = 0
    problems: tuple[str, ...] = ()


def verify(path: Path) -> Verification:
    """Read the whole file; nothing is raised for what is wrong with it."""
    try:
        checkpoint = read_metadata(path)
        listed = listed_digest(path)
        wrong = [wrong_digest(checkpoint.digest, listed)] if listed not in (None, checkpoint.digest) else []
        count, problems = _verify_tensors(checkpoint)
    except (WeightsError, OSError) as error:
        return Verification(path, problems=(str(error),))
    return Verification(path, checkpoint.digest, listed is not None, count, (*wrong, *problems))


def expected_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor of a network, with shape and type but without values."""
    return build_unfilled(config).state_dict()


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def wrong_values(name: str, tensor: Tensor, expected: Tensor) -> Iterator[str]:
    """A line for a type that is not the expected kind, and for values that are not finite."""
    if tensor.is_floating_point() != expected.is_floating_point():
        yield f"type of {name}: expected {_kind(expected)}, got {_kind(tensor)}"
    elif tensor.is_floating_point() and not (finite := tensor.float().isfinite()).all():
        bad = tensor.numel() - int(finite.sum())
        yield f"not finite: {name} ({bad} of {tensor.numel()} values are NaN or infinite)"


def _verify_tensors(checkpoint: Checkpoint) -> tuple[int, list[str]]:
    expected = expected_tensors(checkpoint.config)
    with open_tensors(checkpoint.path) as file:
        found = stored_shapes(file)
        problems = misfits(shapes(expected), found)
        for name in sorted(set(expected) & set(found)):
            problems += wrong_values(name, file.get_tensor(name), expected[name])
    return len(found), problems


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
