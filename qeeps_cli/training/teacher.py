"""Targets from a re-identification teacher: unit vectors of a network trained on far more people than we have.

The teacher is an OpenVINO IR (extra `teacher`), used in training only. Its embeddings of the training crops are
computed once and kept beside the run; of canvases, while a step is prepared. See weights/README.md for which teacher
the shipped weights had.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.images import resize
from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.population import Person

INPUT = (256, 128)


def load_teacher(model: Path) -> "Teacher":
    """The teacher of an OpenVINO IR, two files. Raises UsageError if it cannot be read, DataError without OpenVINO."""
    try:
        digest = hashlib.sha256(model.with_suffix(".bin").read_bytes()).digest()
    except OSError as error:
        raise UsageError(
            f"cannot read the teacher {model.with_suffix('.bin')}: {error.strerror}. Expected an OpenVINO model: "
            "two files, .xml and .bin."
        ) from error
    try:
        import openvino
    except ImportError:
        raise DataError(
            "the recipe names a teacher, which runs on OpenVINO: pip install 'qeeps-cli[teacher]', or take `teacher` "
            "out of the recipe."
        ) from None
    network = openvino.Core().compile_model(model, "CPU")
    return Teacher(lambda person: network([person])[0], digest)


class Teacher:
    """Unit vectors of people, and what of them is left when what all people have in common is taken away.

    network: (1, 3, 256, 128) float32, BGR, 0 to 255, to D numbers of any shape. digest: stands for it in a file's name.
    """

    def __init__(self, network: Callable[[np.ndarray], np.ndarray], digest: bytes):
        self._network, self._digest = network, digest
        self._centre: np.ndarray | None = None

    def of_crops(self, people: list[Person], crops: list[Crop], folder: Path) -> np.ndarray:
        """(N, D) float32 unit rows, NaN for people of sets that the recipe does not put before the teacher.

        Computed once and kept in folder, under a digest of the people and the teacher. Their mean is taken away: what
        all people have in common says nothing about who they are, but it is the first thing that a pupil learns, and
        for hundreds of steps the only one.
        """
        wanted = [i for i, person in enumerate(people) if person.teacher]
        if not wanted:
            raise UsageError("the recipe names a teacher, but no set has `teacher = true`, so it would teach nobody.")
        digest = hashlib.sha256(self._digest)
        for index in wanted:
            digest.update(f"{people[index].path.name}|{people[index].box}\n".encode("utf-8", "surrogateescape"))
        path = folder / f"teacher-{digest.hexdigest()[:16]}.npz"
        if path.is_file():
            found = np.load(path)["embeddings"]
        else:
            found = self.embed((crops[i].rgb, crops[i].box) for i in wanted)
            np.savez(path, embeddings=found)
        self._centre = found.mean(axis=0)
        embeddings = np.full((len(people), found.shape[1]), np.nan, np.float32)
        embeddings[wanted] = _unit(found - self._centre)
        return embeddings

    def targets(self, views: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(N, D) float32 unit rows of the people in views, pairs of rgb (H, W, 3) uint8 and a box (4,) xyxy, less the
        mean of `of_crops`, which comes first."""
        return _unit(self.embed(views) - self._centre)

    def embed(self, views: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(N, D) float32 unit rows, as the teacher gives them."""
        return _unit(np.stack([self._network(_input(rgb, box)).reshape(-1) for rgb, box in views]))


def _input(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The person in box, at least a pixel wide and high, as the teacher wants them: (1, 3, 256, 128) BGR, 0 to 255."""
    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = (int(round(float(v))) for v in box)
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    person = rgb[top : max(y2, top + 1), left : max(x2, left + 1)]
    shown = resize(np.ascontiguousarray(person), *INPUT)
    return np.ascontiguousarray(shown[..., ::-1].transpose(2, 0, 1)[None], np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-6)).astype(np.float32)
