"""Canvases for a step: P identities × K crops, with the teacher's targets."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.errors import DataError
from qeeps_cli.training.augment import Rng
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.crop_bank import MIN_HEIGHT, Crop, CropSampler, background_patches, paint_canvas
from qeeps_cli.training.novel_people import novel_person
from qeeps_cli.training.population import UNKNOWN, Population
from qeeps_cli.training.stage import Batch, stack_images
from qeeps_cli.training.teacher import Teacher, shown_to_teacher


class CropBatches:
    """Draws canvases for a step; the later stages use it beside their frames, so that the embedding keeps its
    breadth."""

    def __init__(
        self,
        population: Population,
        crops: list[Crop],
        targets: np.ndarray,
        config: StageConfig,
        teacher: Teacher | None = None,
    ):
        """targets: (N, D) of the crops, NaN where there is none. teacher: sees each canvas, and its targets count
        instead."""
        self.people, self.crops, self.targets, self.config = population.people, crops, targets, config
        self.teacher = teacher
        self.sampler = CropSampler(population.people, population.by_label, population.label_weights)
        if config.identities and len(self.sampler.labels) == 0:
            raise DataError(
                f"no identity of the training data has two crops of at least {MIN_HEIGHT} pixels. Add a set that shows "
                "its people more than once, or set identities = 0 in a stage that trains on frames."
            )
        self.drawable = np.array([i for label in self.sampler.labels for i in self.sampler.by_label[int(label)]])
        self.backgrounds = background_patches(crops, config.canvas)

    def draw(self, rng: np.random.Generator) -> Batch:
        """images (N, 3, H, W) uint8, boxes (N, 4), labels (N,) (UNKNOWN for people who do not exist), targets (N, D) of
        the crops (NaN where there is none)."""
        rows = self.sampler.draw(rng, self.config.identities, self.config.crops_each)
        labels = np.array([self.people[i].label for i in rows])
        targets = self.targets[rows]
        views = []
        for place, row in enumerate(rows):
            is_novel = self.config.novel > 0 and rng.random() < self.config.novel
            if is_novel:
                labels[place], targets[place] = UNKNOWN, np.nan
            views.append(self._painted(self.crops[row], rng, is_novel))
        return _stacked(views) | {
            "labels": torch.from_numpy(labels),
            "targets": torch.from_numpy(targets),
            "count": len(rows),
            "files": sorted({str(self.people[i].path) for i in rows}),
        }

    def targets_of(self, batch: Batch) -> Tensor:
        """(N, D) of the teacher for a drawn batch, on its device; NaN where there is none."""
        if self.teacher is None:
            return batch["targets"]
        return self.teacher.targets(shown_to_teacher(batch["images"], batch["boxes"]))

    def across_cameras(self) -> list[int]:
        """Labels of the identities that several cameras saw."""
        labels, crops_of = [int(label) for label in self.sampler.labels], self.sampler.by_label
        return [label for label in labels if len({self.people[i].camera for i in crops_of[label]}) > 1]

    def canvases_of(
        self, labels: list[int], rng: np.random.Generator, crops_each: int, batch: int = 64
    ) -> Iterator[Batch]:
        """Canvases of these identities, crops_each of each: images (N, 3, H, W) uint8, boxes (N, 4), labels (N,)."""
        rows = [i for label in labels for i in self.sampler.of_identity(label, crops_each, rng)]
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            views = [self._painted(self.crops[i], rng) for i in some]
            yield _stacked(views) | {"labels": torch.tensor([self.people[i].label for i in some])}

    def _painted(self, crop: Crop, rng: Rng, is_novel: bool = False) -> tuple[np.ndarray, np.ndarray]:
        background = self.backgrounds[rng.integers(len(self.backgrounds))]
        change = (lambda shown: novel_person(shown, self._anybody(rng), rng)) if is_novel else None
        return paint_canvas(crop, background, rng, self.config.smallest, change)

    def _anybody(self, rng: Rng) -> Crop:
        return self.crops[int(rng.choice(self.drawable))]


def _stacked(views: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    return {
        "images": stack_images([image for image, _ in views]),
        "boxes": torch.from_numpy(np.stack([box for _, box in views])),
    }
