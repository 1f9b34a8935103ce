"""Times in a video, as people write them: `00:12:34.560`."""

import math
import re

from qeeps_cli.errors import UsageError

_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)")
_LONGEST = 10_000 * 3600  # seconds; no recording is longer


def parse_clock(text: str | float, name: str = "a time in a video") -> int:
    """`hh:mm:ss.mmm`, `mm:ss` or seconds, to whole milliseconds. name: what is parsed, for the UsageError."""
    match = _CLOCK.fullmatch(str(text).strip())
    hours, minutes, seconds = match.groups() if match else (None, None, "inf")
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    if total > _LONGEST or (minutes is not None and float(seconds) >= 60):
        raise UsageError(f"{name} expects hh:mm:ss.mmm, mm:ss or seconds, got {text!r}.")
    return to_milliseconds(total)


def to_milliseconds(seconds: float) -> int:
    """Rounded, halves up."""
    return math.floor(seconds * 1000 + 0.5)


def format_clock(milliseconds: int) -> str:
    """`00:12:34.560`."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"
