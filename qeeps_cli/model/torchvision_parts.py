"""What of torchvision the network is built from. Everything else imports it from here, never from torchvision.

torchvision's RoIAlign asks PyTorch's compiler a question when it runs on a GPU under deterministic algorithms, and
imports it for that beforehand: the compiler is most of what torchvision would load (docs/decisions.md). Here it is
imported when the question is asked. Only that import statement, of that module, is changed.
"""

import builtins
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType, SimpleNamespace
from typing import Any

ASKING = "torchvision.ops.roi_align"
ASKED = "torch._dynamo.utils"


def is_compile_supported(device_type: str) -> bool:
    """The compiler's answer; imports the compiler."""
    from torch._dynamo import utils

    return utils.is_compile_supported(device_type)


class _Loader(SourceFileLoader):
    """Runs a module whose `import` is `_import`."""

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": _import}
        super().exec_module(module)
        module.__dict__["__builtins__"] = vars(builtins)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == ASKING else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def _import(name: str, *how: Any) -> Any:
    """how: scopes, and then the names that are imported from it, as Python hands them over."""
    if name == ASKED and how[2] == (is_compile_supported.__name__,):
        return SimpleNamespace(is_compile_supported=is_compile_supported)
    return __import__(name, *how)


@contextmanager
def _asking_later() -> Iterator[None]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _asking_later():
    from torchvision import models
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.ops import boxes, roi_align

__all__ = [
    "AnchorGenerator",
    "BasicBlock",
    "Bottleneck",
    "BoxCoder",
    "ResNet",
    "boxes",
    "models",
    "roi_align",
]
