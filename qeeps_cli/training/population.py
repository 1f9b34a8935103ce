"""Who is in the training data: one numbering of identities over all sets, and where each person can be seen."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qeeps_cli.datasets import load, load_crops
from qeeps_cli.datasets.frames import CropSet, FrameSet
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.training.config import DataSource
from qeeps_cli.types import Box

UNKNOWN = -1
Who = int | tuple[Path, int]  # person_id of a set, or a picture and the row in it of somebody unnamed
SPLIT_SETS = ("prw", "cuhk-sysu")  # their readers give the test split unless told otherwise


@dataclass(frozen=True)
class Person:
    """One person in one picture, who is to be drawn.

    box: xyxy pixels, or None where the picture is the person's crop. label: number of the identity over all sets, or
    UNKNOWN. frame: index into Population.frames, or -1 for a crop. row: the person's row in that frame's boxes.
    unnamed: somebody without identity, also in a set that names others, whose label is of this picture alone.
    """

    path: Path
    box: Box | None
    label: int
    camera: str
    group: str  # the scene or set, within which hard negatives are drawn
    frame: int = -1
    row: int = 0
    teacher: bool = False
    as_crop: bool = True  # may be drawn as a crop, too
    unnamed: bool = False


@dataclass(frozen=True)
class Frame:
    """A training frame: boxes (N, 4) xyxy pixels, labels (N,) over all sets, ignore (N,)."""

    path: Path
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    camera: str
    source: int


@dataclass(frozen=True)
class Population:
    """Every training frame and person. by_label: indices into people of each identity. holdout: people kept out."""

    frames: list[Frame]
    people: list[Person]
    by_label: dict[int, list[int]]
    frame_weights: np.ndarray
    label_weights: dict[int, float]
    holdout: list[Person]

    @property
    def num_identities(self) -> int:
        return max(self.by_label, default=-1) + 1


def gather(sources: Sequence[DataSource], named: bool = True) -> Population:
    """Read all sets and number their identities. named: whether it takes people with an identity to train what the
    recipe trains. Raises DataError if that holds and there are none, or a set is unusable."""
    builder = _Builder()
    for index, source in enumerate(sources):
        builder.add(_read(source), source, index)
    return builder.build(named)


def _read(source: DataSource) -> FrameSet | CropSet:
    if source.kind in SPLIT_SETS:
        return load(source.kind, source.root, **{"split": "train"} | source.options)
    if source.kind != "crops":
        return load(source.kind, source.root, **source.options)
    if source.options:
        raise UsageError(f"a [[data]] table of kind crops has no key {', '.join(sorted(source.options))}.")
    return load_crops(source.root)


def _scene(camera: str) -> str:
    """The scene of a camera named as the renderer does: "s0003c1" is camera 1 of scene s0003."""
    return re.sub(r"c\d+$", "", camera)


def _unnamed(content: FrameSet | CropSet) -> Iterator[tuple[Path, int]]:
    """The pictures and rows of people of whom nobody has said who they are."""
    if isinstance(content, FrameSet):
        for frame in content.frames:
            yield from ((frame.path, int(row)) for row in np.flatnonzero(~frame.ignore & (frame.person_ids < 0)))


class _Builder:
    def __init__(self):
        self.frames: list[Frame] = []
        self.frame_weights: list[float] = []
        self.people: list[Person] = []
        self.holdout: list[Person] = []
        self.holdout_labels: dict[tuple[int, int], int] = {}
        self.label_weights: dict[int, float] = {}

    def add(self, content: FrameSet | CropSet, source: DataSource, index: int) -> None:
        kept = content.identities[: max(0, len(content.identities) - source.holdout)]
        labels: dict[Who, int] = {}
        for who in (*kept, *(_unnamed(content) if source.unnamed else ())):
            labels.setdefault(who, len(self.label_weights) + len(labels))
        share = source.weight / max(len(labels), 1)
        self.label_weights |= dict.fromkeys(labels.values(), share)
        if isinstance(content, CropSet):
            self._add_crops(content, source, index, labels)
        else:
            self._add_frames(content, source, index, labels)

    def _add_crops(self, content: CropSet, source: DataSource, index: int, labels: dict[Who, int]) -> None:
        for crop in content.crops:
            label = labels.get(crop.person_id)
            if label is None:  # a number of its own, not its set's: that may stand for another person in another set
                own = self.holdout_labels.setdefault((index, crop.person_id), len(self.holdout_labels))
                self.holdout.append(Person(crop.path, None, own, crop.camera, content.name))
            else:
                person = Person(crop.path, None, label, crop.camera, content.name, teacher=source.teacher)
                self.people.append(person)

    def _add_frames(self, content: FrameSet, source: DataSource, index: int, labels: dict[Who, int]) -> None:
        for frame in content.frames:
            numbers = np.array([labels.get(int(i), UNKNOWN) for i in frame.person_ids], np.int64)
            if source.use != "crops":
                self.frames.append(Frame(frame.path, frame.boxes, numbers, frame.ignore, frame.camera, index))
                self.frame_weights.append(source.weight / len(content.frames))
            for row in map(int, np.flatnonzero(~frame.ignore)):
                label = labels.get((frame.path, row), int(numbers[row]))
                if label == UNKNOWN:
                    continue
                self.people.append(
                    Person(
                        frame.path,
                        tuple(float(v) for v in frame.boxes[row]),
                        label,
                        frame.camera,
                        f"{index}/{_scene(frame.camera)}",
                        len(self.frames) - 1 if source.use != "crops" else -1,
                        row,
                        source.teacher,
                        source.use != "frames",
                        unnamed=bool(numbers[row] == UNKNOWN),
                    )
                )

    def build(self, named: bool) -> Population:
        by_label: dict[int, list[int]] = defaultdict(list)
        for i, person in enumerate(self.people):
            by_label[person.label].append(i)
        if named and not by_label:
            raise DataError(
                "no identities in the training data: every person_id is -1. Detection can be learnt from such sets, "
                "but a person search needs at least one set whose people are named; add one to the recipe."
            )
        weights = np.asarray(self.frame_weights)
        return Population(
            self.frames,
            self.people,
            dict(by_label),
            weights / weights.sum() if len(weights) else weights,
            {label: w for label, w in self.label_weights.items() if label in by_label},
            self.holdout,
        )
