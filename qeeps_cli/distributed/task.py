"""What the driver tells workers, and what they answer: plain data that travels between machines."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from qeeps_cli.cache.pairs import PAIR_COMPUTATION
from qeeps_cli.cache.store import Snapshots
from qeeps_cli.errors import ExitCode, QeepsError
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.request import QueryPicture
from qeeps_cli.types import GalleryFrame, VideoMoment

NO_FRAME = -1  # the number of a frame that is no video's
_MOMENT = tuple(field.name for field in fields(VideoMoment))


@dataclass(frozen=True)
class Task:
    """What every worker has to know.

    model: float32, on the CPU. fingerprint: of the engine that is expected of it; None: any. mark: the file that shows
    that a worker's `folder` is the driver's. snapshots: what the cache holds, read and checked by the driver. queries:
    with pixels.
    """

    model: QEEPS
    weights_digest: str
    params: InferenceParams
    device: str
    fingerprint: dict[str, Any] | None
    folder: Path
    mark: str
    snapshots: Snapshots
    batch: int | None
    max_pixels: int
    refresh: bool
    queries: tuple[QueryPicture, ...] = ()
    pair_computation: int = PAIR_COMPUTATION  # of the driver


@dataclass(frozen=True)
class Answer:
    """What became of the frame at a place of the gallery. computed: how much was; 0: it was cached. people: in it."""

    place: int
    digest: str = ""
    computed: int = 0
    people: int = 0
    note: str | None = None
    skipped: str | None = None


class WorkerError(QeepsError):
    """An error of a worker, with the exit code that it had there."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = ExitCode(exit_code)


def frame_columns(work: Sequence[tuple[int, GalleryFrame, Sequence[int]]]) -> dict[str, list]:
    """Places, frames and the queries of each as columns of a dataset. Names are bytes: they need not be text."""
    moments = [frame.moment or VideoMoment(0.0, NO_FRAME) for _, frame, _ in work]
    return {
        "place": [place for place, _, _ in work],
        "path": [os.fsencode(frame.path) for _, frame, _ in work],
        "name": [os.fsencode(frame.name) for _, frame, _ in work],
        **{name: [getattr(moment, name) for moment in moments] for name in _MOMENT},
        "queries": [json.dumps(list(queries)) for _, _, queries in work],
    }


def frames_of(columns: dict[str, np.ndarray]) -> list[tuple[int, GalleryFrame, list[int]]]:
    """The other way round."""
    rows = zip(*(columns[name].tolist() for name in ("place", "path", "name", *_MOMENT)), strict=True)
    frames = [
        (place, GalleryFrame(Path(os.fsdecode(path)), os.fsdecode(name), _moment(*moment)))
        for place, path, name, *moment in rows
    ]
    return [(*pair, json.loads(queries)) for pair, queries in zip(frames, columns["queries"].tolist(), strict=True)]


def answer_column(answers: Iterable[Answer]) -> dict[str, list[str]]:
    return {"answer": [json.dumps(vars(answer)) for answer in answers]}


def failure_column(error: QeepsError, host: str) -> dict[str, list[str]]:
    """An error in place of answers: as an exception it would come with those of Ray around it."""
    message = f"a worker on {host}: {error}"
    return {"answer": [json.dumps({"failure": message, "exit_code": int(error.exit_code)})]}


def parse_answer(text: str) -> Answer:
    """Raises WorkerError for a failure."""
    fields = json.loads(text)
    if "failure" in fields:
        raise WorkerError(fields["failure"], fields["exit_code"])
    return Answer(**fields)


def _moment(*values: float) -> VideoMoment | None:
    moment = VideoMoment(*values)
    return None if moment.number == NO_FRAME else moment
