"""How far a command is, and how long it will still take: a bar on a terminal, elsewhere a line now and then."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qeeps_cli.cli.messages import LINE_SECONDS, Messages

FIRST_SECONDS = 5  # before the first line
WINDOW_SECONDS = 120  # the rate is that of the last two minutes: what comes from the cache goes by much faster

Show = Callable[[int, int, str], None]


class TimeLeft:
    """The time that is left at the rate of the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, done: int, total: int, now: float) -> float | None:
        """Seconds; None while there is too little to tell from. now: seconds of a monotonic clock."""
        if not self._seen or now - self._seen[-1][0] >= 1:
            self._seen.append((now, done))
        while len(self._seen) > 1 and now - self._seen[1][0] > WINDOW_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        if done == first or now - began < 1:
            return None
        return (total - done) * (now - began) / (done - first)


@contextmanager
def show_progress(messages: Messages) -> Iterator[Show]:
    """Gives a function to call with (done, total, what); each new `what` starts anew."""
    if not messages.animated:
        yield _lines(messages)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages.console, transient=True, speed_estimate_period=WINDOW_SECONDS) as bars:
        tasks = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show


def _lines(messages: Messages) -> Show:
    """A line soon after the start of each kind of work, and then every LINE_SECONDS."""
    left: dict[str, TimeLeft] = {}
    due = 0.0

    def show(done: int, total: int, what: str) -> None:
        nonlocal due
        now = time.monotonic()
        if what not in left:
            left[what] = TimeLeft()
            due = now + FIRST_SECONDS
        rest = left[what].after(done, total, now)
        if now >= due and done < total:
            due = now + LINE_SECONDS
            messages.say(f"{done:,}/{total:,} {what}" + (f", about {format_time(rest)} left" if rest else ""))

    return show


def format_time(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    return f"{whole} s"
