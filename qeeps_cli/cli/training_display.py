"""How a training run looks on stderr: a live table on a terminal, a line every few steps elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from qeeps_cli.cli.messages import Messages

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from qeeps_cli.training.trainer import Progress

SMOOTHING = 0.97  # of the running means in the table


class Display(Protocol):
    def report(self, progress: "Progress") -> None:
        """After each step."""

    def say(self, line: str) -> None:
        """A line that stays."""


@contextmanager
def training_display(messages: Messages, every: int) -> Iterator[Display]:
    """The display that fits the terminal. every: steps from line to line where there is none."""
    if not messages.animated:
        yield _Lines(messages, every)
        return
    from rich.live import Live

    with Live(console=messages.console, refresh_per_second=2) as live:
        yield _LiveTable(live, messages)


class _Lines:
    def __init__(self, messages: Messages, every: int):
        self.messages = messages
        self.every = every

    def report(self, progress: "Progress") -> None:
        if progress.step % self.every == 0 or progress.step == progress.steps:
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            self.messages.say(f"{_position(progress)}: total {progress.total:.3f} {losses}, {_speed(progress)}")

    def say(self, line: str) -> None:
        self.messages.say(line)


class _LiveTable:
    def __init__(self, live: "Live", messages: Messages):
        self.live = live
        self.messages = messages
        self.stage = ""
        self.means: dict[str, float] = {}

    def report(self, progress: "Progress") -> None:
        if progress.stage != self.stage:
            self.stage, self.means = progress.stage, {}
        for name, value in {**progress.losses, "total": progress.total}.items():
            self.means[name] = SMOOTHING * self.means.get(name, value) + (1 - SMOOTHING) * value
        self.live.update(self._table(progress))

    def say(self, line: str) -> None:
        self.messages.say(line)  # Live keeps its table below what is printed

    def _table(self, progress: "Progress") -> "Table":
        from rich.table import Table

        table = Table("loss", title=_position(progress), caption=_speed(progress), title_justify="left")
        table.add_column("now", justify="right")
        table.add_column("mean", justify="right")
        now = {**progress.losses, "total": progress.total}
        for name, mean in self.means.items():
            table.add_row(name, f"{now[name]:.3f}" if name in now else "", f"{mean:.3f}")
        table.add_section()
        table.add_row("gradient norm", f"{progress.gradient_norm:.2f}", "")
        table.add_row("learning rate", f"{progress.learning_rate:.1e}", "")
        return table


def _position(progress: "Progress") -> str:
    return f"{progress.stage} {progress.step}/{progress.steps}"


def _speed(progress: "Progress") -> str:
    left = timedelta(seconds=round(progress.seconds_left))
    return f"{progress.images_per_second:.1f} images/s, {left} left"
