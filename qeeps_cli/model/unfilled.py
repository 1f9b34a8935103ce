"""Networks of shapes alone, for the numbers of a checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS


def build_unfilled(config: ModelConfig) -> QEEPS:
    """A network on the meta device, without memory for its parameters.

    A random start would take several times as long as to load weights. Drawing one on the meta device costs no memory,
    but goes through PyTorch's compiler, which takes seconds to import (docs/decisions.md).
    """
    with torch.device("meta"), _Undrawn():
        return QEEPS(config)


class _Undrawn(TorchFunctionMode):
    """Leaves tensors as they are that would be filled with normal random numbers; uniform ones need no compiler.

    PyTorch shows a mode `nn.init.normal_` itself, and then nothing of what it does inside; of other initialisers it
    shows the methods that they call.
    """

    DRAWS = frozenset({nn.init.normal_, Tensor.normal_})

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
