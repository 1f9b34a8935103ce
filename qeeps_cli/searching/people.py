"""The people of a picture, numbered: a number serves instead of a box."""

import numpy as np

from qeeps_cli.errors import UsageError
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.request import QueryPicture
from qeeps_cli.types import Detections

CLEAR_PERSON = 0.5  # the person score from which `detect` shows people


def number_people(engine: Engine, rgb: np.ndarray, min_score: float = 0.0) -> Detections:
    """The people in a picture (H, W, 3) uint8 by descending person score: number N is row N - 1.

    Neither min_score, which cuts the list short, nor the engine's own params change a person's number.
    """
    found = engine.with_params(InferenceParams()).detect([rgb])[0]
    order = np.argsort(-found.person_scores, kind="stable")
    order = order[found.person_scores[order] >= min_score]
    return Detections(
        found.boxes[order], found.person_scores[order], found.person_scores[order], found.embeddings[order]
    )


def choose_person(
    engine: Engine, picture: QueryPicture, number: int, max_pixels: int = MAX_PIXELS
) -> QueryPicture:
    """The picture with the box of the person of that number (from 1). Raises UsageError when there is none."""
    people = number_people(engine, picture.pixels(max_pixels))
    name = picture.query.image
    if not 1 <= number <= len(people):
        there = f"a number from 1 to {len(people)}" if len(people) else "a picture in which people are found"
        raise UsageError(f"--person expects {there} for {name}, got {number}. `qeeps detect` shows the numbers.")
    score = float(people.person_scores[number - 1])
    doubt = f"person {number} of {name} may be no person: its person score is {score:.2f}"
    box = tuple(people.boxes[number - 1].tolist())
    return picture.with_box(box, doubt if score < CLEAR_PERSON else None)
