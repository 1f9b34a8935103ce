"""A whole search: weights to an engine, a picture and a gallery to a ranking."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from qeeps_cli.device import resolve_device
from qeeps_cli.errors import UsageError
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.exact import FrameAnswer, search_frames
from qeeps_cli.searching.ranking import rank_answers
from qeeps_cli.searching.request import Gallery, QueryPicture, SearchOptions
from qeeps_cli.types import Detections, SearchResult
from qeeps_cli.weights import Checkpoint, find_weights, load_model, read_checkpoint

GPU_BATCH = 8
CLEAR_PERSON = 0.5  # the person score from which `detect` shows people


def load_engine(
    weights: str | Path | None = None, device: str = "auto", params: InferenceParams | None = None
) -> tuple[Engine, Checkpoint]:
    """The network of some weights, ready on a device, and what the checkpoint says of itself.

    weights: as in `find_weights`. device: as in `resolve_device`. Raises WeightsError, UsageError, DeviceError.
    """
    checkpoint = read_checkpoint(find_weights(weights))
    return Engine(load_model(checkpoint), resolve_device(device), params), checkpoint


def number_people(engine: Engine, rgb: np.ndarray, min_score: float = 0.0) -> Detections:
    """The people in a picture (H, W, 3) uint8 by descending person score: number N is row N - 1.

    Neither min_score, which cuts the list short, nor the engine's own params change a person's number.
    """
    found = Engine(engine.model, engine.device, InferenceParams()).detect([rgb])[0]
    order = np.argsort(-found.person_scores, kind="stable")
    order = order[found.person_scores[order] >= min_score]
    return Detections(
        found.boxes[order], found.person_scores[order], found.person_scores[order], found.embeddings[order]
    )


def choose_person(engine: Engine, picture: QueryPicture, number: int) -> QueryPicture:
    """The picture with the box of the person of that number (from 1). Raises UsageError when there is none."""
    people = number_people(engine, picture.rgb)
    name = picture.query.image
    if not 1 <= number <= len(people):
        there = f"a number from 1 to {len(people)}" if len(people) else "a picture in which people are found"
        raise UsageError(f"--person expects {there} for {name}, got {number}. `qeeps detect` shows the numbers.")
    score = float(people.person_scores[number - 1])
    doubt = f"person {number} of {name} may be no person: its person score is {score:.2f}"
    box = tuple(people.boxes[number - 1].tolist())
    return picture.with_box(box, doubt if score < CLEAR_PERSON else None)


def run_search(
    engine: Engine,
    picture: QueryPicture,
    gallery: Gallery,
    options: SearchOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SearchResult:
    """Search every frame of the gallery in exact mode.

    progress: called with (done, total) as frames are answered. Raises NothingToSearchError when no frame could be used,
    NotANumberError when the network gives a score that is not finite.
    """
    options = options or SearchOptions()
    batch = options.batch or (GPU_BATCH if engine.device.type == "cuda" else 1)
    person = QueryPerson(picture.rgb, picture.query.box)
    answers = search_frames(engine, person, gallery.frames, batch=batch, max_pixels=options.max_pixels)
    result = rank_answers(_told(answers, len(gallery.frames), progress), picture.query, options)
    return replace(
        result,
        skipped=[*gallery.skipped, *result.skipped],
        notes=[*picture.notes, *gallery.notes, *result.notes],
        parameters=_parameters(engine, gallery, options),
    )


def _told(answers: Iterable[FrameAnswer], total: int, progress: Callable[[int, int], None]) -> Iterator[FrameAnswer]:
    for done, answer in enumerate(answers, start=1):
        progress(done, total)
        yield answer


def _parameters(engine: Engine, gallery: Gallery, options: SearchOptions) -> dict:
    return {
        **engine.params.to_dict(),
        **options.to_dict(),
        "gallery": list(gallery.roots),
        "recursive": gallery.recursive,
        "device": engine.device.type,
        "precision": str(engine.dtype).removeprefix("torch."),
    }
