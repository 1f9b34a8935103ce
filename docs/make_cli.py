"""Writes docs/cli.md from the commands themselves: `make docs`.

It reads the declarations that Typer makes the help of, not the help: that depends on the width of a terminal, on the
environment, and on the version of Typer.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from typer.models import ArgumentInfo, OptionInfo

from qeeps_cli.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
PROGRAM = "qeeps"
FRONT = """\
# Commands

Written by `make docs` from what `--help` shows; do not edit.

Every command has `-h, --help`. `qeeps --version` shows the versions of qeeps, torch and torchvision, and the weights
that a search takes. A variable in the last column stands for an option that is not given. Results go to standard
output, everything else to standard error; the exit codes are [here](searching.md#exit-codes).
"""


def reference() -> str:
    """The page, which depends on nothing but the commands."""
    commands = list(find_commands())
    overview = table(
        ["command", ""],
        [[f"[`{name}`](#{name.replace(' ', '-')})", text(paragraphs(function)[0])] for name, function in commands],
    )
    return "\n".join([FRONT, overview, *(section(name, function) for name, function in commands)])


def find_commands() -> Iterator[tuple[str, Callable]]:
    """Full names, such as `qeeps cache info`, and functions; groups last."""
    for command in app.registered_commands:
        yield f"{PROGRAM} {command.name or command.callback.__name__}", command.callback
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            yield f"{PROGRAM} {group.name} {command.name or command.callback.__name__}", command.callback


def section(name: str, function: Callable) -> str:
    """One command: usage, what it does, arguments and options."""
    declared = [(parameter, get_args(parameter.annotation)) for parameter in signature(function)]
    arguments = [(parameter, *kind) for parameter, kind in declared if isinstance(kind[1], ArgumentInfo)]
    options = [(parameter, *kind) for parameter, kind in declared if isinstance(kind[1], OptionInfo)]
    required = [option_name(*option) for option in options if is_required(option[0])]
    usage = " ".join([name, *required, "[OPTIONS]", *(usage_name(*argument) for argument in arguments)])
    rows = [[code(usage_name(*argument)), describe(argument[2]), ""] for argument in arguments]
    rows += [[code(option_name(*option)), describe(option[2]), default(*option)] for option in options]
    return "\n".join(
        [
            f"## {name}\n",
            f"    {usage}\n",
            *(f"    {p}\n" if p.startswith(f"{PROGRAM} ") else f"{text(p)}\n" for p in paragraphs(function)),
            table(["", "", "default"], rows),
        ]
    )


def signature(function: Callable) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def paragraphs(function: Callable) -> list[str]:
    return [" ".join(part.split()) for part in inspect.getdoc(function).split("\n\n")]


def is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def usage_name(parameter: inspect.Parameter, kind: Any, info: ArgumentInfo) -> str:
    """`RESULTS`, `[MORE]...` or `bash|zsh|fish`."""
    several = "..." if is_list(kind) else ""
    shown = (info.metavar or choices(kind) or parameter.name.upper()).removesuffix("...")
    return f"{shown}{several}" if is_required(parameter) or shown.startswith("[") else f"[{shown}]{several}"


def option_name(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> str:
    """`-o, --output FILE|-` or `--annotate / --no-annotate`."""
    named = ", ".join(sorted(names(info), key=len))
    own = f"--{parameter.name.replace('_', '-')}"
    if is_flag(kind):
        return named or f"{own} / --no-{own[2:]}"
    return f"{named or own} {info.metavar or choices(kind)}"


def names(info: OptionInfo) -> list[str]:
    """Those that are spelled out. Of an annotation Typer takes the first one from where a default would stand."""
    return [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]


def is_flag(kind: Any) -> bool:
    return bool in (kind, *get_args(kind))


def is_list(kind: Any) -> bool:
    return any(getattr(part, "__origin__", None) is list for part in (kind, *get_args(kind)))


def choices(kind: Any) -> str:
    return "|".join(item.value for item in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ""


def describe(info: ArgumentInfo | OptionInfo) -> str:
    """The help, with the numbers that are allowed."""
    least, most = info.min, info.max
    bounds = f"{least} to {most}." if most is not None else f"At least {least}."
    return text(info.help) + (f" {bounds}" if least is not None else "")


def default(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> str:
    """What counts where the option is not given; empty where the help says it."""
    value = parameter.default
    shown = [code(f"${info.envvar}")] if info.envvar else []
    if is_required(parameter):
        return "required"
    if value is not None and not is_flag(kind):
        shown.append(code(str(value)))
    elif value is not None and not names(info):
        shown.append(code(f"--{'' if value else 'no-'}{parameter.name.replace('_', '-')}"))
    return ", else ".join(shown)


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def code(shown: str) -> str:
    return "`{}`".format(shown.replace("|", r"\|"))


def text(shown: str) -> str:
    """Prose for a cell: options, variables and patterns as code; what Markdown would take for its own is escaped."""
    shown = re.sub(r"`[^`]*`|'[^' ]*[*][^']*'|(?<![\w-])--[a-z][a-z-]*|(?<!\S)-(?=:)|\$[A-Z_]+", as_code, shown)
    return "".join(
        part.replace("|", r"\|") if part.startswith("`") else re.sub(r"([*|<])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", shown)
    )


def as_code(found: re.Match) -> str:
    return found[0] if found[0].startswith("`") else f"`{found[0]}`"


if __name__ == "__main__":
    PAGE.write_bytes(reference().encode())
