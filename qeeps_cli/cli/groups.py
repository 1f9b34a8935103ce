"""Options that several commands share come as a dataclass; on the command line each of its fields is an option."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, TypeVar

Result = TypeVar("Result")


def flat(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function with the fields of its dataclass parameters as options of their own, in their place.

    A field is annotated and has its default as a parameter would be and have for Typer. The dataclasses must be
    keyword-only parameters.
    """
    signature = inspect.signature(function)
    groups = {name: p.annotation for name, p in signature.parameters.items() if is_dataclass(p.annotation)}

    @wraps(function)
    def with_groups(*positional: Any, **given: Any) -> Result:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group) if field.name in given})
        return function(*positional, **given)

    parameters = [
        parameter
        for name, own in signature.parameters.items()
        for parameter in (_options(groups[name]) if name in groups else [own])
    ]
    with_groups.__signature__ = signature.replace(parameters=parameters)
    with_groups.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_groups


def _options(group: type) -> Iterator[Parameter]:
    for field in fields(group):
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=field.type)


def _default(field: Field) -> Any:
    return Parameter.empty if field.default is MISSING else field.default
