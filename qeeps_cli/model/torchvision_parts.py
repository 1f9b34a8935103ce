"""What of torchvision the network is built from. Everything else imports it from here, never from torchvision.

One line of torchvision's (`ops/roi_align.py`) imports PyTorch's compiler for a question that searching never asks, and
the compiler is most of what a command would load before it can begin. It stays away until somebody asks.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for a module while others import from it; what they take is imported when they call it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of every module by those who look through all of them
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Keep the module `name` from being imported, unless it has been already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _Later(name)
    try:
        yield
    finally:
        del sys.modules[name]


with _without(COMPILER):
    from torchvision import models
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.ops import boxes, roi_align

__all__ = [
    "AnchorGenerator",
    "BalancedPositiveNegativeSampler",
    "BasicBlock",
    "Bottleneck",
    "BoxCoder",
    "Matcher",
    "ResNet",
    "boxes",
    "models",
    "roi_align",
]
