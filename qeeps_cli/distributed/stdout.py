"""Standard output without what Ray says there: results only."""

import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

RAY_THREADS = "ray_"  # how the names begin of those in which Ray prints, whatever logging it was told


class WithoutRay:
    """In the place of a stream: all goes through, but what threads of Ray print, a line for `tell`."""

    def __init__(self, stream: TextIO, tell: Callable[[str], None]):
        self._stream = stream
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not threading.current_thread().name.startswith(RAY_THREADS):
            return self._stream.write(text)
        if text.strip():
            self._tell(text.strip())
        return len(text)


def divert(tell: Callable[[str], None]) -> Callable[[], None]:
    """From now on; gives what undoes it."""
    before = sys.stdout
    if before is None:
        return lambda: None
    sys.stdout = WithoutRay(before, tell)

    def restore() -> None:
        sys.stdout = before

    return restore
