"""The people of a picture, numbered: a number serves instead of a box."""

import shlex

import numpy as np

from qeeps_cli.errors import UsageError
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine
from qeeps_cli.searching.out_of_memory import Batches, run_or_on_cpu
from qeeps_cli.searching.request import QueryPicture
from qeeps_cli.types import Detections

CLEAR_PERSON = 0.5  # the person score below which a person who was chosen by number may be none


def number_people(engine: Engine, rgb: np.ndarray, min_score: float = 0.0) -> tuple[Detections, list[str]]:
    """The people in a picture (H, W, 3) uint8 by descending person score: number N is row N - 1; and notes.

    Neither min_score, which cuts the list short, nor the engine's own params change a person's number. Where the memory
    of a GPU does not suffice, the CPU finds them, and a note says so; raises OutOfMemory where that GPU was asked for
    by name.
    """

    def detect(engine: Engine, notes: list[str]) -> tuple[Detections, list[str]]:
        return Batches(engine.device).run(engine.with_params(InferenceParams()).detect, [rgb])[0], notes

    found, notes = run_or_on_cpu(engine, detect)
    order = np.argsort(-found.person_scores, kind="stable")
    order = order[found.person_scores[order] >= min_score]
    scores = found.person_scores[order]
    return Detections(found.boxes[order], scores, scores, found.embeddings[order]), notes


def choose_person(
    engine: Engine, picture: QueryPicture, number: int, max_pixels: int = MAX_PIXELS
) -> QueryPicture:
    """The picture with the box of the person of that number (from 1). Raises UsageError when there is none."""
    people, notes = number_people(engine, picture.pixels(max_pixels))
    name = picture.query.image
    if not len(people):
        raise UsageError(f"--person {number}: nobody was found in {name}. Give the person's box instead.")
    if not 1 <= number <= len(people):
        raise UsageError(
            f"--person expects a number from 1 to {len(people)} for {name}, got {number}. They are those of "
            f"`qeeps detect {shlex.quote(str(name))}`, with the same weights."
        )
    score = float(people.person_scores[number - 1])
    if score < CLEAR_PERSON:
        notes = [*notes, f"person {number} of {name} may be no person: its person score is {score:.2f}"]
    return picture.with_box(tuple(people.boxes[number - 1].tolist()), *notes)
