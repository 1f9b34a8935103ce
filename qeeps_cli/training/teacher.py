"""Targets from a re-identification teacher: unit vectors of a network trained on far more people than we have.

The teacher is an OpenVINO IR, used in training only; OpenVINO (extra `teacher`) computes it on a CPU, PyTorch on a GPU.
Its embeddings of the training crops are computed once and kept beside the run; of canvases, at each step. See
weights/README.md for which teacher the shipped weights had.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.images import resize
from qeeps_cli.model.pooling import ADAPTIVE, pool
from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.openvino_ir import IRNetwork
from qeeps_cli.training.population import Person

INPUT = (256, 128)
BATCH = 64  # crops that the network is given at a time

Network = Callable[[Tensor], Tensor]


def load_teacher(model: Path, device: torch.device) -> "Teacher":
    """The teacher of an OpenVINO IR, two files. Raises UsageError if it cannot be read or computed on the device,
    DataError on a CPU without OpenVINO."""
    try:
        digest = hashlib.sha256(model.with_suffix(".bin").read_bytes()).digest()
    except OSError as error:
        raise UsageError(
            f"cannot read the teacher {model.with_suffix('.bin')}: {error.strerror}. Expected an OpenVINO model: "
            "two files, .xml and .bin."
        ) from error
    if device.type != "cpu":
        return Teacher(IRNetwork(model, device), digest, device)
    return Teacher(_in_openvino(model), digest)


def _in_openvino(model: Path) -> Network:
    try:
        import openvino
    except ImportError:
        raise DataError(
            "the recipe names a teacher, which runs on OpenVINO: pip install 'qeeps-cli[teacher]', or take `teacher` "
            "out of the recipe."
        ) from None
    network = openvino.Core().compile_model(model, "CPU")
    return lambda people: torch.from_numpy(np.concatenate([network([p[None]])[0] for p in people.numpy()]))


class Teacher:
    """Unit vectors of people, and what of them is left when what all people have in common is taken away.

    network: (N, 3, 256, 128) float32 on the device, BGR, 0 to 255, to N × D numbers of any shape. digest: stands for it
    in a file's name.
    """

    def __init__(self, network: Network, digest: bytes, device: str | torch.device = "cpu"):
        self._network, self._digest, self._device = network, digest, torch.device(device)
        self._centre: Tensor | None = None

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
            found = np.concatenate(list(self._in_batches([crops[i] for i in wanted])))
            np.savez(path, embeddings=found)
        self._centre = torch.from_numpy(found.mean(axis=0)).to(self._device)
        embeddings = np.full((len(people), found.shape[1]), np.nan, np.float32)
        embeddings[wanted] = self._centred(torch.from_numpy(found).to(self._device)).cpu().numpy()
        return embeddings

    def targets(self, inputs: Tensor) -> Tensor:
        """(N, D) float32 unit rows on the device, less the mean of `of_crops`, which comes first. inputs: of
        `shown_to_teacher`."""
        return self._centred(self.embed(inputs))

    def embed(self, inputs: Tensor) -> Tensor:
        """(N, D) float32 unit rows on the device, as the teacher gives them. inputs: of `shown_to_teacher` or
        `teacher_inputs`."""
        with torch.autocast(self._device.type, enabled=False):  # targets without the rounding of bfloat16
            rows = self._network(inputs.to(self._device).float())
        return F.normalize(rows.reshape(len(inputs), -1), dim=1)

    def _in_batches(self, crops: list[Crop]) -> Iterator[np.ndarray]:
        for start in range(0, len(crops), BATCH):
            inputs = teacher_inputs((crop.rgb, crop.box) for crop in crops[start : start + BATCH])
            yield self.embed(inputs).cpu().numpy()

    def _centred(self, rows: Tensor) -> Tensor:
        return F.normalize(rows - self._centre, dim=1)


def shown_to_teacher(images: Tensor, boxes: Tensor) -> Tensor:
    """(N, 3, 256, 128) float32, BGR, 0 to 255, of the person of boxes (N, 4) xyxy in each of images (N, 3, H, W) uint8,
    on their device."""
    return pool(images.float(), list(boxes.split(1)), INPUT, stride=1, samples=ADAPTIVE).flip(1)


def teacher_inputs(views: Iterable[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """(N, 3, 256, 128) uint8, BGR, of people in views: pairs of rgb (H, W, 3) uint8 and a box (4,) xyxy."""
    return torch.from_numpy(np.stack([_input(rgb, box) for rgb, box in views]))


def _input(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The person in box, at least a pixel wide and high, as the teacher wants them: (3, 256, 128) BGR."""
    height, width = rgb.shape[:2]
    x1, y1, x2, y2 = (int(round(float(v))) for v in box)
    left, top = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    person = rgb[top : max(y2, top + 1), left : max(x2, left + 1)]
    shown = resize(np.ascontiguousarray(person), *INPUT)
    return shown[..., ::-1].transpose(2, 0, 1)
