"""Sentences that pictures and the terminal share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qeeps_cli.types import SearchResult


def not_found(result: "SearchResult") -> str:
    """Of a result without matches: `not found in 20 frames; the best candidate scored 0.12`."""
    where = f"not found in {count(result.frames_searched, 'frame')}"
    if result.best_score is None:
        return f"{where}; no people were seen in {'it' if result.frames_searched == 1 else 'them'}"
    return f"{where}; the best candidate scored {_below(result.best_score, result.parameters.get('min_score'))}"


def count(number: int, singular: str, plural: str = "") -> str:
    """`1 frame`, `2 frames`, `2 matches`."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _below(score: float, limit: float | None) -> str:
    """The score with so many decimals that rounding does not lift it to the limit that it missed."""
    for decimals in range(2, 6):
        text = f"{score:.{decimals}f}"
        if limit is None or score >= limit or float(text) < limit:
            return text
    return f"{score:.6f}"
