"""The stage `detect`: trains all that finds people, and nothing of what tells them apart."""

from dataclasses import replace
from threading import Event

import pytest
import torch
from safetensors.torch import load_file
from training_sets import (
    MODEL,
    batches_of,
    frames_source,
    tiny_recipe,
    tiny_stage,
    write_scene,
)

from qeeps_cli.errors import UsageError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import read_recipe
from qeeps_cli.training.detect_stage import DetectStage
from qeeps_cli.training.run import train
from qeeps_cli.training.trainer import Interrupted
from qeeps_cli.weights import save_checkpoint

PIXELS = replace(MODEL, roi_head="pixels")
FINDS = {"basenet", "rpn", "qrpn", "layer4", "cls_net", "reg_net"}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return frames_source(write_scene(tmp_path_factory.mktemp("detect") / "scene"))


def start_of(tmp_path, variant):
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, QEEPS(replace(PIXELS, variant=variant)), {}, half=False)
    return path


def recipe_of(frames, start, variant="qeeps", **changes):
    stage = tiny_stage(**{"steps": 6, "self_pairs": 0.5} | changes)
    return tiny_recipe([frames], {"detect": stage}, init=start, model=replace(PIXELS, variant=variant))


def run(recipe, out, report=lambda progress: None, stop=None):
    return load_file(train(recipe, out, torch.device("cpu"), report, lambda line: None, stop))


def block_of(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "roi_head" else parts[0]


@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_what_finds_people_is_trained_and_what_identifies_them_stays(frames, tmp_path, variant):
    start = start_of(tmp_path, variant)
    steps = []
    trained = run(recipe_of(frames, start, variant), tmp_path / "run", steps.append)
    before = load_file(start)
    assert before.keys() == trained.keys()
    moved = {block_of(n) for n in before if not torch.equal(before[n].half(), trained[n].half())}
    assert moved == {block_of(name) for name in before} & FINDS
    detection = {"cls", "reg", "rpn_cls", "rpn_reg"}
    guided = [progress.losses.keys() == detection | {"qrpn"} for progress in steps]
    alone = [progress.losses.keys() == detection for progress in steps]
    assert any(alone) and any(guided) == (variant == "qeeps")
    assert len(steps) == sum(alone) + sum(guided)


def test_a_stopped_run_ends_like_one_without_a_break(frames, tmp_path):
    recipe = recipe_of(frames, start_of(tmp_path, "qeeps"))
    straight = run(recipe, tmp_path / "straight")
    stop = Event()

    def stop_at_the_third(progress):
        if progress.step == 3:
            stop.set()

    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "broken", stop_at_the_third, stop)
    steps = []
    resumed = run(recipe, tmp_path / "broken", steps.append)
    assert steps[0].step == 4
    assert all(torch.equal(resumed[name], tensor) for name, tensor in straight.items())


def test_all_frames_are_seen(frames, tmp_path):
    """All frames are drawn, by one step or another, and as many a step as the recipe says."""
    config = tiny_stage(self_pairs=1.0, images=3)
    population, batches, _ = batches_of([frames], config)
    stage = DetectStage(config, batches, QEEPS(PIXELS), seed=1)
    drawn = {path for step in range(60) for path in stage.batch(step)["files"]}
    assert drawn == {str(frame.path) for frame in population.frames}
    assert all(stage.batch(step)["count"] == 3 for step in range(3))


def test_a_query_is_shown_where_names_allow_it(frames):
    config = tiny_stage(self_pairs=0.0)
    _, batches, _ = batches_of([frames], config)
    for variant, guided in (("oim", False), ("qeeps", True)):
        stage = DetectStage(config, batches, QEEPS(replace(PIXELS, variant=variant)), seed=1)
        assert all(("query_images" in stage.batch(step)) is guided for step in range(4))
        assert len(stage.batch(0)["files"]) == (2 if guided else 1) * config.images


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[model]\nroi_head = "fine"\n[stages.detect]\n', 'only roi_head = "pixels" allows, got "fine"'),
        (
            '[model]\nroi_head = "pixels"\n[stages.detect]\nlosses = {teacher = 5.0}\n',
            "stages.detect.losses: teacher trains identification.*cls, reg, rpn_cls, rpn_reg, qrpn",
        ),
    ],
)
def test_what_would_touch_identification_is_refused(tmp_path, text, named):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[data]]\nkind = "coco"\nroot = "set"\n' + text)
    with pytest.raises(UsageError, match=named):
        read_recipe(recipe)
