"""People's crops in memory, and the canvases that the embedding is trained on.

A canvas is a small picture with one person in it, and a RoI round the person: the embedding then goes
through the same trunk, RoIAlign and conv5 as in a frame, at a tenth of the cost and with many identities a step. Crop
sets (re-identification data) and people cut from frames are used alike.
"""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError
from qeeps_cli.images import resize
from qeeps_cli.training.augment import Rng, erase, jitter_boxes, photometric
from qeeps_cli.training.config import LARGEST
from qeeps_cli.training.pictures import read_picture
from qeeps_cli.training.population import Person

STORED_HEIGHT = 256  # pixels of the person: what a teacher sees, and more than most canvases show
SURROUNDINGS = 0.5  # of the person's height, kept on all sides: about as far as conv3 sees beyond a box
MIN_HEIGHT = 24  # pixels; smaller people have nothing to tell them apart


@dataclass(frozen=True)
class Crop:
    """rgb: (H, W, 3) uint8, the person with surroundings. box: (4,) float32 xyxy of the person in it."""

    rgb: np.ndarray
    box: np.ndarray


def cut(rgb: np.ndarray, box: tuple[float, ...] | None, height: int = STORED_HEIGHT) -> Crop:
    """The person of box (None: all of rgb) with what surrounds them, scaled down so that the person is at most height
    pixels high."""
    h, w = rgb.shape[:2]
    x1, y1, x2, y2 = box if box is not None else (0, 0, w, h)
    margin = SURROUNDINGS * (y2 - y1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    right, bottom = min(w, int(np.ceil(x2 + margin))), min(h, int(np.ceil(y2 + margin)))
    part = rgb[top:bottom, left:right]
    person = np.array([max(x1, 0) - left, max(y1, 0) - top, min(x2, w) - left, min(y2, h) - top], np.float32)
    scale = min(1.0, height / (person[3] - person[1]))
    if scale < 1:
        size = max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale))
        person *= np.array([size[1] / part.shape[1], size[0] / part.shape[0]] * 2, np.float32)
        part = resize(part, *size)
    return Crop(np.ascontiguousarray(part), person)


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
        left, top, right, bottom = (int(v) for v in np.ceil(crop.box))
        wide, high = (right - left) // 5, (bottom - top) // 5  # farther away somebody else may stand
        rows = crop.rgb[max(top - high, 0) : bottom + high]
        strip = rows[:, right : right + wide] if rng.random() < 0.5 else rows[:, max(left - wide, 0) : left]
        if strip.shape[1] < 6 or strip.shape[0] < 24:
            continue
        patches[filled] = resize(np.ascontiguousarray(strip), *canvas)
        filled += 1
        if filled == count:
            return patches
    patches[filled:] = rng.integers(60, 190, size=(count - filled, 1, 1, 3))  # crop sets alone have no surroundings
    return patches


def paint_canvas(
    crop: Crop, background: np.ndarray, rng: Rng, smallest: float, change: Callable[[Crop], Crop] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """An augmented training view: rgb (H, W, 3) uint8 and the RoI, (4,) xyxy.

    The person is brought to a random height (small people are what frames hold), at least `smallest` of the
    background's, mirrored half of the time, laid with what surrounds them on the background at a random place, and
    augmented; the RoI is loose by up to 6 % of its sides, as RegNet's boxes are. change: makes the person another one
    on the canvas, which has fewer pixels than most crops out of frames.
    """
    height, width = background.shape[:2]
    canvas = background.copy()
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1].copy()
    if rng.random() < 0.5:
        crop = _mirrored(crop)
    person_height = height * np.exp(rng.uniform(np.log(smallest), np.log(LARGEST)))
    box_width, box_height = crop.box[2] - crop.box[0], crop.box[3] - crop.box[1]
    stretch = np.exp(rng.normal(0, 0.05))
    scale_y = person_height / box_height
    scale_x = min(scale_y * stretch, LARGEST * width / box_width)
    left = int(rng.integers(0, max(1, width - int(box_width * scale_x))))
    top = int(rng.integers(0, max(1, height - int(box_height * scale_y))))
    box = _paste(canvas, crop, (scale_x, scale_y), (left, top))
    if change is not None:
        canvas = change(Crop(canvas, box)).rgb
    canvas = photometric(canvas, rng)
    erase(canvas, box, rng, probability=0.3)
    return canvas, jitter_boxes(box[None], rng, 0.06, (height, width))[0]


def _mirrored(crop: Crop) -> Crop:
    width = crop.rgb.shape[1]
    x1, y1, x2, y2 = crop.box
    return Crop(crop.rgb[:, ::-1], np.array([width - x2, y1, width - x1, y2], np.float32))


def _paste(canvas: np.ndarray, crop: Crop, scale: tuple[float, float], corner: tuple[int, int]) -> np.ndarray:
    """crop onto canvas, scaled by (x, y), the person's upper left corner about at corner. Returns the person's box,
    (4,) xyxy."""
    height, width = canvas.shape[:2]
    x, y = crop.box[0] - corner[0] / scale[0], crop.box[1] - corner[1] / scale[1]  # of the crop, at the canvas's corner
    x1, y1 = max(0, int(x)), max(0, int(y))
    part = crop.rgb[y1 : int(np.ceil(y + height / scale[1])), x1 : int(np.ceil(x + width / scale[0]))]
    shown = resize(
        np.ascontiguousarray(part), max(1, round(part.shape[0] * scale[1])), max(1, round(part.shape[1] * scale[0]))
    )
    left, top = round((x1 - x) * scale[0]), round((y1 - y) * scale[1])  # below 0 by at most a pixel of the crop
    seen = shown[max(0, -top) :, max(0, -left) :]
    target = canvas[max(0, top) :, max(0, left) :][: seen.shape[0], : seen.shape[1]]
    target[:] = seen[: target.shape[0], : target.shape[1]]
    factors = np.array([shown.shape[1] / part.shape[1], shown.shape[0] / part.shape[0]] * 2)
    box = (crop.box - np.array([x1, y1, x1, y1])) * factors + np.array([left, top, left, top])
    return box.astype(np.float32)


class CropSampler:
    """P identities × K crops a step (PK sampling), half of the time with half of the people from one scene.

    Cameras of an identity take turns, so that positives come from different cameras where there are any. Somebody
    unnamed has one crop, which comes K times.
    """

    def __init__(self, people: list[Person], by_label: dict[int, list[int]], label_weights: dict[int, float]):
        self.people = people
        self.by_label = {label: [i for i in rows if self._usable(i)] for label, rows in by_label.items()}
        self.labels = np.array([label for label, rows in self.by_label.items() if self._drawable(rows)])
        weights = np.array([label_weights[label] for label in self.labels])
        self.weights = weights / weights.sum()
        self.by_group: dict[str, list[int]] = defaultdict(list)
        for label in self.labels:
            self.by_group[people[self.by_label[label][0]].group].append(int(label))

    def _drawable(self, rows: list[int]) -> bool:
        return len(rows) > 1 or (len(rows) == 1 and self.people[rows[0]].unnamed)

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
        return [index for label in labels for index in self.of_identity(int(label), crops_each, rng)]

    def of_identity(self, label: int, count: int, rng: Rng) -> list[int]:
        """Indices into people of `count` crops; where there are fewer, some come again."""
        by_camera: dict[str, list[int]] = defaultdict(list)
        for index in rng.permutation(self.by_label[label]):
            by_camera[self.people[index].camera].append(int(index))
        queues = [by_camera[camera] for camera in rng.permutation(sorted(by_camera))]
        drawn: list[int] = []
        while len(drawn) < count:
            for queue in queues:
                drawn.append(queue.pop() if len(queue) > 1 else queue[0])
        return drawn[:count]
