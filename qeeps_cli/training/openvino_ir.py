"""An OpenVINO IR as PyTorch operations, for batches on a GPU, which OpenVINO does not compute on.

Only what networks for re-identification are made of; anything else is refused by name. Where PyTorch has the operation
under another name or with other arguments, `_OPERATIONS` says how.
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
            root = ET.parse(model).getroot()
            weights = bytearray(model.with_suffix(".bin").read_bytes())
        except (OSError, ET.ParseError) as error:
            raise UsageError(f"cannot read the OpenVINO model {model}: {error}.") from error
        self._layers = _layers(root)
        unknown = sorted({layer.kind for layer in self._layers.values()} - set(_OPERATIONS) - {"Const", *_ENDS})
        if unknown:
            raise UsageError(f"the OpenVINO model {model} has operations that cannot be computed on a GPU: {unknown}.")
        constants = {n: _constant(layer, weights) for n, layer in self._layers.items() if layer.kind == "Const"}
        # shapes and axes are read on the CPU, whatever the network computes on
        self._constants = {n: c.to(device) if c.is_floating_point() else c for n, c in constants.items()}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        values = dict(self._constants)
        for number, layer in self._layers.items():
            if layer.kind == "Parameter":
                values[number] = images
            elif layer.kind == "Result":
                return values[layer.inputs[0]]
            elif layer.kind != "Const":
                values[number] = _OPERATIONS[layer.kind](layer, *(values[i] for i in layer.inputs))
        raise AssertionError("an IR without a result")


def _layers(root: ET.Element) -> dict[str, _Layer]:
    """By number, each after those that it reads from, as IRs list them."""
    inputs: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for edge in root.iterfind("edges/edge"):
        inputs[edge.get("to-layer")].append((int(edge.get("to-port")), edge.get("from-layer")))
    layers = {}
    for layer in root.iterfind("layers/layer"):
        data = layer.find("data")
        sources = tuple(source for _, source in sorted(inputs[layer.get("id")]))
        layers[layer.get("id")] = _Layer(layer.get("type"), dict(data.attrib) if data is not None else {}, sources)
    return layers


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
    if len(sizes) and sizes[0] == 1:  # the IR's one input
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


def _gather(layer: _Layer, x: Tensor, indices: Tensor, axis: Tensor) -> Tensor:
    found = x.index_select(int(axis), indices.reshape(-1).long().to(x.device))
    return found.reshape(*x.shape[: int(axis)], *indices.shape, *x.shape[int(axis) + 1 :])


def _matmul(layer: _Layer, a: Tensor, b: Tensor) -> Tensor:
    return (a.mT if layer.flag("transpose_a") else a) @ (b.mT if layer.flag("transpose_b") else b)


_ENDS = ("Parameter", "Result")
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
    "PReLU": lambda layer, x, slope: torch.where(x >= 0, x, x * slope),
    "ReLU": lambda layer, x: F.relu(x),
    "ReduceMean": lambda layer, x, axes: x.mean(dim=axes.tolist(), keepdim=layer.flag("keep_dims")),
    "Reshape": _reshape,
    "ShapeOf": lambda layer, x: torch.tensor(x.shape),
    "Sigmoid": lambda layer, x: torch.sigmoid(x),
    "Subtract": lambda layer, a, b: a - b,
}
