"""`qeeps train`: a recipe to weights, in a folder in which an interrupted run goes on."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages, visible_name
from qeeps_cli.cli.process import Terminated
from qeeps_cli.errors import ExitCode

if TYPE_CHECKING:
    from qeeps_cli.training.trainer import Progress

Config = Annotated[Path, typer.Option(metavar="RECIPE.toml", help="The recipe; see docs/training.md.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; what is there is gone on with.")]
DataRoot = Annotated[
    Path | None, typer.Option(metavar="DIR", help="What the recipe's paths are relative to. Default: its own folder.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Processes that prepare steps. Default: on a GPU one for each core but one, at most 16; else none.",
    ),
]
LogEvery = Annotated[int, typer.Option(metavar="N", min=1, help="Off a terminal: a line every N steps.")]


def train(
    config: Config,
    out: Out,
    data_root: DataRoot = None,
    device: options.Device = "auto",
    workers: Workers = None,
    log_every: LogEvery = 20,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Train weights by a recipe.

    Ctrl-C saves the run; the same command goes on with it, and with one that was killed.
    """
    messages = Messages(quiet, verbose)
    from qeeps_cli.training.config import read_recipe

    recipe = read_recipe(config, data_root)  # what is wrong with it is told before PyTorch is imported

    from qeeps_cli.cli.training_display import training_display
    from qeeps_cli.device import describe, resolve_device
    from qeeps_cli.training.run import train as run
    from qeeps_cli.training.trainer import Interrupted

    place = resolve_device(device)
    messages.detail(f"device {describe(place)}")
    curves = _Curves(out, messages)
    with _Stop() as stop, training_display(messages, log_every) as display:

        def report(progress: "Progress") -> None:
            stop.begun = True
            curves.draw_if_due()
            display.report(progress)

        def say(line: str) -> None:
            curves.due = True  # whoever speaks up may have validated
            display.say(line)

        try:
            weights = run(recipe, out, place, report, say, stop.event, workers)
        except Interrupted as stopped:
            weights = None
            where = f"step {stopped.step} of stage {stopped.stage}"
    curves.draw()
    if weights is None:
        messages.say(f"saved at {where} in {visible_name(out)}; the same command goes on from there")
        return stop.exit_code
    messages.say(f"done: {visible_name(weights)}")
    return ExitCode.OK


class _Curves:
    """curves.png, drawn anew after each validation and at the end."""

    def __init__(self, out: Path, messages: Messages):
        self.out = out
        self.messages = messages
        self.due = False
        self.possible = True

    def draw_if_due(self) -> None:
        if self.due:
            self.draw()

    def draw(self) -> None:
        self.due = False
        if not self.possible:
            return
        from qeeps_cli.training.curves import draw_curves

        try:
            draw_curves(self.out)
        except ImportError:
            self.possible = False
            self.messages.note("no curves.png: matplotlib is missing (pip install 'qeeps-cli[train]')")


class _Stop:
    """The first Ctrl-C or SIGTERM asks the trainer to save and leave, the second ends the process at once.

    begun: whether there are steps to save; before that, the first one ends the process too.
    """

    def __init__(self) -> None:
        self.event = Event()
        self.begun = False
        self.exit_code = ExitCode.SIGINT

    def __enter__(self) -> "_Stop":
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        interrupted = number == signal.SIGINT
        self.exit_code = ExitCode.SIGINT if interrupted else ExitCode.SIGTERM
        signal.signal(number, signal.SIG_DFL)
        if not self.begun:
            raise KeyboardInterrupt if interrupted else Terminated
        self.event.set()
        with suppress(OSError):  # not through sys.stderr, which this may have interrupted
            os.write(2, b"\nsaving after this step, or the validation that runs; once more stops at once\n")
