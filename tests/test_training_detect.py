"""The stage `detect`: trains all that finds people, and nothing of what tells them apart."""

from dataclasses import replace
from threading import Event

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from training_sets import (
    MODEL,
    Standing,
    batches_of,
    frames_source,
    no_targets,
    tiny_recipe,
    tiny_stage,
    write_frames,
    write_scene,
)

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import read_recipe
from qeeps_cli.training.detect_stage import DetectStage
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.population import gather
from qeeps_cli.training.run import train
from qeeps_cli.training.trainer import Interrupted
from qeeps_cli.weights import save_checkpoint

PIXELS_TOML = '[model]\nroi_head = "pixels"\n'
PIXELS = replace(MODEL, roi_head="pixels")
FINDS = {"basenet", "qsse", "rpn", "qrpn", "layer4", "cls_net", "reg_net"}


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
    if "qsse" in parts:
        return "qsse"
    return parts[1] if parts[0] == "roi_head" else parts[0]


@pytest.mark.parametrize("variant", ["oim", "oim+qrpn", "oim+qrpn+qsimnet", "qeeps"])
def test_what_finds_people_is_trained_and_what_identifies_them_stays(frames, tmp_path, variant):
    start = start_of(tmp_path, variant)
    steps = []
    trained = run(recipe_of(frames, start, variant), tmp_path / "run", steps.append)
    before = load_file(start)
    assert before.keys() == trained.keys()
    moved = {block_of(n) for n in before if not torch.equal(before[n].to(trained[n].dtype), trained[n])}
    assert moved == {block_of(name) for name in before} & FINDS
    detection = {"cls", "reg", "rpn_cls", "rpn_reg"}
    guided = [progress.losses.keys() == detection | {"qrpn"} for progress in steps]
    alone = [progress.losses.keys() == detection for progress in steps]
    assert any(alone) and any(guided) == (variant != "oim")
    assert len(steps) == sum(alone) + sum(guided)


def test_qrpn_tells_people_apart_if_asked(frames):
    config = tiny_stage(self_pairs=0.0, size=(288, 384), losses={"qrpn_people": 1.0})
    _, batches, _ = batches_of([frames], config)
    torch.manual_seed(0)
    model = QEEPS(PIXELS)
    stage = DetectStage(config, batches, model, seed=1)
    losses = stage.losses(model, stage.batch(0))
    assert losses.keys() == {"cls", "reg", "rpn_cls", "rpn_reg", "qrpn", "qrpn_people"}
    assert float(losses["qrpn_people"].detach()) > 0


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


def unnamed_source(folder):
    """A set with people whom nobody has named, and rooms without people."""
    people = [("c0", [Standing(-1, 20, 20)]), ("c0", []), ("c1", [Standing(-1, 60, 30)]), ("c1", [])]
    return frames_source(write_frames(folder / "unnamed", people))


def test_frames_without_names_and_without_people_are_seen(frames, tmp_path):
    config = tiny_stage(self_pairs=1.0, images=3)
    population, batches, _ = batches_of([frames, unnamed_source(tmp_path)], config)
    stage = DetectStage(config, batches, QEEPS(PIXELS), seed=1)
    drawn = {path for step in range(60) for path in stage.batch(step)["files"]}
    assert drawn == {str(frame.path) for frame in population.frames}
    assert all(stage.batch(step)["count"] == 3 for step in range(3))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_a_query_is_shown_where_variant_and_names_allow_it(frames, tmp_path, variant, named):
    config = tiny_stage(self_pairs=0.0)
    population = gather([frames if named else unnamed_source(tmp_path)], named=False)
    batches = FrameBatches(population, no_targets(population), config)
    stage = DetectStage(config, batches, QEEPS(replace(PIXELS, variant=variant)), seed=1)
    guided = named and variant == "qeeps"
    assert all(("query_images" in stage.batch(step)) is guided for step in range(4))
    assert len(stage.batch(0)["files"]) == (2 if guided else 1) * config.images


def test_people_without_names_are_enough(tmp_path):
    """A run says that QRPN learns nothing from them, and trains the rest."""
    start, said = start_of(tmp_path, "qeeps"), []
    recipe = recipe_of(unnamed_source(tmp_path), start)
    path = train(recipe, tmp_path / "run", torch.device("cpu"), lambda progress: None, said.append)
    before, trained = load_file(start), load_file(path)
    moved = {block_of(n) for n in before if not torch.equal(before[n].to(trained[n].dtype), trained[n])}
    assert moved == FINDS - {"qrpn"} and any("QRPN stays as it is" in line for line in said)


def test_it_goes_on_after_the_stage_qeeps(frames, tmp_path):
    """With the guidance of that stage, and workers that prepare the steps."""
    stages = {"qeeps": tiny_stage(steps=1), "detect": tiny_stage(steps=2, self_pairs=0.0)}
    recipe = tiny_recipe([frames], stages, model=PIXELS)
    path = train(recipe, tmp_path / "run", torch.device("cpu"), lambda progress: None, lambda line: None, workers=1)
    before, trained = load_file(tmp_path / "run" / "qeeps.safetensors"), load_file(path)
    assert before.keys() == trained.keys()
    assert torch.equal(before["roi_head.id_net.weight"], trained["roi_head.id_net.weight"])
    assert not torch.equal(before["qrpn.fc1.weight"], trained["qrpn.fc1.weight"])


def test_guidance_that_the_start_does_not_have_is_refused(frames, tmp_path):
    for variant in ("oim", "oim+qrpn+qsimnet"):
        recipe = recipe_of(frames, start_of(tmp_path, variant), "qeeps")
        with pytest.raises(DataError, match="guides in qeeps, and .*start.safetensors does not hold all of it"):
            run(recipe, tmp_path / "run")


@pytest.mark.parametrize("start", ["resnet", "another stride"])
def test_identification_that_was_never_trained_is_refused(frames, tmp_path, start):
    path = tmp_path / "start.safetensors"
    variant = "oim" if start == "resnet" else "qeeps"
    if start == "resnet":
        save_file(torchvision.models.resnet18().state_dict(), path)
    else:
        save_checkpoint(path, QEEPS(replace(PIXELS, id_stride=16)), {})
    with pytest.raises(DataError, match='start.safetensors is none for roi_head = "pixels" with id_stride = 32'):
        run(recipe_of(frames, path, variant), tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PIXELS_TOML + "[stages.detect]\n", "stages.detect needs a trained network.*init"),
        (
            PIXELS_TOML + "[stages.oim]\n[stages.detect]\n",
            r"what a query guides in qeeps.*got oim before it.*stages.qeeps",
        ),
        (
            PIXELS_TOML + "[stages.oim]\n[stages.qeeps]\n[stages.detect]\n"
            "self_pairs = 1.0\nlosses = {cls = 0, reg = 0, rpn_cls = 0, rpn_reg = 0}\n",
            "stages.detect.losses: all that has something to learn from is 0",
        ),
        (
            PIXELS_TOML + "[stages.oim]\n[stages.qeeps]\nself_pairs = 1.0\nlosses = {qrpn_people = 1.0}\n",
            "stages.qeeps.losses.qrpn_people trains QRPN on pairs.*self_pairs = 1",
        ),
        (
            PIXELS_TOML + "[stages.oim]\nlosses = {qrpn_people = 1.0}\n",
            "stages.oim.losses.qrpn_people trains QRPN on pairs.*stage qeeps or detect",
        ),
        (
            PIXELS_TOML + 'variant = "oim+qsimnet"\n[stages.oim]\n[stages.qeeps]\nlosses = {qrpn_people = 1.0}\n',
            r"stages.qeeps.losses.qrpn_people trains QRPN.*got the variant oim\+qsimnet",
        ),
        ('[model]\nroi_head = "fine"\n[stages.detect]\n', 'only roi_head = "pixels" allows, got "fine"'),
        (
            PIXELS_TOML + "[stages.oim]\n[stages.qeeps]\n[stages.detect]\nlosses = {teacher = 5.0}\n",
            "stages.detect.losses: teacher trains identification.*cls, reg, rpn_cls, rpn_reg, qrpn",
        ),
    ],
)
def test_what_would_touch_identification_is_refused(tmp_path, text, named):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[data]]\nkind = "coco"\nroot = "set"\n' + text)
    with pytest.raises(UsageError, match=named):
        read_recipe(recipe)
