"""Which frames the cascade looks at again: cached scores rank all frames, the exact search re-scores the best."""

import math
import re
from collections.abc import Sequence

import numpy as np

from qeeps_cli.errors import UsageError

SHARE = 0.05  # of the gallery's frames, unless told otherwise
FEWEST, MOST = 50, 500  # an exact pair costs about half a second on two CPU cores


def shortlist_size(shortlist: str | int | None, frames: int) -> int:
    """How many of so many frames are re-scored.

    shortlist: a number of frames, or a percentage such as "5%", which gives one frame at least; None: 5 % of the
    frames, but at least 50 and at most 500. Raises UsageError for anything else.
    """
    if shortlist is None:
        return min(frames, max(FEWEST, min(MOST, math.ceil(SHARE * frames))))
    text = str(shortlist).strip()
    if re.fullmatch(r"[0-9]+", text) and int(text) >= 1:
        return min(frames, int(text))
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?%", text) and 0 < float(text[:-1]) <= 100:
        # Not float arithmetic alone: 7 % of 100 frames are 7, although 0.07 * 100 is a little more.
        return min(frames, math.ceil(round(float(text[:-1]) * frames / 100, 6)))
    raise UsageError(
        f"--shortlist expects a number of frames from 1, or a percentage above 0% and up to 100%, got {shortlist!r}."
    )


def shortlist(best: Sequence[float] | np.ndarray, size: int) -> list[int]:
    """The frames to re-score, as ascending places in `best`, each frame's highest cached score.

    Ties go to the earlier frame; frames without people have -inf and come last.
    """
    ranked = np.argsort(-np.asarray(best, np.float64), kind="stable")
    return sorted(ranked[:size].tolist())
