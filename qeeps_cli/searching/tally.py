"""What a run tells of itself while it runs, and counts."""

from collections.abc import Callable
from dataclasses import dataclass

from qeeps_cli.searching.exact import FrameAnswer
from qeeps_cli.searching.indexing import IndexedFrame

Progress = Callable[[int, int, str], None]


@dataclass
class Tally:
    """What a run computed, and what it found in the cache."""

    frames_computed: int = 0
    frames_cached: int = 0
    pairs_computed: int = 0
    pairs_cached: int = 0

    def count(self, item: IndexedFrame | FrameAnswer) -> None:
        """Skipped ones count for nothing."""
        if item.skipped is None:
            kind = "frames" if isinstance(item, IndexedFrame) else "pairs"
            name = f"{kind}_{'cached' if item.was_cached else 'computed'}"
            setattr(self, name, getattr(self, name) + 1)

    def move(self, kind: str, number: int) -> None:
        """So many of the cached ones, frames or pairs, were computed by a crew just before."""
        setattr(self, f"{kind}_computed", getattr(self, f"{kind}_computed") + number)
        setattr(self, f"{kind}_cached", getattr(self, f"{kind}_cached") - number)
