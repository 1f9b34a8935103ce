"""Tiny training sets, drawn by the tests that use them: people are coloured rectangles on grey ground."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.training.config import DataSource, StageConfig, TrainConfig
from qeeps_cli.training.crop_bank import load_crops
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.population import Population, gather

HEIGHT, WIDTH = 120, 160
VIEW = (96, 128)
CANVAS = (64, 32)
MODEL = ModelConfig(backbone="resnet18", variant="qeeps", embedding_dim=16, pool_size=4)

HIGH, LOW = 210, 40
# Six colours that differ in which channels are high, which no augmentation of ours may change.
COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1))
CLOTHES = list(combinations(COLOURS, 2))  # left and right half of a person; no two are alike when mirrored


@dataclass(frozen=True)
class Standing:
    """A person of a drawn frame, at x, y (pixels of the upper left corner)."""

    person_id: int
    x: float
    y: float
    w: float = 14
    h: float = 30
    ignore: bool = False

    @property
    def clothes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return CLOTHES[self.person_id % len(CLOTHES)]


def ground(height: int, width: int) -> np.ndarray:
    """Grey, lighter to the right, with a few darker rows: something to crop and scale, without a hue."""
    grey = np.tile(np.linspace(90, 150, width), (height, 1))
    grey[::12] -= 20
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def dress(rgb: np.ndarray, person: Standing) -> None:
    """Paint a person: two colours, side by side, so that a mirrored person is told from an upright one."""
    x1, y1, x2, y2 = (round(v) for v in (person.x, person.y, person.x + person.w, person.y + person.h))
    middle = (x1 + x2) // 2
    for (left, right), colour in zip(((x1, middle), (middle, x2)), person.clothes, strict=True):
        rgb[max(y1, 0) : max(y2, 0), max(left, 0) : max(right, 0)] = np.where(colour, HIGH, LOW)


def write_frames(root: Path, frames: Sequence[tuple[str, Sequence[Standing]]]) -> Path:
    """A COCO-style set of (camera, people) frames, f0.png, f1.png, ..."""
    (root / "frames").mkdir(parents=True)
    images, annotations = [], []
    for index, (camera, people) in enumerate(frames):
        rgb = ground(HEIGHT, WIDTH)
        for person in people:
            dress(rgb, person)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": index,
                    "bbox": [person.x, person.y, person.w, person.h],
                    "person_id": person.person_id,
                    "ignore": int(person.ignore),
                }
            )
        Image.fromarray(rgb).save(root / "frames" / f"f{index}.png")
        images.append({"id": index, "file_name": f"f{index}.png", "width": WIDTH, "height": HEIGHT, "camera": camera})
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def write_scene(root: Path, identities: int = 6, first: int = 0) -> Path:
    """Two cameras, `identities` frames each: three named people in a row, sometimes one unknown, one ignored."""
    frames = []
    for camera in range(2):
        for k in range(identities):
            rng = np.random.default_rng([camera, k])
            people = [
                Standing(
                    first + (k + slot) % identities, 14 + 46 * slot + int(rng.integers(12)), int(rng.integers(10, 40))
                )
                for slot in range(3)
            ]
            if k % 3 == 0:
                people.append(Standing(-1, int(rng.integers(20, 120)), 82))
            if k % 3 == 1:
                people.append(Standing(-1, int(rng.integers(20, 120)), 82, ignore=True))
            frames.append((f"c{camera}", people))
    return write_frames(root, frames)


def write_queries(root: Path) -> Path:
    """queries.json of a set: one for each named person, where they were last seen."""
    labels = json.loads((root / "annotations.json").read_text())["annotations"]
    chosen = {label["person_id"]: label for label in labels if label["person_id"] >= 0}.values()
    queries = [{"image": f"f{q['image_id']}.png", "bbox": q["bbox"], "person_id": q["person_id"]} for q in chosen]
    (root / "queries.json").write_text(json.dumps(queries))
    return root


def write_crops(
    root: Path, identities: int = 5, cameras: str = "AB", each: int = 2, first: int = 0, plain: bool = False
) -> Path:
    """A crop set: pictures of 16x40 with the person all over, `each` of every identity by every camera.

    plain: everybody wears one colour, which even an untrained network soon learns to tell from the others.
    """
    root.mkdir(parents=True)
    lines = ["file,person_id,camera"]
    for identity in range(first, first + identities):
        for camera in cameras:
            for number in range(each):
                rgb = ground(40, 16)
                dress(rgb, Standing(identity, 0, 0, 16, 40))
                if plain:
                    rgb[:] = np.where(COLOURS[identity], HIGH, LOW)
                rgb[:6] = 170 if camera == "A" else 120  # a head; cameras differ in its light
                rgb[-2 - number :] = 60
                name = f"p{identity}_{camera}{number}.png"
                Image.fromarray(rgb).save(root / name)
                lines.append(f"{name},{identity},{camera}")
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    return root


def frames_source(root: Path, **changes) -> DataSource:
    return DataSource("coco", root, **changes)


def crops_source(root: Path, **changes) -> DataSource:
    return DataSource("crops", root, **changes)


def tiny_stage(**changes) -> StageConfig:
    values = {
        "steps": 3,
        "lr": 1e-3,
        "warmup": 1,
        "images": 2,
        "size": VIEW,
        "identities": 3,
        "crops_each": 2,
        "canvas": CANVAS,
        "rois": 8,
    }
    return StageConfig(**values | changes)


def tiny_recipe(data: Sequence[DataSource], stages: dict[str, StageConfig], **changes) -> TrainConfig:
    return TrainConfig(**{"model": MODEL, "data": tuple(data), "stages": stages, "save_minutes": 1e6} | changes)


def no_targets(population: Population) -> np.ndarray:
    """A teacher that has nothing to say."""
    return np.full((len(population.people), MODEL.embedding_dim), np.nan, np.float32)


def batches_of(sources: Sequence[DataSource], config: StageConfig) -> tuple[Population, FrameBatches, CropBatches]:
    population = gather(sources)
    crops = CropBatches(population, load_crops(population.people), no_targets(population), config)
    return population, FrameBatches(population, no_targets(population), config), crops


def colour_mask(rgb: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Where a picture shows one of COLOURS: (H, W) bool. Empty where the colour is nowhere strong."""
    pixels = rgb.astype(np.int32)
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    same = ((pixels > ((high + low) / 2)[..., None]) == np.array(colour, bool)).all(axis=2)
    chroma = np.where(same, high - low, 0)
    return chroma > max(0.5 * chroma.max(initial=0), 25)


def is_mirrored(rgb: np.ndarray, box: np.ndarray, clothes: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Whether the colour that a person wears on the left is seen on the right. box: xyxy pixels of rgb."""
    x1, y1, x2, y2 = (int(round(float(v))) for v in box)
    person = rgb[max(y1, 0) : y2, max(x1, 0) : x2]
    left, right = (np.nonzero(colour_mask(person, colour))[1].mean() for colour in clothes)
    return bool(left > right)


def equal(a, b) -> bool:
    """Equality of nested dicts, lists and tensors, bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b
