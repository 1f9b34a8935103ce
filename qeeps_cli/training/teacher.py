"""Targets from a re-identification teacher: unit vectors of a network trained on far more people than we have.

The teacher is an OpenVINO IR (extra `teacher`), used in training only: its embeddings of training crops are computed
once and kept beside the run. See weights/README.md for which teacher the shipped weights had.
"""

import hashlib
from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.images import resize
from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.population import Person

INPUT = (256, 128)


def teacher_embeddings(people: list[Person], crops: list[Crop], model: Path, folder: Path) -> np.ndarray:
    """(N, D) float32 unit rows, NaN for people of sets that the recipe does not put before the teacher.

    Computed once and kept in folder, under a digest of the people and the teacher.
    """
    wanted = [i for i, person in enumerate(people) if person.teacher]
    if not wanted:
        raise UsageError("the recipe names a teacher, but no set has `teacher = true`, so it would teach nobody.")
    try:
        digest = hashlib.sha256(model.with_suffix(".bin").read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot read the teacher {model.with_suffix('.bin')}: {error.strerror}. Expected an OpenVINO model: "
            "two files, .xml and .bin."
        ) from error
    for index in wanted:
        digest.update(f"{people[index].path.name}|{people[index].box}\n".encode("utf-8", "surrogateescape"))
    path = folder / f"teacher-{digest.hexdigest()[:16]}.npz"
    if path.is_file():
        found = np.load(path)["embeddings"]
    else:
        found = _run(model, [crops[i] for i in wanted])
        np.savez(path, embeddings=found)
    embeddings = np.full((len(people), found.shape[1]), np.nan, np.float32)
    embeddings[wanted] = _centred(found)
    return embeddings


def _centred(embeddings: np.ndarray) -> np.ndarray:
    """Unit rows after their mean is taken away.

    What all people have in common says nothing about who they are, but it is the first thing that a pupil learns, and
    for hundreds of steps the only one.
    """
    centred = embeddings - embeddings.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=1e-6)


def _run(model: Path, crops: list[Crop]) -> np.ndarray:
    try:
        import openvino
    except ImportError:
        raise DataError(
            "the recipe names a teacher, which runs on OpenVINO: pip install 'qeeps-cli[teacher]', or take `teacher` "
            "out of the recipe."
        ) from None
    network = openvino.Core().compile_model(model, "CPU")
    rows = []
    for crop in crops:
        x1, y1, x2, y2 = (int(round(float(v))) for v in crop.box)
        person = resize(np.ascontiguousarray(crop.rgb[max(y1, 0) : y2, max(x1, 0) : x2]), *INPUT)
        bgr = person[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        rows.append(network([bgr])[0].reshape(-1))
    embeddings = np.stack(rows) if rows else np.empty((0, 1), np.float32)
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
