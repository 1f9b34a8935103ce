"""The teacher's targets, of a network that can be computed by hand: the mean colour, and a number that all share."""

import json
from dataclasses import replace

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from PIL import Image
from safetensors.torch import load_file
from training_sets import (
    COLOURS,
    HIGH,
    LOW,
    MODEL,
    batches_of,
    crops_source,
    frames_source,
    ground,
    tiny_recipe,
    tiny_stage,
    write_crops,
    write_scene,
)

from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.crop_bank import Crop
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.population import UNKNOWN, Person
from qeeps_cli.training.run import train
from qeeps_cli.training.stage import stack_images
from qeeps_cli.training.teacher import INPUT, Teacher, load_teacher, shown_to_teacher, teacher_inputs
from qeeps_cli.weights import save_checkpoint

SHARED = 300.0


class MeanColour:
    """BGR, as the network at hand gets it; counts whom it has seen."""

    def __init__(self):
        self.seen = 0

    def __call__(self, people):
        assert people.shape[1:] == (3, *INPUT) and people.dtype == torch.float32
        self.seen += len(people)
        return torch.cat([people.mean(dim=(2, 3)), torch.full((len(people), 1), SHARED)], dim=1)[..., None, None]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def plain_crop(colour):
    rgb = ground(60, 40)
    rgb[10:50, 10:30] = np.where(colour, HIGH, LOW)
    return Crop(rgb, np.array([10, 10, 30, 50], np.float32))


@pytest.fixture
def people(tmp_path):
    return [Person(tmp_path / f"{i}.png", None, i, "A", "crops", teacher=i != 1) for i in range(4)]


def test_targets_are_of_the_box_and_less_their_mean(people, tmp_path):
    crops = [plain_crop(colour) for colour in COLOURS[:4]]
    rows = Teacher(MeanColour(), b"d").of_crops(people, crops, tmp_path)
    wanted = [0, 2, 3]
    raw = unit(np.array([[*np.where(COLOURS[i], HIGH, LOW)[::-1], SHARED] for i in wanted], float))
    assert np.isnan(rows[1]).all()
    assert rows[wanted] == pytest.approx(unit(raw - raw.mean(axis=0)), abs=1e-5)
    assert rows.dtype == np.float32


def test_they_are_computed_once_for_the_same_people_and_teacher(people, tmp_path):
    crops = [plain_crop(colour) for colour in COLOURS[:4]]
    first = MeanColour()
    rows = Teacher(first, b"d").of_crops(people, crops, tmp_path)
    again, another = MeanColour(), MeanColour()
    assert np.array_equal(Teacher(again, b"d").of_crops(people, crops, tmp_path), rows, equal_nan=True)
    Teacher(another, b"e").of_crops(people, crops, tmp_path)
    assert (first.seen, again.seen, another.seen) == (3, 0, 3)


def test_the_mean_of_the_crops_is_taken_from_views_too(people, tmp_path):
    crops = [plain_crop(colour) for colour in COLOURS[:4]]
    teacher = Teacher(MeanColour(), b"d")
    rows = teacher.of_crops(people, crops, tmp_path)
    views = [(crop.rgb, crop.box) for crop in crops]
    assert teacher.targets(teacher_inputs(views))[[0, 2, 3]].numpy() == pytest.approx(rows[[0, 2, 3]], abs=1e-6)
    beyond = [(crops[0].rgb, np.array([-5, -5, 80, 90], np.float32)), (crops[0].rgb, np.array([39.8, 59.9, 40, 60]))]
    assert teacher.targets(teacher_inputs(beyond)).isfinite().all()


def test_it_is_shown_the_same_of_a_batch_as_of_pictures():
    """Up to the half pixel at the box's edge, where one of them sees what lies outside."""
    rng = np.random.default_rng(0)
    views = []
    for left, top in ((0, 0), (9, 15), (24, 40)):
        coarse = rng.integers(0, 256, size=(12, 6, 3), dtype=np.uint8)
        rgb = np.array(Image.fromarray(coarse).resize((48, 96), Image.Resampling.BICUBIC))
        views.append((rgb, np.array([left, top, left + 24, top + 56], np.float32)))
    boxes = torch.from_numpy(np.stack([box for _, box in views]))
    shown = shown_to_teacher(stack_images([rgb for rgb, _ in views]), boxes)
    alone = teacher_inputs(views).float()
    assert shown.shape == alone.shape == (3, 3, *INPUT) and shown.dtype == torch.float32
    assert (shown - alone).abs()[:, :, 4:-4, 4:-4].max() <= 1.5
    assert (shown - alone).abs().mean() < 1


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    return [frames_source(write_scene(folder / "scene")), crops_source(write_crops(folder / "crops"), teacher=True)]


@pytest.mark.parametrize("novel", [0.0, 0.5, 1.0])
def test_a_teacher_that_sees_canvases_has_a_target_for_everybody(sources, tmp_path, novel):
    """Also for people who do not exist, and of sets that the recipe does not put before it."""
    config = tiny_stage(identities=6, crops_each=3, canvas=(96, 48), novel=novel)
    population, _, plain = batches_of(sources, config)
    teacher = Teacher(MeanColour(), b"d")
    targets = teacher.of_crops(population.people, plain.crops, tmp_path)
    batches = CropBatches(population, plain.crops, targets, config, teacher)
    unknown = 0
    for seed in range(6):
        batch = batches.draw(np.random.default_rng(seed))
        assert batches.targets_of(batch).norm(dim=1).tolist() == pytest.approx([1] * 18, abs=1e-5)
        unknown += int((batch["labels"] == UNKNOWN).sum())
        again = batches.draw(np.random.default_rng(seed))
        assert all(batch[key].equal(again[key]) for key in ("images", "boxes", "labels"))
    assert unknown / 108 == pytest.approx(novel, abs=0.2)
    assert (unknown == 0) == (novel == 0) and (unknown == 108) == (novel == 1)


def test_without_it_people_who_do_not_exist_have_no_target(sources, tmp_path):
    config = tiny_stage(identities=6, crops_each=3, novel=0.5)
    population, _, plain = batches_of(sources, config)
    targets = Teacher(MeanColour(), b"d").of_crops(population.people, plain.crops, tmp_path)
    kept = targets.copy()
    batches = CropBatches(population, plain.crops, targets, config)
    for seed in range(6):
        batch = batches.draw(np.random.default_rng(seed))
        nobody = batch["labels"] == UNKNOWN
        assert nobody.any() and not nobody.all() and batches.targets_of(batch)[nobody].isnan().all()
    assert np.array_equal(targets, kept, equal_nan=True)  # the draw has not written into them


def test_a_teacher_on_disk(tmp_path):
    """An IR of the mean colour, computed by OpenVINO, one at a time."""
    person = ops.parameter([1, 3, *INPUT], np.float32, name="data")
    openvino.save_model(openvino.Model([ops.reduce_mean(person, [2, 3], True)], [person]), tmp_path / "mean.xml")
    rgb = np.zeros((60, 40, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 40, 30
    views = teacher_inputs([(rgb, np.array([0, 0, 40, 60])), (rgb[..., ::-1], np.array([0, 0, 40, 60]))])
    rows = load_teacher(tmp_path / "mean.xml", torch.device("cpu")).embed(views)
    assert rows.numpy() == pytest.approx(np.array([[0.6, 0, 0.8], [0.8, 0, 0.6]]), abs=1e-5)


def test_id_net_may_start_where_the_teacher_is(sources, tmp_path):
    """From a network that has an ID Net, which points elsewhere: the first step is nearer to the targets."""
    person = ops.parameter([1, 3, *INPUT], np.float32, name="data")
    mixing = np.random.default_rng(0).standard_normal((3, MODEL.embedding_dim)).astype(np.float32)
    rows = ops.matmul(ops.reduce_mean(person, [2, 3], False), ops.constant(mixing), False, False)
    openvino.save_model(openvino.Model([rows], [person]), tmp_path / "mixed.xml")
    torch.manual_seed(0)
    model = QEEPS(MODEL)
    met = torch.rand(MODEL.embedding_dim)
    model.qsimnet.norm.running_mean.copy_(met)  # not new: it has seen pairs
    save_checkpoint(tmp_path / "start.safetensors", model, {}, half=False)
    first, qsimnet = {}, {}
    for start in ("init", "teacher"):
        stage = tiny_stage(steps=1, lr=1e-6, id_net=start, losses={"teacher": 1.0})
        recipe = tiny_recipe(sources, {"embed": stage}, init=tmp_path / "start.safetensors")
        recipe = replace(recipe, teacher=tmp_path / "mixed.xml")
        weights = train(recipe, tmp_path / start, torch.device("cpu"), lambda step: None, lambda line: None)
        qsimnet[start] = load_file(weights)["qsimnet.norm.running_mean"]
        first[start] = json.loads((tmp_path / start / "log.jsonl").read_text().splitlines()[0])["teacher"]
    assert first["teacher"] < 0.7 * first["init"]
    assert qsimnet["init"].equal(met) and not qsimnet["teacher"].isclose(met).all()  # it compares other directions now
