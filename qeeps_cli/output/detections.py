"""`qeeps detect`: the people of one picture, numbered, as a picture and as JSON of schema `qeeps.detect/1`."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from qeeps_cli.output.drawing import GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, Label, draw_labels
from qeeps_cli.output.json_writer import border_box, border_score
from qeeps_cli.types import Detections

SCHEMA = "qeeps.detect/1"
COLOURS = (ORANGE, SKY, YELLOW, GREEN, PURPLE, VERMILLION)  # neighbours in a crowd are told apart by number and colour


def detections_document(image: Path, size: tuple[int, int], people: Detections) -> dict:
    """The people as JSON types, for `json_writer.dump`. size: (height, width) pixels; in the JSON [width, height].

    `number` counts from 1 in the order of `people`. Raises NotANumberError when a score or a box is not finite.
    """
    return {
        "schema": SCHEMA,
        "image": os.fspath(image),
        "size": [int(size[1]), int(size[0])],
        "people": [
            {
                "number": number,
                "box": border_box(box, f"person {number} in {image}"),
                "person_score": border_score(score, f"person {number} in {image}"),
            }
            for number, (box, score) in enumerate(zip(people.boxes, people.person_scores, strict=True), start=1)
        ],
    }


def draw_detections(rgb: np.ndarray, people: Detections) -> Image.Image:
    """A copy of the picture, (H, W, 3) uint8, with a box and its number around each person; number 1 lies on top."""
    return draw_labels(
        rgb,
        [
            Label(tuple(map(float, box)), str(number), COLOURS[(number - 1) % len(COLOURS)])
            for number, box in enumerate(people.boxes, start=1)
        ],
    )
