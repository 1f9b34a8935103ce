"""How far a command is, and how long it will still take: a bar on a terminal, elsewhere a line now and then."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qeeps_cli.cli.messages import LINE_SECONDS, Messages

FIRST_SECONDS = 5  # before the first line
WINDOW_SECONDS = 120  # the rate is that of the last two minutes: what comes from the cache goes by much faster

Show = Callable[[int, int, str], None]


class Rate:
    """How many are done in a second, at the rate of the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, done: int, now: float) -> float | None:
        """None while there is too little to tell from. now: seconds of a monotonic clock."""
        if not self._seen or now - self._seen[-1][0] >= 1:
            self._seen.append((now, done))
        while len(self._seen) > 1 and now - self._seen[1][0] > WINDOW_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        if done == first or now - began < 1:
            return None
        return (done - first) / (now - began)


@contextmanager
def show_progress(messages: Messages, still: bool = False) -> Iterator[Show]:
    """Gives a function to call with (done, total, what); each new `what` starts anew. still: no bar, also on a
    terminal."""
    if not messages.progress:
        yield lambda done, total, what: None
        return
    if still or not messages.animated:
        yield _lines(messages)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=messages.console, transient=True) as bars:
        tasks, rates = {}, {}

        def show(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what], rates[what] = bars.add_task(what, total=total, rate=""), Rate()
            rate = rates[what].after(done, time.monotonic())
            bars.update(tasks[what], completed=done, rate=format_rate(rate, total - done, what).removeprefix(", "))

        yield show


def _lines(messages: Messages) -> Show:
    """A line soon after the start of each kind of work, and then every LINE_SECONDS."""
    rates: dict[str, Rate] = {}
    due = 0.0

    def show(done: int, total: int, what: str) -> None:
        nonlocal due
        now = time.monotonic()
        if what not in rates:
            rates[what] = Rate()
            due = now + FIRST_SECONDS
        rate = rates[what].after(done, now)
        if now >= due and done < total:
            due = now + LINE_SECONDS
            messages.say(f"{done:,}/{total:,} {what}{format_rate(rate, total - done, what)}")

    return show


def format_rate(rate: float | None, rest: int, what: str) -> str:
    """`, 4.2 frames/s, about 3 min 20 s left`; nothing where the rate is not known. what: begins with what is
    counted."""
    if rate is None:
        return ""
    speed = f"{rate:.{0 if rate >= 100 else 1 if rate >= 1 else 2}f} {what.split()[0]}/s"
    return f", {speed}, about {format_time(rest / rate)} left"


def format_time(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    return f"{whole} s"
