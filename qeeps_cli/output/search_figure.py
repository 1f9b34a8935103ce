"""The paper's Figure 6: a row a query, with the query and its best matches, right ones in green and wrong ones in red.

Each cell shows the person with some surroundings, and below it the whole frame with the person's box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from qeeps_cli.errors import ImageError
from qeeps_cli.images import MAX_PIXELS, read_image
from qeeps_cli.output.contact_sheet import CELL, GREY, MARGIN, PAD, PAPER, crop_person, tile_colour
from qeeps_cli.output.drawing import INK, Colour, Label, Size, draw_box, font, plate
from qeeps_cli.output.names import printable, wrap_elided
from qeeps_cli.types import Box

FRAME = (CELL[0], 150)  # pixels, (width, height), of the whole frame in small
GAP, ROW_GAP, CELL_GAP = 18, 34, 8
EDGE = 5  # the coloured edge around a match
TEXT, LEADING, HEADING = 15, 19, 20
TITLE_HEIGHT = LEADING + 14
HEADING_HEIGHT = 34
LABEL_HEIGHT = HEADING_HEIGHT + LEADING + 6  # score and verdict, then the frame's name
ROW_HEIGHT = TITLE_HEIGHT + CELL[1] + CELL_GAP + LABEL_HEIGHT + FRAME[1]
MISSING = "cannot be read"


@dataclass(frozen=True)
class Shown:
    """A person in a frame. box: xyxy pixels. score and correct: of a match, None of the query."""

    path: Path
    name: str
    box: Box
    score: float | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class FigureRow:
    """One query with its best matches, the best first. title: a line about it, such as its AP."""

    query: Shown
    matches: Sequence[Shown]
    title: str = ""


def search_figure(rows: Sequence[FigureRow], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The figure, as wide as the longest row. A picture that cannot be read leaves a grey cell that says so."""
    columns = 1 + max((len(row.matches) for row in rows), default=0)
    size = (
        2 * MARGIN + columns * (CELL[0] + GAP) - GAP,
        2 * MARGIN + max(len(rows), 1) * (ROW_HEIGHT + ROW_GAP) - ROW_GAP,
    )
    figure = Image.new("RGB", size, PAPER)
    if not rows:
        ImageDraw.Draw(figure).text((MARGIN, MARGIN), "no queries", GREY, font(HEADING))
    for number, row in enumerate(rows):
        _draw_row(figure, row, MARGIN + number * (ROW_HEIGHT + ROW_GAP), max_pixels)
    return figure


def _draw_row(figure: Image.Image, row: FigureRow, y: int, max_pixels: int) -> None:
    draw = ImageDraw.Draw(figure)
    if y > MARGIN:
        draw.line((MARGIN, y - ROW_GAP // 2, figure.width - MARGIN, y - ROW_GAP // 2), fill=PAD, width=2)
    _write(draw, row.title, MARGIN, y, figure.width - 2 * MARGIN, INK)
    y += TITLE_HEIGHT
    _draw_cell(figure, row.query, None, MARGIN, y, max_pixels)
    for rank, match in enumerate(row.matches, start=1):
        _draw_cell(figure, match, rank, MARGIN + rank * (CELL[0] + GAP), y, max_pixels)
    if not row.matches:
        draw.text((MARGIN + CELL[0] + GAP, y), "no matches", GREY, font(HEADING))


def _draw_cell(figure: Image.Image, shown: Shown, rank: int | None, x: int, y: int, max_pixels: int) -> None:
    colour = tile_colour(rank, shown.correct)
    draw = ImageDraw.Draw(figure)
    below = y + CELL[1] + CELL_GAP + LABEL_HEIGHT
    try:
        rgb = read_image(shown.path, max_pixels).rgb
    except ImageError:
        draw.rectangle((x, y, x + CELL[0] - 1, y + CELL[1] - 1), fill=PAD)
        draw.text((x + GAP, y + GAP), MISSING, GREY, font(TEXT))
    else:
        figure.paste(crop_person(rgb, shown.box, CELL, colour), (x, y))
        figure.paste(whole_frame(rgb, shown.box, FRAME, colour), (x, below))
    if shown.correct is not None:
        edge = x - EDGE, y - EDGE, x + CELL[0] + EDGE - 1, y + CELL[1] + EDGE - 1
        draw.rectangle(edge, outline=colour, width=EDGE)
    _write_label(figure, shown, rank, colour, x, y + CELL[1] + CELL_GAP)


def _write_label(figure: Image.Image, shown: Shown, rank: int | None, colour: Colour, x: int, y: int) -> None:
    draw = ImageDraw.Draw(figure)
    heading = "query" if shown.score is None else f"{shown.score:.3f}"
    badge = "" if rank is None else str(rank)
    label = plate(Label((0, 0, 0, 0), heading, colour, badge), HEADING, (CELL[0], HEADING_HEIGHT))
    figure.paste(label, (x, y), label)
    if shown.correct is not None:  # in words too, for those who do not tell the colours apart
        word = "correct" if shown.correct else "wrong"
        draw.text((x + label.width + 10, y + label.height / 2), word, colour, font(TEXT), anchor="lm")
    _write(draw, shown.name, x, y + HEADING_HEIGHT, CELL[0], GREY)


def whole_frame(rgb: np.ndarray, box: Box, size: Size, colour: Colour) -> Image.Image:
    """The whole picture, (H, W, 3) uint8, on a canvas of `size` (width, height), with an xyxy box drawn."""
    scale = min(size[0] / rgb.shape[1], size[1] / rgb.shape[0])
    width, height = max(round(rgb.shape[1] * scale), 1), max(round(rgb.shape[0] * scale), 1)
    canvas = Image.new("RGB", size, PAPER)
    left = (size[0] - width) // 2
    small = Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    draw_box(small, tuple(value * scale for value in box), colour, 2)
    canvas.paste(small, (left, 0))
    return canvas


def _write(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int, colour: Colour) -> None:
    """One line, shortened in the middle to the width."""
    for line in wrap_elided(printable(text), lambda part: font(TEXT).getlength(part) <= width, 1):
        draw.text((x, y), line, colour, font(TEXT))
