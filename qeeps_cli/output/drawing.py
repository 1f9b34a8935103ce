"""What every picture of the output floor shares: colours, sizes, boxes and label plates.

Sizes are in proportion to the picture, so that labels read equally well at 720x576 and at 4K. Colours are of Okabe and
Ito's palette ("Color Universal Design", 2008), which people with any common colour blindness can tell apart; text on it
is black.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qeeps_cli.types import Box

Size = tuple[int, int]  # (width, height) in pixels, as Pillow has it
Colour = tuple[int, int, int]

ORANGE = (230, 159, 0)
SKY = (86, 180, 233)
GREEN = (0, 158, 115)
YELLOW = (240, 228, 66)
VERMILLION = (213, 94, 0)
PURPLE = (204, 121, 167)
INK = (17, 17, 17)
WHITE = (255, 255, 255)

JPEG_QUALITY = 92
JPEG_LONGEST = 65500
HALO = (0, 0, 0, 150)  # the dark rim that sets a box off from a background of its own colour
HEAD = 0.2  # the share of a standing person's box, from the top, that holds the head
FACE_WIDTH = 0.7  # and its width, as a share of the box's
SUPERSAMPLING = 4
MIN_FONT = 6
WEAK = 0.8  # font size of a weak match's plate, as a share of the usual


@dataclass(frozen=True)
class Scale:
    """Sizes in pixels for a picture: line width of a box, font size of a label."""

    line: int
    font: int

    @classmethod
    def of(cls, size: Size) -> "Scale":
        """For a picture of (width, height) pixels."""
        longer = max(size)
        return cls(line=max(2, round(0.004 * longer)), font=max(13, round(0.021 * longer)))


@dataclass(frozen=True)
class Label:
    """A box to draw, with a plate: the badge in the box's colour on black, then the text in black on the colour.

    weak: in a thinner line and with a smaller plate.
    """

    box: Box
    text: str
    colour: Colour
    badge: str = ""
    weak: bool = False


def draw_labels(rgb: np.ndarray, labels: list[Label]) -> Image.Image:
    """A copy of the picture (H, W, 3 uint8) with boxes and their plates; the first label lies on top of the others."""
    image = Image.fromarray(rgb)
    scale = Scale.of(image.size)
    plates = [plate(label, round(scale.font * (WEAK if label.weak else 1)), image.size) for label in labels]
    corners = _place(labels, [drawn.size for drawn in plates], scale.line, image.size)
    for label in reversed(labels):
        draw_box(image, label.box, label.colour, (scale.line + 1) // 2 if label.weak else scale.line)
    for drawn, corner in zip(reversed(plates), reversed(corners), strict=True):
        image.paste(drawn, corner, drawn)
    return image


def draw_box(image: Image.Image, box: Box, colour: Colour, line: int) -> None:
    """Draws an xyxy box on the image: a line outside the box, with a thin dark rim on both its sides."""
    draw = ImageDraw.Draw(image, "RGBA")
    rim = max(1, line // 4)
    x1, y1, x2, y2 = (round(value) for value in box)
    for reach, width, ink in ((line + rim, line + 2 * rim, HALO), (line, line, colour)):
        # Kept inside the picture, so that a box that touches the border is closed there too.
        left, top = max(x1 - reach, 0), max(y1 - reach, 0)
        right, bottom = min(x2 + reach, image.width) - 1, min(y2 + reach, image.height) - 1
        if right > left and bottom > top:
            draw.rectangle((left, top, right, bottom), outline=ink, width=width)


def plate(label: Label, points: int, room: Size) -> Image.Image:
    """The label's plate, RGBA: in a font of `points` pixels, or less where it exceeds a room of (width, height)."""
    while True:
        face = font(points)
        pad = max(2, round(points * 0.3))
        _, top, _, bottom = face.getbbox("0")  # the height of digits: all plates of a picture are equally high
        widths = [round(face.getlength(text)) + 2 * pad if text else 0 for text in (label.badge, label.text)]
        width, height = sum(widths), bottom - top + 2 * pad
        if points <= MIN_FONT or (width <= room[0] and height <= room[1]):
            break
        points -= 1
    image = Image.new("RGBA", (width, height), label.colour)
    draw = ImageDraw.Draw(image)
    if label.badge:
        draw.rectangle((0, 0, widths[0] - 1, height), fill=INK)
    draw.text((pad, pad - top), label.badge, font=face, fill=label.colour)
    draw.text((widths[0] + pad, pad - top), label.text, font=face, fill=INK)
    image.putalpha(_rounded(image.size, pad * 0.7))
    return image


def jpeg(image: Image.Image) -> bytes:
    """The picture as JPEG, without colour subsampling, which would blur the thin coloured lines.

    A side longer than JPEG can store is made to fit.
    """
    if max(image.size) > JPEG_LONGEST:
        image.thumbnail((JPEG_LONGEST, JPEG_LONGEST))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own TrueType font, which needs nothing installed."""
    return ImageFont.load_default(size)


def _rounded(size: Size, radius: float) -> Image.Image:
    """A mask of a rectangle of (width, height) with smooth round corners."""
    mask = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    whole = (0, 0, mask.width - 1, mask.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(whole, radius * SUPERSAMPLING, fill=255)
    return mask.reduce(SUPERSAMPLING)


def _place(labels: list[Label], plates: list[Size], line: int, picture: Size) -> list[tuple[int, int]]:
    """The left top corner of each plate: inside the picture, off the heads and earlier plates where there is room."""
    heads = [_head(label.box) for label in labels]
    boxes = [label.box for label in labels]
    taken: list[Box] = []
    for label, size in zip(labels, plates, strict=True):
        best = min(
            _candidates(label.box, size, line, picture),
            key=lambda spot: 8 * _overlap(spot, taken) + 4 * _overlap(spot, heads) + _overlap(spot, boxes),
        )
        taken.append(best)
    return [(int(spot[0]), int(spot[1])) for spot in taken]


def _candidates(box: Box, plate: Size, line: int, picture: Size) -> list[Box]:
    """Places for a plate around a box, xyxy, the best first: above, below, beside the head, inside at the feet."""
    width, height = plate
    gap = line + max(1, line // 4)
    left, top, right, bottom = box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (right, top),
        (left - width, top),
        (right, bottom - height),
        (left - width, bottom - height),
        (left, bottom - height),
    ]
    room = picture[0] - width, picture[1] - height
    spots = []
    for x, y in corners:
        x, y = max(0, min(round(x), room[0])), max(0, min(round(y), room[1]))
        spots.append((x, y, x + width, y + height))
    return spots


def _head(box: Box) -> Box:
    """Where the head of a standing person in this box is."""
    side = (box[2] - box[0]) * (1 - FACE_WIDTH) / 2
    return box[0] + side, box[1], box[2] - side, box[1] + (box[3] - box[1]) * HEAD


def _overlap(spot: Box, others: list[Box]) -> float:
    """Pixels that a spot shares with the others, all xyxy."""
    return sum(
        max(0.0, min(spot[2], other[2]) - max(spot[0], other[0]))
        * max(0.0, min(spot[3], other[3]) - max(spot[1], other[1]))
        for other in others
    )
