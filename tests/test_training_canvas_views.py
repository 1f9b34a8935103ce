"""Further views of canvases: what changes with them, what must not, and that a teacher is shown the same."""

from contextlib import nullcontext
from threading import Event

import numpy as np
import pytest
import torch
from training_sets import (
    COLOURS,
    HIGH,
    LOW,
    batches_of,
    crops_source,
    frames_source,
    tiny_recipe,
    tiny_stage,
    write_crops,
    write_scene,
)

from qeeps_cli.errors import UsageError
from qeeps_cli.model.preprocess import MEAN, STD
from qeeps_cli.training.canvas_views import another_view
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.embed_stage import EmbedStage
from qeeps_cli.training.population import UNKNOWN
from qeeps_cli.training.run import train
from qeeps_cli.training.stage import stack_images
from qeeps_cli.training.teacher import Teacher, teacher_inputs
from qeeps_cli.training.trainer import Interrupted

BOX = np.array([8, 10, 24, 60], np.float32)


def painted(colours, seen_by_teacher=True):
    """People of one colour each with a white stripe at their left, on grey."""
    canvases = []
    for colour in colours:
        rgb = np.full((64, 48, 3), 128, np.uint8)
        rgb[10:60, 8:24] = np.where(colour, HIGH, LOW)
        rgb[10:60, 8:10] = 255
        canvases.append(rgb)
    batch = {
        "images": stack_images(canvases),
        "boxes": torch.from_numpy(np.tile(BOX, (len(colours), 1))),
        "labels": torch.arange(len(colours)),
        "targets": torch.ones(len(colours), 4),
    }
    return batch | ({"teacher_inputs": teacher_inputs((rgb, BOX) for rgb in canvases)} if seen_by_teacher else {})


def pixels(batch):
    """(N, H, W, 3), 0 to 255."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, STD))
    return (255 * (batch["images"] * std + mean)).permute(0, 2, 3, 1)


def middles(batch):
    """(N, H, 3): the column of pixels through the middle of each person."""
    columns = ((batch["boxes"][:, 0] + batch["boxes"][:, 2]) / 2).long()
    return pixels(batch)[torch.arange(len(columns)), :, columns]


def test_half_of_them_are_mirrored_with_their_boxes():
    torch.manual_seed(1)
    batch = painted([COLOURS[0]] * 60)
    view = another_view(batch, novel=0.0)
    mirrored = view["boxes"][:, 0] == 48 - 24
    assert 15 < mirrored.sum() < 45
    assert view["boxes"][mirrored].tolist() == [[24, 10, 40, 60]] * int(mirrored.sum())
    assert view["boxes"][~mirrored].equal(batch["boxes"][~mirrored])
    for rgb, (x1, _, x2, _), turned in zip(pixels(view), view["boxes"].int().tolist(), mirrored, strict=True):
        row = rgb[35].mean(dim=1)
        edge = row[x2 - 1] if turned else row[x1]
        assert edge > row[(x1 + x2) // 2] + 20


def test_another_light_keeps_colours_and_names():
    torch.manual_seed(2)
    batch = painted(COLOURS)
    for _ in range(10):
        view = another_view(batch, novel=0.0)
        assert view["labels"].equal(batch["labels"]) and view["targets"].equal(batch["targets"])
        for rgb, colour in zip(middles(view)[:, 20:50], COLOURS, strict=True):
            high = rgb[:, np.array(colour, bool)]
            assert high.amin() > rgb[:, ~np.array(colour, bool)].amax() + 20
        assert not middles(view)[:, 35].allclose(middles(batch)[:, 35], atol=2)


def test_clothes_are_changed_apart_above_and_below_the_waist():
    torch.manual_seed(3)
    batch = painted([COLOURS[0]] * 90)
    view = another_view(batch, novel=1.0)
    assert (view["labels"] == UNKNOWN).all() and view["targets"].isnan().all()
    assert not batch["targets"].isnan().any()  # the batch is as it was, for its next view
    changed = (middles(view) - middles(batch)).abs().amax(dim=2)[:, 10:60] > 3
    above, below = changed[:, :22], changed[:, 31:]  # the waist is at 45 to 60 % of 50 rows
    assert (above.all(dim=1) | ~above.any(dim=1)).all() and (below.all(dim=1) | ~below.any(dim=1)).all()
    kinds = {(bool(a[0]), bool(b[0])) for a, b in zip(above, below, strict=True)}
    assert {(True, False), (False, True), (True, True)} <= kinds
    strongest = middles(view)[:, 20].argmax(dim=1)
    assert set(strongest.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("novel", [0.0, 0.5])
def test_a_teacher_is_shown_the_same(novel):
    """Its input is the person's box, larger and BGR: the same colours, and mirrored alike."""
    torch.manual_seed(4)
    view = another_view(painted(COLOURS * 6), novel)
    rows = np.array([12, 25, 45, 57])  # away from the waist
    for rgb, (x1, y1, x2, y2), shown in zip(
        pixels(view), view["boxes"].int().tolist(), view["teacher_inputs"], strict=True
    ):
        assert shown.shape == (3, 256, 128)
        of_teacher = shown.flip(0).permute(1, 2, 0)[((rows + 0.5 - y1) * 256 / (y2 - y1)).astype(int)]
        assert of_teacher[:, 64].numpy() == pytest.approx(rgb[rows, (x1 + x2) // 2].numpy(), abs=2)
        assert (of_teacher[0, 4].mean() > of_teacher[0, 123].mean()) == (rgb[12, x1].mean() > rgb[12, x2 - 1].mean())


def test_colours_stay_colours():
    """Within 0 and 1 whatever the change; greys may not be what they were, but are numbers."""
    torch.manual_seed(5)
    for novel in (0.0, 1.0):
        for _ in range(20):
            images = pixels(another_view(painted(COLOURS), novel))
            assert images.isfinite().all() and images.min() > -0.01 and images.max() < 255.01


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return crops_source(write_crops(tmp_path_factory.mktemp("views") / "crops"), teacher=True)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return frames_source(write_scene(tmp_path_factory.mktemp("views") / "scene"))


def recipe(source, **changes):
    values = {"steps": 7, "views": 3, "novel": 0.1, "identities": 4, "crops_each": 3, "losses": {"contrastive": 1.0}}
    return tiny_recipe([source], {"embed": tiny_stage(**values | changes)}, seed=4)


def run(config, out, workers=0, stop_at=None):
    """Trains, and returns (step, total loss) of each step; stopped after one of them it is Interrupted."""
    seen, stop = [], Event()

    def report(progress):
        seen.append((progress.step, progress.total))
        if progress.step == stop_at:
            stop.set()

    with pytest.raises(Interrupted) if stop_at else nullcontext():
        train(config, out, torch.device("cpu"), report, str, stop, workers)
    return seen


@pytest.fixture(scope="module")
def straight(source, tmp_path_factory):
    return run(recipe(source), tmp_path_factory.mktemp("straight"))


def test_each_batch_serves_as_many_steps_as_it_has_views(source, straight, tmp_path):
    """Its first view is the canvas as it was painted, which is what a run without further views has at that step."""
    assert [step for step, _ in straight] == list(range(1, 8))
    plain = run(recipe(source, views=1, steps=1), tmp_path)
    assert straight[0] == plain[0] and len({total for _, total in straight}) == 7


def test_a_run_stopped_between_the_views_of_a_batch_resumes_exactly(source, straight, tmp_path):
    """With processes that prepare steps, which change nothing."""
    first = run(recipe(source), tmp_path, stop_at=5)
    assert first + run(recipe(source), tmp_path, workers=2) == straight


class Seen:
    """A teacher that counts, and whose targets tell what it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, people):
        self.shown.append(people)
        return torch.nn.functional.pad(people.mean(dim=(2, 3)), (0, 13))


def test_the_teacher_sees_each_view(source, frames, tmp_path):
    config = tiny_stage(views=2, novel=0.5, teacher_sees="canvases", losses={"teacher": 1.0})
    population, _, plain = batches_of([source, frames], config)
    network = Seen()
    teacher = Teacher(network, b"d")
    targets = teacher.of_crops(population.people, plain.crops, tmp_path)
    batches = CropBatches(population, plain.crops, targets, config, teacher)
    stage = EmbedStage(config, batches, seed=1)
    batch = stage.batch(0)
    network.shown.clear()
    batches.targets_of(batch)
    torch.manual_seed(6)
    batches.targets_of(another_view(batch, 0.5))
    first, second = network.shown
    assert first.shape == second.shape and not first.equal(second)


def test_canvases_that_are_kept_have_no_further_views(source, frames):
    config = tiny_stage(views=2, repeat=3, trunk_lr=0.0, losses={"contrastive": 1.0})
    _, _, batches = batches_of([source, frames], config)
    with pytest.raises(UsageError, match="repeat = 3.*views = 2"):
        EmbedStage(config, batches, seed=1)
