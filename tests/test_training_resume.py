"""A run that was stopped or killed, and resumed, equals one that never was, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors import safe_open
from training_sets import equal, frames_source, tiny_recipe, tiny_stage, write_crops, write_scene

from qeeps_cli.errors import DataError
from qeeps_cli.training.config import read_recipe
from qeeps_cli.training.run import train
from qeeps_cli.training.run_state import LOG, STATE, Log, load_state, save_state
from qeeps_cli.training.trainer import Interrupted

ROOT = Path(__file__).parents[1]
STAGES = ("embed", "oim", "qeeps")
RECIPE = """
seed = 3
save_minutes = 0  # after every step
validate_every = 2
[model]
backbone = "resnet18"
embedding_dim = 16
pool_size = 4
[[data]]
kind = "coco"
root = "scene"
[[data]]
kind = "crops"
root = "crops"
holdout = 2
[stages.embed]
steps = 3
lr = 1e-3
warmup = 2
identities = 3
crops_each = 2
canvas = [64, 32]
losses = {contrastive = 1.0, classify = 0.5}
[stages.oim]
steps = 3
lr = 1e-4
optimizer = "sgd"
size = [96, 128]
identities = 2
crops_each = 2
canvas = [64, 32]
rois = 8
[stages.qeeps]
steps = 3
lr = 1e-4
size = [96, 128]
identities = 2
crops_each = 2
canvas = [64, 32]
rois = 8
losses = {sim_crops = 0.5}
"""

DRIVER = """
import sys
from pathlib import Path
import torch
from qeeps_cli.training.config import read_recipe
from qeeps_cli.training.run import train

recipe, out, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
train(read_recipe(Path(recipe)), Path(out), torch.device("cpu"), lambda progress: None, lambda line: None)
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_scene(folder / "scene")
    write_crops(folder / "crops")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def run(recipe, out, stop_at=None, at=None, workers=0):
    """Train; stop at (stage, step), or call at[(stage, step)] there. Returns the steps that were reported."""
    stop, steps = Event(), []

    def report(progress):
        steps.append((progress.stage, progress.step))
        if steps[-1] == stop_at:
            stop.set()
        (at or {}).get(steps[-1], lambda: None)()

    train(read_recipe(recipe), out, torch.device("cpu"), report, lambda line: None, stop, workers)
    return steps


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory):
    """The folder of a run without a break, and its states just before the last step of two stages."""
    out = tmp_path_factory.mktemp("straight")
    keep = {
        (stage, 3): lambda stage=stage: shutil.copy(out / STATE, out / f"{stage}.pt") for stage in ("oim", "qeeps")
    }  # the state of step 3 is not yet saved when step 3 is reported
    steps = run(recipe, out, at=keep)
    assert steps == [(stage, step) for stage in STAGES for step in (1, 2, 3)]
    return out


def assert_same_run(out, straight):
    assert (out / LOG).read_bytes() == (straight / LOG).read_bytes()
    for stage in STAGES:
        assert equal(read_weights(out / f"{stage}.safetensors"), read_weights(straight / f"{stage}.safetensors"))


def read_weights(path):
    """Tensors and metadata; the file's bytes are not compared, because safetensors writes metadata in random order."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())} | {"metadata": file.metadata()}


def read_state(path):
    return torch.load(path, weights_only=True)


def test_the_log_of_a_run(straight):
    records = [json.loads(line) for line in (straight / LOG).read_text().splitlines()]
    assert [(r["stage"], r["step"], "validation" in r) for r in records] == [
        (stage, step, validation) for stage in STAGES for step, validation in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1))
    ]
    first = records[0]
    assert set(first) == {"stage", "step", "total", "contrastive", "teacher", "classify", "gradient_norm", "lr"}
    assert first["lr"] == pytest.approx(0.5e-3)  # warming up
    assert all(r["total"] > 0 and r["gradient_norm"] > 0 for r in records if "total" in r)
    assert all(set(r["validation"]) == {"crop_mAP", "crop_top1"} for r in records if "validation" in r)


def test_a_stopped_run_resumes_exactly(recipe, straight, tmp_path):
    with pytest.raises(Interrupted) as stopped:
        run(recipe, tmp_path, stop_at=("embed", 2))
    assert (stopped.value.stage, stopped.value.step) == ("embed", 2)
    with pytest.raises(Interrupted) as stopped:  # on a stage's last step: the stage ends, the next one begins
        run(recipe, tmp_path, stop_at=("embed", 3))
    assert (stopped.value.stage, stopped.value.step) == ("oim", 1)
    with pytest.raises(Interrupted):
        run(recipe, tmp_path, stop_at=("oim", 2))
    state, expected = read_state(tmp_path / STATE), read_state(straight / "oim.pt")
    assert state["extra"]["written"].all() and state["optimizer"]["state"]
    assert equal(state, expected)  # weights, momentum, OIM's table and queue, recipe and position
    with (tmp_path / LOG).open("a") as log:  # as a kill leaves it: steps after the state, and half a line
        log.write('{"stage": "oim", "step": 3, "total": 77}\n{"stage": "oim", "st')
    with pytest.raises(Interrupted):
        run(recipe, tmp_path, stop_at=("qeeps", 2))
    assert equal(read_state(tmp_path / STATE), read_state(straight / "qeeps.pt"))
    assert run(recipe, tmp_path) == [("qeeps", 3)]
    assert_same_run(tmp_path, straight)
    assert equal(read_state(tmp_path / STATE), read_state(straight / STATE))
    assert run(recipe, tmp_path) == []  # done is done
    assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_processes_that_prepare_steps_change_nothing(recipe, straight, tmp_path):
    with pytest.raises(Interrupted):
        run(recipe, tmp_path, stop_at=("oim", 2), workers=2)
    run(recipe, tmp_path, workers=2)
    assert_same_run(tmp_path, straight)


def test_a_killed_run_resumes_exactly(recipe, straight, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    out = tmp_path / "run"
    command = [sys.executable, tmp_path / "driver.py", recipe, out, str(torch.get_num_threads())]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / LOG).is_file() or '"stage": "oim", "step": 2' not in (out / LOG).read_text():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "oim.safetensors").exists()
    steps = run(recipe, out)
    assert steps[0] in [("oim", 2), ("oim", 3)] and steps[-1] == ("qeeps", 3)
    assert_same_run(out, straight)


@pytest.fixture
def config(tmp_path):
    return tiny_recipe([frames_source(tmp_path / "set")], {name: tiny_stage() for name in STAGES})


def save(folder, config, stage, done=()):
    state = {"recipe": json.dumps(config.to_dict()), "stage": stage, "step": 2, "done": list(done)}
    save_state(folder, state)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda c: replace(c, seed=2), "seed was 1 and is now 2"),
        (lambda c: replace(c, model=replace(c.model, variant="oim")), "model.variant was 'qeeps' and is now 'oim'"),
        (lambda c: replace(c, data=(replace(c.data[0], weight=2.0),)), "data"),
        (lambda c: replace(c, init=Path("other.safetensors")), "init was None and is now 'other.safetensors'"),
        (lambda c: replace(c, stages=c.stages | {"oim": tiny_stage(lr=0.5)}), "stages.oim.lr was 0.001 and is now 0.5"),
        (
            lambda c: replace(c, stages=c.stages | {"embed": tiny_stage(steps=9)}),
            "stages.embed.steps was 3 and is now 9",
        ),
        (lambda c: replace(c, stages={"oim": c.stages["oim"]}), "stages.embed"),
    ],
)
def test_a_state_of_another_recipe_is_refused(tmp_path, config, change, key):
    save(tmp_path, config, "oim", done=["embed"])
    with pytest.raises(DataError, match="another recipe") as error:
        load_state(tmp_path, change(config))
    assert key in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: replace(c, stages=c.stages | {"qeeps": tiny_stage(lr=0.5, steps=99)}),  # has not begun
        lambda c: replace(c, stages={name: c.stages[name] for name in ("embed", "oim")}),
        lambda c: replace(c, data=(replace(c.data[0], root=Path("elsewhere") / "set"),)),  # the set was moved
    ],
)
def test_what_has_not_begun_may_change(tmp_path, config, change):
    save(tmp_path, config, "oim", done=["embed"])
    assert load_state(tmp_path, change(config))["step"] == 2


def test_a_run_goes_on_whose_recipe_knew_fewer_keys(tmp_path, config):
    config = replace(config, validation=config.data[0])
    recipe = config.to_dict()
    for key in ("keep_of_init", "validate_every"):
        del recipe[key]
    for key in ("qsse_lr", "smallest", "novel"):
        del recipe["stages"]["oim"][key]
    del recipe["model"]["id_stride"], recipe["data"][0]["unnamed"], recipe["validation"]["unnamed"]
    save_state(tmp_path, {"recipe": json.dumps(recipe), "stage": "oim", "step": 2, "done": []})
    assert load_state(tmp_path, config)["step"] == 2
    changed = replace(config, stages=config.stages | {"oim": tiny_stage(qsse_lr=2.0)})
    with pytest.raises(DataError, match="stages.oim.qsse_lr was 1.0 and is now 2.0"):
        load_state(tmp_path, changed)
    with pytest.raises(DataError, match="data was .*'unnamed': False.* and is now .*'unnamed': True"):
        load_state(tmp_path, replace(config, data=(replace(config.data[0], unnamed=True), *config.data[1:])))
    with pytest.raises(DataError, match="model.id_stride was 32 and is now 16"):
        load_state(tmp_path, replace(config, model=replace(config.model, roi_head="fine", id_stride=16)))


def test_a_new_run_has_no_state(tmp_path, config):
    assert load_state(tmp_path, config) is None


def test_saving_replaces_the_state_whole(tmp_path, config):
    save(tmp_path, config, "embed")
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_state(tmp_path, {"recipe": lambda: None})  # breaks in the middle of writing
    assert (tmp_path / STATE).read_bytes() == before
    save(tmp_path, config, "oim")
    assert load_state(tmp_path, config)["stage"] == "oim"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", []),
        ('{"stage": "oim", "step": 4}\n{"stage": "oim", "step": 5}\n', [("oim", 4)]),
        ('{"stage": "embed", "step": 9}\n{"stage": "oim", "step": 4}\n{"sta', [("embed", 9), ("oim", 4)]),
    ],
)
def test_a_log_is_cut_to_the_state(tmp_path, text, kept):
    (tmp_path / LOG).write_text(text)
    log = Log(tmp_path, "oim", 4)
    log.write(stage="oim", step=5, total=1.5)
    assert [(r["stage"], r["step"]) for r in log.read()] == [*kept, ("oim", 5)]
