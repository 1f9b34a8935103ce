"""An OpenVINO IR as PyTorch operations, for batches on a GPU, which OpenVINO does not compute on.

Only what networks for re-identification are made of; another operation, or a rarer form of one, is refused by name when
the network is loaded. Where PyTorch has an operation under another name or with other arguments, `_OPERATIONS` says so.
"""

import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from qeeps_cli.errors import UsageError

_TYPES = {
    "f16": torch.float16, "f32": torch.float32, "f64": torch.float64, "i32": torch.int32, "i64": torch.int64,
}  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    kind: str
    attributes: dict[str, str]
    inputs: tuple[str, ...]  # numbers of layers, in order of ports
    of_images: bool  # whether what it gives has the images along its first axis

    def numbers(self, name: str) -> list[int]:
        return [int(v) for v in self.attributes[name].split(",")]

    def flag(self, name: str) -> bool:
        return self.attributes.get(name, "false") == "true"


class IRNetwork:
    """The network of an IR with one input and one result, for any number of inputs at a time.

    Call it with (N, …), of which the IR has (1, …). Raises UsageError naming what it cannot compute.
    """

    def __init__(self, model: Path, device: torch.device):
        """model: the .xml file; its .bin lies beside it."""
        try:
            self._layers = _layers(ET.parse(model).getroot())
            _require_supported(self._layers)
            weights = bytearray(model.with_suffix(".bin").read_bytes())
            constants = {n: _constant(layer, weights) for n, layer in self._layers.items() if layer.kind == "Const"}
        except OSError as error:
            raise UsageError(f"cannot read the OpenVINO model {model}: {error.strerror}.") from error
        except (ET.ParseError, KeyError, ValueError) as error:
            raise UsageError(
                f"cannot compute the OpenVINO model {model} on {device.type}: {error}. With --device cpu OpenVINO does."
            ) from error
        # shapes and axes are read on the CPU, whatever the network computes on
        self._constants = {n: c.to(device) if c.is_floating_point() else c for n, c in constants.items()}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        values = dict(self._constants)
        if images.is_cuda and images.ndim == 4:  # a GPU convolves in groups almost twice as fast so (docs/training.md)
            images = images.contiguous(memory_format=torch.channels_last)
        for number, layer in self._layers.items():
            if layer.kind == "Parameter":
                values[number] = images
            elif layer.kind != "Const":
                values[number] = _OPERATIONS[layer.kind](layer, *(values[i] for i in layer.inputs))
        return values[number]  # of the Result, which is the last


def _layers(root: ET.Element) -> dict[str, _Layer]:
    """By number, each after those that it reads from, as IRs list them."""
    inputs: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for edge in root.iterfind("edges/edge"):
        inputs[edge.attrib["to-layer"]].append((int(edge.attrib["to-port"]), edge.attrib["from-layer"]))
    layers: dict[str, _Layer] = {}
    for layer in root.iterfind("layers/layer"):
        number, kind, data = layer.attrib["id"], layer.attrib["type"], layer.find("data")
        sources = tuple(source for _, source in sorted(inputs[number]))
        of_images = kind == "Parameter" or (kind != "ShapeOf" and any(layers[source].of_images for source in sources))
        layers[number] = _Layer(kind, dict(data.attrib) if data is not None else {}, sources, of_images)
    return layers


def _require_supported(layers: dict[str, _Layer]) -> None:
    """Raises ValueError naming an operation, or a form of one, that `_OPERATIONS` does not compute."""
    kinds = [layer.kind for layer in layers.values()]
    if kinds.count("Parameter") != 1 or kinds.count("Result") != 1 or kinds[-1] != "Result":
        raise ValueError("expected one input and one result")
    if unknown := sorted(set(kinds) - set(_OPERATIONS) - {"Const", "Parameter"}):
        raise ValueError(f"it has the operations {', '.join(unknown)}")
    for layer in layers.values():
        for name, allowed in _FORMS.get(layer.kind, {}).items():
            found = layer.attributes.get(name, allowed)
            if found.lower().replace(" ", "") != allowed:
                raise ValueError(f"it has {layer.kind} with {name} {found}, instead of {allowed}")


def _constant(layer: _Layer, weights: bytearray) -> Tensor:
    shape = [int(v) for v in layer.attributes["shape"].split(",") if v.strip()]
    kind, offset = _TYPES[layer.attributes["element_type"]], int(layer.attributes["offset"])
    return torch.frombuffer(weights, dtype=kind, count=math.prod(shape), offset=offset).reshape(shape)


def _convolution(layer: _Layer, x: Tensor, weight: Tensor) -> Tensor:
    x = _padded(layer, x, 0.0)
    return F.conv2d(x, weight, stride=layer.numbers("strides"), dilation=layer.numbers("dilations"))


def _group_convolution(layer: _Layer, x: Tensor, weight: Tensor) -> Tensor:
    groups = weight.shape[0]  # weight: (groups, outputs of each, inputs of each, height, width)
    x = _padded(layer, x, 0.0)
    stride, dilation = layer.numbers("strides"), layer.numbers("dilations")
    return F.conv2d(x, weight.flatten(0, 1), stride=stride, dilation=dilation, groups=groups)


def _max_pool(layer: _Layer, x: Tensor) -> Tensor:
    return F.max_pool2d(_padded(layer, x, -torch.inf), layer.numbers("kernel"), layer.numbers("strides"))


def _avg_pool(layer: _Layer, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, layer.numbers("kernel"), layer.numbers("strides"))


def _padded(layer: _Layer, x: Tensor, value: float) -> Tensor:
    (top, left), (bottom, right) = layer.numbers("pads_begin"), layer.numbers("pads_end")
    return F.pad(x, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else x


def _mean_variance_normalisation(layer: _Layer, x: Tensor, axes: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, dim=axes.tolist(), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + float(layer.attributes["eps"]))


def _reshape(layer: _Layer, x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[i] if v == 0 and layer.flag("special_zero") else v for i, v in enumerate(shape.tolist())]
    if layer.of_images and sizes[:1] == [1]:  # the IR has one image
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


def _gather(layer: _Layer, x: Tensor, indices: Tensor, axis: Tensor) -> Tensor:
    found = x.index_select(int(axis), indices.reshape(-1).remainder(x.shape[int(axis)]).long().to(x.device))
    return found.reshape(*x.shape[: int(axis)], *indices.shape, *x.shape[int(axis) + 1 :])


def _matmul(layer: _Layer, a: Tensor, b: Tensor) -> Tensor:
    return (a.mT if layer.flag("transpose_a") else a) @ (b.mT if layer.flag("transpose_b") else b)


def _prelu(layer: _Layer, x: Tensor, slope: Tensor) -> Tensor:
    if slope.ndim == 1 and x.ndim > 1:  # of the channels
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return torch.where(x >= 0, x, x * slope)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda layer, a, b: a + b,
    "AvgPool": _avg_pool,
    "Concat": lambda layer, *parts: torch.cat(parts, dim=int(layer.attributes["axis"])),
    "Convert": lambda layer, x: x.to(_TYPES[layer.attributes["destination_type"]]),
    "Convolution": _convolution,
    "Gather": _gather,
    "GroupConvolution": _group_convolution,
    "MVN": _mean_variance_normalisation,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Multiply": lambda layer, a, b: a * b,
    "PReLU": _prelu,
    "ReLU": lambda layer, x: F.relu(x),
    "ReduceMean": lambda layer, x, axes: x.mean(dim=axes.tolist(), keepdim=layer.flag("keep_dims")),
    "Reshape": _reshape,
    "Result": lambda layer, x: x,
    "ShapeOf": lambda layer, x: torch.tensor(x.shape),
    "Sigmoid": lambda layer, x: torch.sigmoid(x),
    "Subtract": lambda layer, a, b: a - b,
}
# What attributes must be for the operations above, where OpenVINO knows other forms; in small letters, without blanks.
_FORMS = {
    "AvgPool": {"auto_pad": "explicit", "pads_begin": "0,0", "pads_end": "0,0", "rounding_type": "floor"},
    "Convolution": {"auto_pad": "explicit"},
    "Gather": {"batch_dims": "0"},
    "GroupConvolution": {"auto_pad": "explicit"},
    "MVN": {"eps_mode": "inside_sqrt", "normalize_variance": "true"},
    "MaxPool": {"auto_pad": "explicit", "dilations": "1,1", "rounding_type": "floor"},
}
