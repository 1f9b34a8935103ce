"""Frames for a step: two views of one identity where there are any, so that each batch holds positives across
cameras."""

import numpy as np
import torch

from qeeps_cli.errors import DataError
from qeeps_cli.training.augment import Rng, jitter_boxes
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.population import Population
from qeeps_cli.training.stage import Batch, stack_images
from qeeps_cli.training.views import View, view

JITTERED_COPIES = 3  # of each person's box, among the candidates for RoIs
JITTER = 0.12  # of the box's sides


class FrameBatches:
    """Draws frames and turns them into views with labels and the teacher's targets."""

    def __init__(self, population: Population, teacher: np.ndarray, config: StageConfig):
        if not population.frames:
            raise DataError(
                "this stage trains on frames, but the recipe has crops alone. Add a [[data]] table of frames, or leave "
                "the stage out."
            )
        self.population, self.teacher, self.config = population, teacher, config
        self.sightings = {
            label: [i for i in rows if population.people[i].frame >= 0] for label, rows in population.by_label.items()
        }
        self.labels = np.array([label for label, rows in self.sightings.items() if len(rows) > 1], np.int64)
        weights = np.array([population.label_weights[int(label)] for label in self.labels])
        self.weights = weights / weights.sum() if len(weights) else weights
        self.person_of = {(p.frame, p.row): i for i, p in enumerate(population.people) if p.frame >= 0}

    def draw_pair(self, rng: Rng) -> tuple[tuple[int, int], tuple[int, int]]:
        """Two (frame, row) sightings of one identity, from two cameras where the identity has been in two."""
        people = self.population.people
        label = int(rng.choice(self.labels, p=self.weights))
        rows = rng.permutation(self.sightings[label])
        first = people[rows[0]]
        others = [people[i] for i in rows[1:] if people[i].frame != first.frame] or [first]
        elsewhere = [p for p in others if p.camera != first.camera]
        second = (elsewhere or others)[0]
        return (first.frame, first.row), (second.frame, second.row)

    def draw_frame(self, rng: Rng) -> int:
        """Any frame, by the weights of the sets."""
        return int(rng.choice(len(self.population.frames), p=self.population.frame_weights))

    def batch(self, count: int, identity_share: float, rng: Rng) -> Batch:
        """`count` views with their people. identity_share: of the draws, the share that takes two sightings of one
        identity; the others take any frame."""
        drawn: list[tuple[int, int | None]] = []  # a frame, and the row to show whole
        while len(drawn) < count:
            if len(self.labels) and rng.random() < identity_share:
                drawn += self.draw_pair(rng)
            else:
                drawn.append((self.draw_frame(rng), None))
        drawn = drawn[:count]
        views = [self.view_of(frame, focus, rng, rng.random() < 0.5) for frame, focus in drawn]
        return {
            "images": stack_images([v.rgb for v in views]),
            "people": [self.people_in(v, frame, rng) for v, (frame, _) in zip(views, drawn, strict=True)],
            "files": [self.path_of(frame) for frame, _ in drawn],
            "count": count,
        }

    def path_of(self, frame: int) -> str:
        return str(self.population.frames[frame].path)

    def view_of(self, frame: int, focus: int | None, rng: Rng, mirror: bool) -> View:
        return view(self.population.frames[frame], focus, self.config.size, rng, mirror)

    def people_in(self, seen: View, frame: int, rng: Rng) -> People:
        """Labels of a view as tensors, with jittered copies of its boxes."""
        kept = ~seen.ignore
        boxes = seen.boxes[kept]
        jittered = jitter_boxes(np.repeat(boxes, JITTERED_COPIES, axis=0), rng, JITTER, self.config.size)
        targets = np.full((int(kept.sum()), self.teacher.shape[1]), np.nan, np.float32)
        for i, row in enumerate(seen.rows[kept]):
            person = self.person_of.get((frame, int(row)))
            if person is not None:
                targets[i] = self.teacher[person]
        return People(
            torch.from_numpy(boxes),
            torch.from_numpy(seen.labels[kept]),
            torch.from_numpy(seen.boxes[seen.ignore]),
            torch.from_numpy(jittered.reshape(-1, 4)),
            torch.from_numpy(targets),
        )
