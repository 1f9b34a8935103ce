"""The keyword arguments of the Python API, once for all functions that take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from qeeps_cli.model.config import InferenceParams
    from qeeps_cli.searching.engine import Engine

Function = TypeVar("Function", bound=Callable[..., Any])


class SearchKeywords(TypedDict, total=False):
    """Of `qeeps_cli.search` and `qeeps_cli.search_many`; `search` explains them."""

    model: Engine | None
    device: str | None
    weights: str | PathLike[str] | None
    params: InferenceParams | None
    mode: str
    shortlist: int | str | None
    expand: bool
    cache: str | PathLike[str] | bool | None
    refresh: bool
    top_k: int | None
    min_score: float | None
    exclude_query: bool
    recursive: bool
    every: int | str | None
    start: float | str | None
    end: float | str | None
    limit: int | None
    max_pixels: int | None
    batch: int | None


# Those that are not spelled out here are None.
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(SearchKeywords.__annotations__),
    "mode": "auto",
    "refresh": False,
    "exclude_query": False,
    "expand": False,
    "recursive": True,
}


def takes_search_keywords(function: Function) -> Function:
    """For a function with `**keywords: Unpack[SearchKeywords]`: what Python does with parameters that are spelled out.

    An unknown name is a TypeError, and `help()` shows each parameter with its type and default, as type checkers do.
    """
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    spelled = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation.__forward_arg__)
        for name, annotation in SearchKeywords.__annotations__.items()
    ]

    @wraps(function)
    def checked(*positional: Any, **given: Any) -> Any:
        checked.__signature__.bind(*positional, **given)
        return function(*positional, **given)

    checked.__signature__ = signature.replace(parameters=[*own, *spelled])
    return checked
