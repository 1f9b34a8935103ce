"""A torch checkpoint (.pth, .pt) to a qeeps checkpoint: tensors are read, objects never are.

The file is loaded with weights_only, which knows tensors and plain containers and refuses everything else; it could be
got round before torch 2.10, the oldest that qeeps accepts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qeeps_cli.checkpoints.verify import expected_tensors, shapes, wrong_values
from qeeps_cli.errors import OutputError, UsageError, WeightsError
from qeeps_cli.model.config import VARIANTS, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.unfilled import build_unfilled
from qeeps_cli.weights import Checkpoint, file_digest, keeps_float32, misfits, read_checkpoint, save_checkpoint, told

_NESTS = ("model", "state_dict", "model_state_dict", "net", "network", "weights")  # keys that hold a state dict
_DEEPEST = 8  # of such keys in each other: a pickle may hold a mapping that holds itself
_PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")  # of wrappers: DataParallel, Lightning, compile
_COUNTER = "num_batches_tracked"  # of BatchNorm; older checkpoints lack it, and nothing here reads it
_BACKBONES = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}
_LARGEST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class TorchCheckpoint:
    """A state dict found in a file. layout: where in it. config: the model settings beside it, if it has ours."""

    path: Path
    tensors: dict[str, Tensor]
    layout: str
    config: dict[str, Any] | None = None


def convert(
    source: Path,
    target: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    half: bool = False,
    terms: str | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Write the network of a torch checkpoint as qeeps weights, whole or not at all.

    settings: fields of ModelConfig; what they do not say is taken from the checkpoint, or from its tensors' names
    (variant, backbone) and shapes. half: store float16. terms: under which the weights may be used, for the card.

    Raises WeightsError for a file that holds more than tensors, or tensors that do not fit, naming each; OutputError
    where the target exists or cannot be written; UsageError for unknown settings.
    """
    check_target(target, source, overwrite)
    found = read_torch(source)
    config = _choose_config(found, dict(settings or {}))
    model = _fill(config, found, half)
    save_checkpoint(target, model, _card(found, terms), half)
    return read_checkpoint(target)


def check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Before anything is read. Raises UsageError, OutputError."""
    if target.suffix != ".safetensors":
        raise UsageError(f"expected a target that ends in .safetensors, got {target}.")
    if target.exists() and source.exists() and target.samefile(source):
        raise OutputError(f"{target} is the checkpoint itself. Name another place.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists. Use --overwrite or another name.")


def read_torch(path: Path) -> TorchCheckpoint:
    """The state dict of a checkpoint, wherever it is nested, without the prefixes of wrappers. No object is made.

    Raises WeightsError.
    """
    loaded = _load(path)
    config = _own_config(loaded)
    state, steps = loaded, []
    while isinstance(state, Mapping) and len(steps) < _DEEPEST:
        nest = next((key for key in _NESTS if isinstance(state.get(key), Mapping)), None)
        if nest is None:
            break
        state, steps = state[nest], [*steps, f"{nest!r}"]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds no state dict: expected named tensors, at its top or under one of {', '.join(_NESTS)}, got "
            f"{_outline(loaded)}."
        )
    if others := [f"not a plain tensor: {name} ({_kind(value)})" for name, value in state.items() if _kind(value)]:
        raise WeightsError(f"{path} holds no plain state dict:\n{told(others)}")
    tensors = {str(name): tensor for name, tensor in state.items()}
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        steps.append(f"{prefix}*")
    return TorchCheckpoint(path, tensors, " → ".join(steps) or "state dict", config)


def guess_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of ModelConfig that names and shapes tell of a network that is named as ours."""
    blocks = (
        any(name.startswith("basenet.qsse.") for name in tensors),
        any(name.startswith("qrpn.") for name in tensors),
        any(name.startswith("qsimnet.") for name in tensors),
    )
    settings: dict[str, Any] = {}
    if variant := next((name for name, has in VARIANTS.items() if has == blocks), None):
        settings["variant"] = variant
    depth = len({name.split(".")[2] for name in tensors if name.startswith("basenet.layer3.")})
    if backbone := _BACKBONES.get((depth, "basenet.layer1.0.conv3.weight" in tensors)):
        settings["backbone"] = backbone
    for roi_head, block in (
        ("separate", "roi_head.id_layer4."),
        ("fine", "roi_head.id_layer3."),
        ("pixels", "roi_head.id_conv1."),
    ):
        if any(name.startswith(block) for name in tensors):
            settings["roi_head"] = roi_head
    id_net = tensors.get("roi_head.id_net.weight")
    if id_net is not None and id_net.ndim == 2:
        settings["embedding_dim"] = id_net.shape[0]
    return settings


def _load(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {path}. Expected a .pth or .pt file of torch.save.")
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is a safetensors file. Expected a .pth or .pt file of torch.save.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's own: a hostile file may make it any
        # torch's message goes on to advise loading the file without weights_only, which would run what is in it.
        named = re.search(r"(?:GLOBAL|[Uu]nsupported class) ([\w.]+)", str(error))
        if named or "weights_only" in str(error).lower():
            what = f"it names {named[1]}" if named else "it holds code or objects"
            raise WeightsError(
                f"{path} is refused: {what}, and loading that could run anything. Expected tensors in plain "
                "containers. If you trust it, save model.state_dict() alone with the program that it comes from."
            ) from None
        raise WeightsError(
            f"{path} is not a whole file of torch.save ({type(error).__name__}). Expected a .pth or .pt checkpoint; if "
            "it was downloaded or copied, do that again."
        ) from error


def _own_config(loaded: Any) -> dict[str, Any] | None:
    """Model settings of ours: under `config`, or in the recipe of a training run's state."""
    if not isinstance(loaded, Mapping):
        return None
    config = loaded.get("config")
    if isinstance(recipe := loaded.get("recipe"), str):
        try:
            config = json.loads(recipe)["model"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
    is_ours = isinstance(config, Mapping) and {"backbone", "variant"} <= set(config)
    return dict(config) if is_ours else None


def _choose_config(found: TorchCheckpoint, settings: dict[str, Any]) -> ModelConfig:
    _refuse_resnet(found)
    try:
        known = ModelConfig.from_dict(guess_settings(found.tensors) if found.config is None else found.config)
    except (TypeError, UsageError) as error:
        raise WeightsError(f"{found.path}: the model settings in this checkpoint cannot be used: {error}") from error
    try:
        return ModelConfig.from_dict({**known.to_dict(), **settings})
    except TypeError as error:
        raise UsageError(f"these model settings cannot be used: {error}") from error


def _refuse_resnet(found: TorchCheckpoint) -> None:
    names = set(found.tensors)
    if "conv1.weight" in names and any(name.startswith("layer1.0.") for name in names):
        raise WeightsError(
            f"{found.path} holds a ResNet as torchvision names it: a backbone, without the RPN and the heads that find "
            "people. Expected a trained person-search network. To train one from it, save its state dict as "
            "safetensors and name that as `init` in a recipe of `qeeps train`."
        )


def _fill(config: ModelConfig, found: TorchCheckpoint, half: bool) -> QEEPS:
    """The network with the tensors. Raises WeightsError that names each that is missing, too many or not usable."""
    expected = expected_tensors(config)
    tensors = {name: torch.zeros_like(t, device="cpu") for name, t in expected.items() if name.endswith(_COUNTER)}
    tensors |= found.tensors
    problems = misfits(shapes(expected), shapes(tensors))
    for name in sorted(set(expected) & set(tensors)):
        problems += wrong_values(name, tensors[name], expected[name])
        if half and not keeps_float32(name):
            problems += _too_large(name, tensors[name])
    if problems:
        network = f"{config.variant} on {config.backbone} (--variant and --backbone choose others)"
        raise WeightsError(f"{found.path} does not fit {network}:\n{told(problems)}")
    model = build_unfilled(config)
    # Copies: safetensors refuses tensors that share memory, as tied or expanded ones do.
    state = {name: tensor.to(expected[name].dtype, copy=True) for name, tensor in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model


def _too_large(name: str, tensor: Tensor) -> list[str]:
    if not tensor.is_floating_point() or not tensor.numel():
        return []
    largest = float(tensor[tensor.isfinite()].abs().max()) if tensor.isfinite().any() else 0.0
    return [f"too large for --fp16: {name} (up to {largest:.3g})"] if largest > _LARGEST_HALF else []


def _card(found: TorchCheckpoint, terms: str | None) -> dict[str, Any]:
    return {
        "converted": {"from": found.path.name, "sha256": file_digest(found.path), "layout": found.layout},
        "terms": terms or "not told by the checkpoint: ask whoever made it, and whoever made its training data",
    }


def _kind(value: Any) -> str | None:
    """What a value is instead of a tensor of plain numbers; None for one."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
        return f"{value.layout}, {value.dtype}, {value.device}".replace("torch.", "")
    return None


def _outline(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        keys = [str(key) for key in list(loaded)[:6]]
        return f"a mapping of {', '.join(keys)}{', …' if len(loaded) > 6 else ''}" if keys else "an empty mapping"
    return f"a {type(loaded).__name__}"
