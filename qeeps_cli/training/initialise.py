"""Where a network starts: torchvision's ResNet weights, or a qeeps checkpoint of the same or another variant."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from qeeps_cli.checkpoints.convert import guess_settings
from qeeps_cli.errors import DataError, WeightsError
from qeeps_cli.evaluation.calibration import FrameScores, fit
from qeeps_cli.model.config import HEADS_WITH_ID_STRIDE, ID_STRIDES, ROI_HEADS, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsse import INITIAL_EXCITATION
from qeeps_cli.training.embed_stage import crop_pairs
from qeeps_cli.weights import FORMAT

RIDGE = 0.03  # of the mean variance of a feature
PAIRS_PRIOR = 0.1  # about the share of a step's pairs that are one person
GUIDED = ("basenet.qsse.", "qrpn.", "qsimnet.")  # what a query guides


def initialise(model: QEEPS, path: Path) -> bool:
    """Fill the model from path as far as it goes; blocks that path does not have keep their fresh start.

    path: safetensors with torchvision's ResNet names (conv1 … layer3, with or without layer4), or a qeeps checkpoint,
    of whatever variant and RoI head. Returns whether ID Net came with it, trained. Raises WeightsError naming the
    tensors when the backbone does not fit.
    """
    return "roi_head.id_net.weight" in _fill_from(model, path)


@torch.no_grad()
def average_with_start(model: QEEPS, path: Path, share: float) -> None:
    """Give the model's weights back a share of those that it started from; blocks that path does not have stay.

    Between a fine-tuned network and its start lies one that has most of what was learnt and has forgotten less
    (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). Raises WeightsError.
    """
    start = QEEPS(model.config)
    names = _fill_from(start, path)
    of_start = start.state_dict()
    for name, tensor in model.state_dict().items():
        if name in names and tensor.is_floating_point():
            tensor.lerp_(of_start[name].to(tensor), share)


def _fill_from(model: QEEPS, path: Path) -> set[str]:
    with _opened(path) as file:
        is_qeeps = (file.metadata() or {}).get("format") == FORMAT
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    return fill(model, tensors if is_qeeps else _resnet_names(tensors), str(path))


def terms_of(path: Path) -> str | None:
    """The terms of a checkpoint, which bind what is trained from it, too; None where it states none. Raises
    WeightsError."""
    with _opened(path) as file:
        return json.loads((file.metadata() or {}).get("card", "{}")).get("terms")


def id_stride_of(path: Path) -> int | None:
    """ModelConfig.id_stride of a checkpoint, which no name or shape tells; None where its RoI head has none. Raises
    WeightsError."""
    stated = _config_of(path)
    return stated.get("id_stride", ID_STRIDES[0]) if stated.get("roi_head") in HEADS_WITH_ID_STRIDE else None


def has_query_guidance(path: Path, config: ModelConfig) -> bool:
    """Whether a checkpoint holds all that a query guides in the network of this config: QSSE, QRPN and QSimNet, as its
    variant has them. Raises WeightsError."""
    with _opened(path) as file:
        blocks = {prefix for prefix in GUIDED for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    wanted = (config.has_qsse, config.has_qrpn, config.has_qsimnet)
    return blocks >= {prefix for prefix, has in zip(GUIDED, wanted, strict=True) if has}


def identifies_alike(path: Path, config: ModelConfig) -> bool:
    """Whether a checkpoint's identification looks at the same cells as that of this config. Raises WeightsError."""
    stated = _config_of(path)
    return (stated.get("roi_head"), stated.get("id_stride", ID_STRIDES[0])) == (config.roi_head, config.id_stride)


def _config_of(path: Path) -> dict[str, Any]:
    """What a checkpoint states of its network; nothing where it is none of qeeps."""
    with _opened(path) as file:
        return json.loads((file.metadata() or {}).get("config", "{}"))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except Exception as error:
        raise WeightsError(f"cannot start from {path}: expected a safetensors file ({error}).") from error


def fill(model: QEEPS, tensors: dict[str, Tensor], source: str) -> set[str]:
    """Load named tensors; absent ones may only belong to blocks that the source's variant or file does not have.
    Returns the names that were loaded."""
    own = model.state_dict()
    head = guess_settings(tensors).get("roi_head", "shared")
    tensors = _for_head(model.config.roi_head, head, tensors)
    # a deeper ResNet of the same kind of blocks has all that a shallower one needs, and more
    deeper = [name for name in tensors if name.startswith("basenet.layer") and name not in own]
    source_has_qsse = any("qsse" in name for name in tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if name in own}
    wrong = [name for name, tensor in tensors.items() if tensor.shape != own[name].shape]
    missing = [name for name in own if name.startswith("basenet.") and "qsse" not in name and name not in tensors]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if wrong or missing or deeper:
        problems = [("shape of", wrong), ("missing", missing), ("not expected", deeper)]
        listed = "; ".join(f"{problem} {name}" for problem, names in problems for name in names[:5])
        if all(name.startswith("roi_head.") for name in [*wrong, *missing, *deeper]) and head != model.config.roi_head:
            raise WeightsError(
                f'{source} has the RoI head "{head}", which does not fit "{model.config.roi_head}": {listed}. '
                f'Write roi_head = "{head}" under [model].'
            )
        raise WeightsError(f"{source} does not fit the backbone {model.config.backbone}: {listed}")
    model.load_state_dict(tensors, strict=False)  # what may be absent was checked above
    if model.basenet.qsse is not None and not source_has_qsse:
        model.basenet.absorb_initial_excitation()
    elif model.basenet.qsse is None and source_has_qsse:
        _release_initial_excitation(model)
    return set(tensors)


def _for_head(ours: str, theirs: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one RoI head for another, as far as they go: each of ROI_HEADS splits the one before it."""
    if theirs == "pixels" and ours != "pixels":
        # ID Net, and QSimNet which compares what it gives, have read what a trunk of identification's own saw
        tensors = {n: t for n, t in tensors.items() if not n.startswith(("roi_head.id_net.", "qsimnet."))}
    steps = {"separate": _separated, "fine": _refined, "pixels": _with_own_trunk}
    for head in ROI_HEADS[ROI_HEADS.index(theirs) + 1 : ROI_HEADS.index(ours) + 1]:
        tensors = steps[head](tensors)
    return tensors


def _with_own_trunk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of fine heads for pixel heads: identification's conv1–conv3 start as BaseNet's."""
    copies = {}
    for part in ("conv1", "bn1", "layer1", "layer2"):
        copies |= _copied(tensors, f"basenet.{part}.", f"roi_head.id_{part}.")
    return tensors | copies


def _refined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of separate heads for fine ones: identification's conv4 starts as BaseNet's, whose residuals QSSE halved.
    ID Net, and QSimNet which compares what it gives, have to be new."""
    kept = {name: t for name, t in tensors.items() if not name.startswith(("roi_head.id_net.", "qsimnet."))}
    return kept | _copied(tensors, "basenet.layer3.", "roi_head.id_layer3.")


def _copied(tensors: dict[str, Tensor], part: str, to: str) -> dict[str, Tensor]:
    """A part of BaseNet under another name, with the residuals that QSSE halved."""
    copies = {name.replace(part, to): t for name, t in tensors.items() if name.startswith(part)}
    if any("qsse" in name for name in tensors):
        deep = any(".bn3." in name for name in copies)
        last = (".bn3.weight", ".bn3.bias") if deep else (".bn2.weight", ".bn2.bias")
        copies = {name: t * INITIAL_EXCITATION if name.endswith(last) else t for name, t in copies.items()}
    return copies


def _separated(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a shared RoI head for separate ones: both start as its conv5; what read its averages has to be new."""
    kept = {name: t for name, t in tensors.items() if not name.startswith(("roi_head.cls_net.", "roi_head.reg_net."))}
    conv5 = {name: t for name, t in tensors.items() if name.startswith("roi_head.layer4.")}
    return kept | {name.replace("layer4", "id_layer4"): tensor for name, tensor in conv5.items()}


@torch.no_grad()
def _release_initial_excitation(model: QEEPS) -> None:
    """Undo `absorb_initial_excitation` in a trunk that loses its QSSE blocks; else its residuals would count twice."""
    for block in model.basenet.blocks():
        last_norm = block.bn3 if hasattr(block, "bn3") else block.bn2
        last_norm.weight.mul_(INITIAL_EXCITATION)
        last_norm.bias.mul_(INITIAL_EXCITATION)


def _resnet_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        prefix = "roi_head." if name.startswith("layer4.") else "basenet."
        renamed[prefix + name] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


@torch.no_grad()
def whiten_id_net(model: QEEPS, features: Tensor) -> None:
    """Start ID Net as the whitened principal components of conv5 features (N, F) of people.

    Pooled features are positive and alike: under a random projection every two people have a cosine above 0.95, and the
    first hundreds of steps go into undoing that. Whitened, they start apart (docs/decisions.md).
    """
    features = features.double()
    mean = features.mean(dim=0)
    centred = features - mean
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    spread = singular / len(features) ** 0.5
    if spread[0] == 0:  # a single crop, or always the same one: nothing tells people apart
        return
    dim = min(model.config.embedding_dim, len(spread))
    floor = spread[0] * 0.05  # the weakest directions are noise; unbounded, they would drown the others
    projection = directions[:dim] / (spread[:dim] + floor)[:, None]
    model.roi_head.id_net.weight[:dim] = projection.to(model.roi_head.id_net.weight)
    model.roi_head.id_net.bias[:dim] = -(projection @ mean).to(model.roi_head.id_net.bias)
    _to_usual_size(model.roi_head.id_net)


@torch.no_grad()
def regress_id_net(model: QEEPS, features: Tensor, targets: Tensor) -> None:
    """Start ID Net as the ridge regression from conv5 features (N, F) to a teacher's unit targets (N, D).

    An ID Net that points elsewhere than the teacher would first pull at everything below it, until it has been turned.
    """
    x, y = features.double(), targets.to(features.device).double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    covariance = (x - x_mean).T @ (x - x_mean)
    ridge = RIDGE * covariance.diagonal().mean() + torch.finfo(torch.float32).eps
    eye = torch.eye(len(covariance), dtype=x.dtype, device=x.device)
    projection = torch.linalg.solve(covariance + ridge * eye, (x - x_mean).T @ (y - y_mean)).T
    if not projection.any():  # a single crop, or always the same one
        return
    model.roi_head.id_net.weight.copy_(projection)
    model.roi_head.id_net.bias.copy_(y_mean - projection @ x_mean)
    _to_usual_size(model.roi_head.id_net)


def _to_usual_size(layer: nn.Linear) -> None:
    """Scale a linear layer whose output's length does not matter to the usual size of weights, for the optimizer's
    steps."""
    scale = layer.in_features**-0.5 / layer.weight.std()
    layer.weight.mul_(scale)
    layer.bias.mul_(scale)


@torch.no_grad()
def start_qsimnet(model: QEEPS, embeddings: Tensor, labels: Tensor) -> None:
    """Start QSimNet as the distance between embeddings (N, D) that ranks as the cosine does, with a slope and an offset
    that fit who is who, labels (N,): what is then left to learn is which dimensions count (docs/decisions.md).

    Embeddings that do not tell people apart yet, or pairs of one kind alone, fit no slope: that of `start_from` stays.
    Of one pair or none nothing is known, and QSimNet stays new.
    """
    first, second, same = crop_pairs(labels)
    if len(first) < 2:
        return
    model.qsimnet.start_from(embeddings[first], embeddings[second])
    form = model.qsimnet.closed_form()
    scores = form.logits(embeddings, embeddings)[first, second].double().sigmoid().cpu().numpy()
    found = FrameScores(scores, same.bool().cpu().numpy(), np.zeros(len(scores), np.int64), missed=0)
    try:
        fitted = fit(found, PAIRS_PRIOR)
    except DataError:
        return
    model.qsimnet.calibrate(fitted.slope, fitted.offset)
