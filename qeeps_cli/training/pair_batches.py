"""Pairs for a step of the stages `qeeps` and `detect`: the person present or absent (§4.4, §5.2)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.training.augment import Rng, jitter_boxes
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.stage import Batch, stack_images
from qeeps_cli.training.views import View, crop_view

BARE_CROPS = 0.15  # share of queries that come as a crop without a frame, as users have them
QUERY_JITTER = 0.06  # of the box's sides: users draw loose boxes
TRIES = 20  # to find a frame without the person, before a frame of any kind is taken


@dataclass(frozen=True)
class Pair:
    """query: the view of the person's picture, box (4,) xyxy in it. gallery: the view searched, of frame gallery_frame.

    person: the row of the query person among gallery.rows that count, or None where they are absent.
    """

    query: View
    box: np.ndarray
    label: int
    query_frame: int
    query_row: int
    gallery: View
    gallery_frame: int
    person: int | None


def draw_pair(frames: FrameBatches, absent: float, rng: Rng) -> Pair:
    """One pair; both images are mirrored together (§5.2)."""
    while True:
        (query_frame, query_row), (gallery_frame, gallery_row) = frames.draw_pair(rng)
        label = int(frames.population.frames[query_frame].labels[query_row])
        mirror = rng.random() < 0.5
        query = _query_view(frames, query_frame, query_row, rng, mirror)
        place = np.flatnonzero(query.rows == query_row)
        if len(place) == 0 or query.ignore[place[0]]:
            continue  # the labelled box lies at the frame's edge and hardly shows; draw another
        focus: int | None = gallery_row
        if rng.random() < absent:
            gallery_frame, focus = _frame_without(frames, label, rng), None
        gallery = frames.view_of(gallery_frame, focus, rng, mirror)
        box = jitter_boxes(query.boxes[place[:1]], rng, QUERY_JITTER, query.rgb.shape[:2])[0]
        return Pair(query, box, label, query_frame, query_row, gallery, gallery_frame, _find(gallery, label))


def draw_pairs(frames: FrameBatches, count: int, absent: float, rng: Rng) -> tuple[list[Pair], Batch]:
    """The pairs of a step, and what every stage that shows pairs needs of them."""
    pairs = [draw_pair(frames, absent, rng) for _ in range(count)]
    people = [frames.people_in(p.gallery, p.gallery_frame, rng) for p in pairs]
    return pairs, {
        "images": stack_images([p.gallery.rgb for p in pairs]),
        "people": people,
        "query_images": stack_images([p.query.rgb for p in pairs]),
        "query_boxes": torch.from_numpy(np.stack([p.box for p in pairs])),
        "query_people": [_person_box(p, persons) for p, persons in zip(pairs, people, strict=True)],
        "files": [frames.path_of(i) for p in pairs for i in (p.query_frame, p.gallery_frame)],
        "count": len(pairs),
    }


def _person_box(pair: Pair, people: People) -> Tensor:
    """(1, 4) box of the query person in the gallery view; (0, 4) where they are absent."""
    return people.boxes[:0] if pair.person is None else people.boxes[pair.person : pair.person + 1]


def _query_view(frames: FrameBatches, frame: int, row: int, rng: Rng, mirror: bool) -> View:
    if rng.random() < BARE_CROPS:
        return crop_view(frames.population.frames[frame], row, frames.config.size, rng, mirror)
    return frames.view_of(frame, row, rng, mirror)


def _frame_without(frames: FrameBatches, label: int, rng: Rng) -> int:
    """A frame that does not hold the person; half of the time one in which somebody of the same sets is searched."""
    for _ in range(TRIES):
        candidate = frames.draw_frame(rng) if rng.random() < 0.5 else frames.draw_pair(rng)[0][0]
        if label not in frames.population.frames[candidate].labels:
            return candidate
    return candidate


def _find(gallery: View, label: int) -> int | None:
    """Index of the person among the view's people that count; the first where the label stands twice."""
    found = np.flatnonzero(gallery.labels[~gallery.ignore] == label)
    return int(found[0]) if len(found) else None
