"""What goes to stderr: progress, summaries, notes and errors, never a result.

Rich is told not to interpret anything: file names may hold `[x]`. Nothing is animated, coloured or wrapped off a
terminal.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from qeeps_cli.output.wording import count as format_count  # noqa: F401, what commands say goes through this module

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LINE_SECONDS = 30  # between the lines of progress where nothing can be animated


@dataclass
class Messages:
    """quiet (-q): errors only. verbose (-v): details too. progress (--no-progress): whether to say how far it is."""

    quiet: bool = False
    verbose: bool = False
    progress: bool = True

    @cached_property
    def console(self) -> "Console":
        from rich.console import Console

        class Stderr(Console):
            def on_broken_pipe(self) -> None:
                raise  # noqa: PLE0704, called while the BrokenPipeError is handled; Rich itself would exit with 1

        return Stderr(stderr=True, markup=False, highlight=False, emoji=False)

    @property
    def animated(self) -> bool:
        """Whether something may move on the screen."""
        # Not console.is_terminal, which believes FORCE_COLOR.
        is_screen = sys.stderr is not None and sys.stderr.isatty() and not self.console.is_dumb_terminal
        return self.progress and not self.quiet and is_screen

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line of the summary."""
        if not self.quiet:
            self._print(visible(text), style)

    def note(self, text: str) -> None:
        """Something unusual that the user should know."""
        if self.quiet:
            return
        from rich.text import Text

        self._print(Text.assemble(("note:", "yellow"), " ", visible_name(text)))

    def _print(self, text: "str | Text", style: str | None = None) -> None:
        try:
            self.console.print(text, style=style, soft_wrap=True)
        except BrokenPipeError:  # whoever reads all that we say has left
            raise
        except OSError:  # a full disk behind 2>: no reason to fail a search
            pass

    def detail(self, text: str) -> None:
        """A line for -v."""
        if self.verbose:
            self.say(text, "dim")

    def error(self, text: str, prefix: str = "error: ") -> None:
        """Shown at every verbosity; does not depend on Rich, nor on a stderr that can be written to."""
        if sys.stderr is None:
            return
        with suppress(OSError):
            sys.stderr.write(f"{prefix}{visible(text)}\n")
            sys.stderr.flush()


def visible(text: str) -> str:
    """The text with control characters and bytes that are no UTF-8 as escapes, so that a file's name cannot steer the
    terminal; newlines stay."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def visible_name(name: object) -> str:
    """The same on one line, for names of files."""
    return visible(str(name)).replace("\n", "\\n")


def format_size(size: int) -> str:
    """`12.3 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_box(box: tuple[float, float, float, float]) -> str:
    """An xyxy box as the x,y,w,h that --box takes."""
    x1, y1, x2, y2 = box
    return ",".join(f"{value:.0f}" for value in (x1, y1, x2 - x1, y2 - y1))


def format_table(heads: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Aligned columns of text: numbers to the right, the last `left` columns to the left."""
    lines = [heads, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    right = len(heads) - left
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i < right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
