"""The query picture with its box, gallery pictures with their matches, and matches cut out of them."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from qeeps_cli.output.drawing import ORANGE, SKY, WHITE, Label, draw_labels
from qeeps_cli.types import Box, Match, SearchResult

# A person stands once in a frame, and a match far below the search's best one is mostly somebody else.
STRONG_SHARE = 0.5


def shown_matches(result: SearchResult, top: int, min_score: float) -> list[Match]:
    """The display rule: the matches of ranks 1 to `top`, of all frames together, that score at least `min_score`."""
    return [match for match in result.matches if match.rank <= top and match.score >= min_score]


def cropped_matches(result: SearchResult, top: int) -> list[Match]:
    """The matches to cut out: all that a search limited by top_k or min_score lists, else those of ranks 1 to `top`."""
    limited = any(result.parameters.get(name) is not None for name in ("top_k", "min_score"))
    return [match for match in result.matches if limited or match.rank <= top]


def cut_out(rgb: np.ndarray, box: Box) -> Image.Image:
    """The pixels of a picture, (H, W, 3) uint8, that an xyxy box touches; one pixel at least."""
    height, width = rgb.shape[:2]
    left, top = min(max(math.floor(box[0]), 0), width - 1), min(max(math.floor(box[1]), 0), height - 1)
    right, bottom = max(math.ceil(box[2]), left + 1), max(math.ceil(box[3]), top + 1)
    return Image.fromarray(rgb[top:bottom, left:right])


def annotate_query(rgb: np.ndarray, box: Box | None) -> Image.Image:
    """The query picture, (H, W, 3) uint8, with the person's box; without a box the whole picture is framed."""
    height, width = rgb.shape[:2]
    return draw_labels(rgb, [Label(box or (0.0, 0.0, float(width), float(height)), "query", SKY)])


def annotate_frame(rgb: np.ndarray, matches: Sequence[Match], best_score: float) -> Image.Image:
    """A gallery picture, (H, W, 3) uint8, with boxes labelled "rank  score".

    The frame's best match, if it scores at least half of best_score (the best of the whole search), has a thick orange
    box and lies on top; the others have thin white ones.
    """
    matches = sorted(matches, key=lambda match: match.rank)
    strong = [match for match in matches[:1] if match.score >= STRONG_SHARE * best_score]
    return draw_labels(rgb, [_label(match, match in strong) for match in matches])


def _label(match: Match, strong: bool) -> Label:
    colour = ORANGE if strong else WHITE
    return Label(match.box, f"{match.score:.2f}", colour, badge=str(match.rank), weak=not strong)
