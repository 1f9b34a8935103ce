"""People's crops in memory, and the canvases that the embedding is trained on.

A canvas is a small picture of background with one person in it, and a RoI round the person: the embedding then goes
through the same trunk, RoIAlign and conv5 as in a frame, at a tenth of the cost and with many identities a step. Crop
sets (re-identification data) and people cut from frames are used alike.
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError
from qeeps_cli.images import resize
from qeeps_cli.training.augment import Rng, erase, jitter_boxes, photometric
from qeeps_cli.training.pictures import read_picture
from qeeps_cli.training.population import Person

STORED_HEIGHT = 208  # pixels of the person: more than any canvas shows
MARGIN = 0.2  # of the person's sides, kept as real surroundings
MIN_HEIGHT = 24  # pixels; smaller people have nothing to tell them apart
WITHOUT_SURROUNDINGS = 0.5  # of the canvases: a person is not who stands at that wall


@dataclass(frozen=True)
class Crop:
    """rgb: (H, W, 3) uint8, the person with surroundings. box: (4,) float32 xyxy of the person in it."""

    rgb: np.ndarray
    box: np.ndarray


def cut(rgb: np.ndarray, box: tuple[float, ...] | None, margin: float = MARGIN, height: int = STORED_HEIGHT) -> Crop:
    """The person of box (None: all of rgb) with margin, scaled down so that the person is at most height pixels
    high."""
    h, w = rgb.shape[:2]
    x1, y1, x2, y2 = box if box is not None else (0, 0, w, h)
    dx, dy = margin * (x2 - x1), margin * (y2 - y1)
    left, top = max(0, int(x1 - dx)), max(0, int(y1 - dy))
    right, bottom = min(w, int(np.ceil(x2 + dx))), min(h, int(np.ceil(y2 + dy)))
    part = rgb[top:bottom, left:right]
    person = np.array([max(x1, 0) - left, max(y1, 0) - top, min(x2, w) - left, min(y2, h) - top], np.float32)
    scale = min(1.0, height / (person[3] - person[1]))
    if scale < 1:
        size = max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale))
        person *= np.array([size[1] / part.shape[1], size[0] / part.shape[0]] * 2, np.float32)
        part = resize(part, *size)
    return Crop(np.ascontiguousarray(part), person)


def without_surroundings(crop: Crop) -> Crop:
    """The person's box alone. In a fixed camera the surroundings tell people apart as long as nobody moves on, and
    conv3 sees 50 pixels beyond a box: left in, they would be learnt."""
    x1, y1, x2, y2 = (int(round(float(v))) for v in crop.box)
    rgb = np.ascontiguousarray(crop.rgb[max(y1, 0) : y2, max(x1, 0) : x2])
    return Crop(rgb, np.array([0, 0, rgb.shape[1], rgb.shape[0]], np.float32))


def load_crops(people: list[Person], threads: int = 2) -> list[Crop]:
    """Crops of all people, each picture decoded once. Raises DataError naming a picture that cannot be read."""
    by_picture: dict[Path, list[int]] = defaultdict(list)
    for index, person in enumerate(people):
        by_picture[person.path].append(index)
    crops: list[Crop | None] = [None] * len(people)

    def read(path: Path) -> None:
        rgb = read_picture(path)
        for index in by_picture[path]:
            _require_inside(people[index], rgb.shape[:2])
            crops[index] = cut(rgb, people[index].box)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(read, by_picture):
            pass
    return crops


def _require_inside(person: Person, size: tuple[int, int]) -> None:
    if person.box is None:
        return
    x1, y1, x2, y2 = person.box
    if min(x2, size[1]) - max(x1, 0) < 1 or min(y2, size[0]) - max(y1, 0) < 1:
        raise DataError(
            f"training picture {person.path}: the box x,y,w,h = {x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g} lies outside the "
            f"picture, which is {size[1]} pixels wide and {size[0]} high. Correct the box, or remove it."
        )


def background_patches(crops: list[Crop], canvas: tuple[int, int], count: int = 256) -> np.ndarray:
    """(count, H, W, 3) uint8 backgrounds: the surroundings of people, blown up until no person is left in view.

    Drawn from strips beside people; colours and textures of real scenes, without anybody to recognise.
    """
    rng = np.random.default_rng(0)
    patches = np.empty((count, *canvas, 3), np.uint8)
    order = rng.permutation(len(crops))
    filled = 0
    for index in order:
        crop = crops[index]
        right = int(np.ceil(crop.box[2]))
        strip = crop.rgb[:, right:] if rng.random() < 0.5 else crop.rgb[:, : int(crop.box[0])]
        if strip.shape[1] < 6 or strip.shape[0] < 24:
            continue
        patches[filled] = resize(np.ascontiguousarray(strip), *canvas)
        filled += 1
        if filled == count:
            return patches
    patches[filled:] = rng.integers(60, 190, size=(count - filled, 1, 1, 3))  # crop sets alone have no surroundings
    return patches


def paint_canvas(crop: Crop, background: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """An augmented training view: rgb (H, W, 3) uint8 and the RoI, (4,) xyxy.

    The person is brought to a random height (small people are what frames hold), mirrored half of the time, laid on the
    background at a random place, with or without what surrounds them in their picture, and augmented; the RoI is loose
    by up to 6 % of its sides, as RegNet's boxes are.
    """
    height, width = background.shape[:2]
    if rng.random() < WITHOUT_SURROUNDINGS:
        crop = without_surroundings(crop)
    canvas = background.copy()
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1].copy()
    person_height = height * np.exp(rng.uniform(np.log(0.42), np.log(0.96)))
    box_width, box_height = crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]
    stretch = np.exp(rng.normal(0, 0.05))
    scale_y = person_height / box_height
    scale_x = min(scale_y * stretch, 0.96 * width / box_width)
    rgb = resize(crop.rgb, max(8, round(crop.rgb.shape[0] * scale_y)), max(4, round(crop.rgb.shape[1] * scale_x)))
    factors = np.array([rgb.shape[1] / crop.rgb.shape[1], rgb.shape[0] / crop.rgb.shape[0]] * 2, np.float32)
    box = crop.box * factors
    if rng.random() < 0.5:
        rgb = rgb[:, ::-1]
        box = np.array([rgb.shape[1] - box[2], box[1], rgb.shape[1] - box[0], box[3]], np.float32)
    left = int(rng.integers(0, max(1, width - int(box[2] - box[0])))) - int(box[0])
    top = int(rng.integers(0, max(1, height - int(box[3] - box[1])))) - int(box[1])
    _paste(canvas, rgb, left, top)
    box = box + np.array([left, top, left, top], np.float32)
    canvas = photometric(canvas, rng).copy()
    erase(canvas, box, rng, probability=0.3)
    return canvas, jitter_boxes(box[None], rng, 0.06, (height, width))[0]


def _paste(canvas: np.ndarray, rgb: np.ndarray, left: int, top: int) -> None:
    """rgb onto canvas with its corner at (left, top), cut where it passes the edge."""
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + rgb.shape[1], canvas.shape[1]), min(top + rgb.shape[0], canvas.shape[0])
    if x2 > x1 and y2 > y1:
        canvas[y1:y2, x1:x2] = rgb[y1 - top : y2 - top, x1 - left : x2 - left]


class CropSampler:
    """P identities × K crops a step (PK sampling), half of the time with half of the people from one scene.

    Cameras of an identity take turns, so that positives come from different cameras where there are any.
    """

    def __init__(self, people: list[Person], by_label: dict[int, list[int]], label_weights: dict[int, float]):
        self.people = people
        self.by_label = {label: [i for i in rows if self._usable(i)] for label, rows in by_label.items()}
        self.labels = np.array([label for label, rows in self.by_label.items() if len(rows) > 1])
        weights = np.array([label_weights[label] for label in self.labels])
        self.weights = weights / weights.sum()
        self.by_group: dict[str, list[int]] = defaultdict(list)
        for label in self.labels:
            self.by_group[people[self.by_label[label][0]].group].append(int(label))

    def _usable(self, index: int) -> bool:
        person = self.people[index]
        return person.as_crop and (person.box is None or person.box[3] - person.box[1] >= MIN_HEIGHT)

    def draw(self, rng: Rng, identities: int, crops_each: int) -> list[int]:
        """Indices into people, identity by identity."""
        labels = rng.choice(self.labels, size=min(identities, len(self.labels)), replace=False, p=self.weights)
        if rng.random() < 0.5:
            group = self.by_group[self.people[self.by_label[int(labels[0])][0]].group]
            alike = rng.choice(group, size=min(identities // 2, len(group)), replace=False)
            labels = list(dict.fromkeys([*alike.tolist(), *labels.tolist()]))[:identities]
        return [index for label in labels for index in self._of_identity(int(label), crops_each, rng)]

    def _of_identity(self, label: int, count: int, rng: Rng) -> list[int]:
        by_camera: dict[str, list[int]] = defaultdict(list)
        for index in rng.permutation(self.by_label[label]):
            by_camera[self.people[index].camera].append(int(index))
        queues = [by_camera[camera] for camera in rng.permutation(sorted(by_camera))]
        drawn: list[int] = []
        while len(drawn) < count:
            for queue in queues:
                drawn.append(queue.pop() if len(queue) > 1 else queue[0])
        return drawn[:count]
