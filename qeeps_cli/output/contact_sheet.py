"""The contact sheet: one picture with the query on the left and the best matches as crops of equal size beside it.

With ground truth (`Tile.correct`) right and wrong matches are framed in green and red, as in Figure 6 of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from qeeps_cli.output.drawing import GREEN, INK, ORANGE, SKY, VERMILLION, Colour, Label, Size, draw_box, font, plate
from qeeps_cli.output.names import printable, wrap_elided
from qeeps_cli.types import Box

COLUMNS = 5
CELL = (200, 300)  # pixels, (width, height), of a match's crop
QUERY_CELL = (260, 390)
CONTEXT = 1.35  # the crop's side as a multiple of the box's
MARGIN, GAP = 28, 20
PAPER, PAD, GREY = (255, 255, 255), (228, 230, 233), (95, 99, 104)
HEADING_SIZE, NAME_SIZE, MESSAGE_SIZE = 20, 15, 26
NAME_LINES, NAME_LEADING, HEADING_HEIGHT = 2, 19, 40
CAPTION = HEADING_HEIGHT + NAME_LINES * NAME_LEADING
LINE = 3
FRAME = 5  # the coloured frame around a crop whose correctness is known


@dataclass(frozen=True)
class Tile:
    """One person on the sheet: a crop made by `crop_person`, its heading (a score, "query") and its file's name.

    correct: whether it shows the query's person, where that is known.
    """

    crop: Image.Image
    heading: str
    name: str
    rank: int | None = None
    correct: bool | None = None

    @property
    def colour(self) -> Colour:
        return tile_colour(self.rank, self.correct)


def tile_colour(rank: int | None, correct: bool | None = None) -> Colour:
    """The colour of a match's box on the sheet; of the query's (no rank)."""
    if correct is not None:
        return GREEN if correct else VERMILLION
    return SKY if rank is None else ORANGE


def query_tile(rgb: np.ndarray, box: Box | None, name: str) -> Tile:
    """The query: (H, W, 3) uint8 and the person's xyxy box, or None where the whole picture is the person."""
    return Tile(crop_person(rgb, box, QUERY_CELL, tile_colour(None)), "query", name)


def match_tile(rgb: np.ndarray, box: Box, rank: int, score: float, name: str, correct: bool | None = None) -> Tile:
    """A match in its frame: (H, W, 3) uint8 and an xyxy box."""
    crop = crop_person(rgb, box, CELL, tile_colour(rank, correct))
    return Tile(crop, f"{score:.3f}", name, rank, correct)


def crop_person(rgb: np.ndarray, box: Box | None, size: Size, colour: Colour) -> Image.Image:
    """The person with some surroundings, the box drawn, as an image of `size` (width, height).

    The crop stays inside the picture where the picture is large enough for it; what is missing is grey. Without a box
    the whole picture is shown.
    """
    image = Image.fromarray(rgb)
    x, y, height = _window(box or (0, 0, *image.size), image.size, size[0] / size[1])
    scale = size[1] / height
    part = max(x, 0), max(y, 0), min(x + size[0] / scale, image.width), min(y + height, image.height)
    left, top, right, bottom = map(round, _map(part, x, y, scale))
    canvas = Image.new("RGB", size, PAD)
    shown = image.resize((max(right - left, 1), max(bottom - top, 1)), Image.Resampling.LANCZOS, part)
    canvas.paste(shown, (left, top))
    if box is not None:
        draw_box(canvas, _map(box, x, y, scale), colour, LINE)
    return canvas


def contact_sheet(
    query: Tile | None, matches: Sequence[Tile], summary: Sequence[str] = (), message: str = "no matches"
) -> Image.Image:
    """The whole sheet.

    query: None where its picture could not be read. matches: in the order of ranks. summary: lines of text below the
    query. message: what stands in the matches' place where there are none.
    """
    columns = max(3, min(COLUMNS, len(matches)))  # three: room for the message of an empty sheet
    rows = max(1, -(-len(matches) // COLUMNS))
    grid = columns * (CELL[0] + GAP) - GAP, rows * (CELL[1] + CAPTION + GAP) - GAP
    text = [line for entry in summary for line in _wrapped(entry, QUERY_CELL[0], lines=3)]
    panel_height = QUERY_CELL[1] + CAPTION + GAP + len(text) * NAME_LEADING
    left = MARGIN + QUERY_CELL[0] + 2 * GAP
    sheet = Image.new("RGB", (left + grid[0] + MARGIN, max(grid[1], panel_height) + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)

    if query is None:
        draw.rectangle((MARGIN, MARGIN, MARGIN + QUERY_CELL[0] - 1, MARGIN + QUERY_CELL[1] - 1), fill=PAD)
        _write(draw, ["the query picture", "could not be read"], MARGIN + GAP, MARGIN + GAP)
    else:
        _draw_tile(sheet, query, MARGIN, MARGIN)
    _write(draw, text, MARGIN, MARGIN + QUERY_CELL[1] + CAPTION + GAP)
    draw.line((left - GAP, MARGIN, left - GAP, sheet.height - MARGIN), fill=PAD, width=2)
    for i, tile in enumerate(matches):
        row, column = divmod(i, COLUMNS)
        _draw_tile(sheet, tile, left + column * (CELL[0] + GAP), MARGIN + row * (CELL[1] + CAPTION + GAP))
    if not matches:
        place = left + grid[0] / 2, MARGIN + QUERY_CELL[1] / 2
        text = "\n".join(_wrapped(message, grid[0], lines=3, points=MESSAGE_SIZE))
        draw.multiline_text(place, text, GREY, font(MESSAGE_SIZE), anchor="mm", align="center", spacing=10)
    return sheet


def _window(box: Box, picture: Size, aspect: float) -> tuple[float, float, float]:
    """Left, top and height of the crop around a box; its width is aspect × height."""
    needed = max(box[3] - box[1], (box[2] - box[0]) / aspect, 1.0)
    available = min(picture[1], picture[0] / aspect)
    height = max(needed, min(needed * CONTEXT, available))
    x = _inside((box[0] + box[2] - height * aspect) / 2, height * aspect, picture[0])
    y = _inside((box[1] + box[3] - height) / 2, height, picture[1])
    return x, y, height


def _map(box: Box, x: float, y: float, scale: float) -> Box:
    """A box of the picture in the pixels of a crop that starts at (x, y)."""
    return (box[0] - x) * scale, (box[1] - y) * scale, (box[2] - x) * scale, (box[3] - y) * scale


def _inside(start: float, length: float, limit: float) -> float:
    """The start of an interval, moved into 0…limit where it fits, else so that it covers that evenly."""
    return min(max(start, 0.0), limit - length) if length <= limit else (limit - length) / 2


def _draw_tile(sheet: Image.Image, tile: Tile, x: int, y: int) -> None:
    width, height = tile.crop.size
    draw = ImageDraw.Draw(sheet)
    sheet.paste(tile.crop, (x, y))
    if tile.correct is not None:
        frame = x - FRAME, y - FRAME, x + width + FRAME - 1, y + height + FRAME - 1
        draw.rectangle(frame, outline=tile.colour, width=FRAME)
    badge = "" if tile.rank is None else str(tile.rank)
    label = plate(Label((0, 0, 0, 0), tile.heading, tile.colour, badge), HEADING_SIZE, (width, HEADING_HEIGHT))
    sheet.paste(label, (x, y + height + 8), label)
    if tile.correct is not None:  # in words too, for those who do not tell the colours apart
        word = "correct" if tile.correct else "wrong"
        middle = y + height + 8 + label.height / 2
        draw.text((x + label.width + 10, middle), word, tile.colour, font(NAME_SIZE), anchor="lm")
    _write(draw, _wrapped(tile.name, width, NAME_LINES), x, y + height + HEADING_HEIGHT, INK)


def _wrapped(text: str, width: int, lines: int, points: int = NAME_SIZE) -> list[str]:
    return wrap_elided(printable(text), lambda part: font(points).getlength(part) <= width, lines)


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], x: int, y: int, colour: Colour = GREY) -> None:
    for i, line in enumerate(lines):
        draw.text((x, y + i * NAME_LEADING), line, colour, font(NAME_SIZE))
