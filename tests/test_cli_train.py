"""`qeeps train`: interrupted and gone on with; its curves."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_sets import write_scene

from qeeps_cli.cli.process import Terminated
from qeeps_cli.cli.train import _Stop
from qeeps_cli.errors import ExitCode
from qeeps_cli.training.curves import Series, draw_curves, read_curves, smooth
from qeeps_cli.weights import read_checkpoint

pytest_plugins = ["preloaded"]

STEPS = 6
RECIPE = f"""
[model]
backbone = "resnet18"
embedding_dim = 16
pool_size = 4
shorter_side = 96
longest_side = 128
[[data]]
kind = "coco"
root = "scene"
[stages.oim]
steps = {STEPS}
warmup = 2
size = [96, 128]
identities = 2
crops_each = 2
canvas = [64, 32]
rois = 8
"""


@pytest.mark.parametrize(
    ("workers", "sent"),
    [(0, signal.SIGINT), pytest.param(2, signal.SIGINT, marks=pytest.mark.slow), (2, signal.SIGTERM)],
)
def test_an_interrupted_run_goes_on_with_the_same_command(tmp_path, preloaded, workers, sent):
    """The signal reaches the processes that prepare steps, too, as from a terminal or a scheduler."""
    write_scene(tmp_path / "scene")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    arguments = ["train", "--config", "recipe.toml", "--out", "run", "--device", "cpu", "--log-every", "1"]
    arguments += ["--workers", str(workers)]
    process = preloaded.begin(*arguments, cwd=tmp_path)
    log = tmp_path / "run" / "log.jsonl"
    process.wait_for(lambda: log.is_file() and '"step": 2' in log.read_text())
    for child in [process.pid, *children(process.pid)]:
        os.kill(child, sent)
    stopped = process.finish()
    assert stopped.returncode == ExitCode[sent.name] and b"oim 2/" in stopped.stderr, stopped.stderr
    assert b"saved at step" in stopped.stderr and b"the same command" in stopped.stderr
    assert b"Traceback" not in stopped.stderr
    assert not (tmp_path / "run" / "oim.safetensors").exists()

    again = preloaded.run(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == b"" and b"oim 2/" not in again.stderr and b"done: run/oim.safetensors" in again.stderr
    assert b"images/s" in again.stderr and b"left" in again.stderr
    assert read_checkpoint(tmp_path / "run" / "oim.safetensors").config.variant == "oim"
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "total" in record] == list(range(1, STEPS + 1))
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300


def children(pid):
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_recipe_that_is_none(tmp_path, preloaded):
    (tmp_path / "recipe.toml").write_text("[stages.oim]\nstep = 3\n")
    done = preloaded.run("train", "--config", "recipe.toml", "--out", "run", cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE and b"recipe.toml" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_recipe_whose_sets_are_not_there_leaves_no_folder(tmp_path, preloaded):
    recipe = '[[data]]\nkind = "coco"\nroot = "nowhere"\n[stages.oim]\nsteps = 3\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    done = preloaded.run("train", "--config", "recipe.toml", "--out", "run", cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE and b"nowhere does not exist" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made(tmp_path, preloaded):
    write_scene(tmp_path / "scene")
    (tmp_path / "recipe.toml").write_text('[[data]]\nkind = "coco"\nroot = "scene"\n[stages.oim]\nsteps = 3\n')
    (tmp_path / "file").write_text("")
    done = preloaded.run("train", "--config", "recipe.toml", "--out", "file/run", cwd=tmp_path)
    assert done.returncode == ExitCode.OUTPUT and b"cannot write file/run" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sent", "raised", "code"),
    [(signal.SIGINT, KeyboardInterrupt, ExitCode.SIGINT), (signal.SIGTERM, Terminated, ExitCode.SIGTERM)],
)
def test_before_the_first_step_a_signal_ends_the_run_and_later_it_asks_to_save(sent, raised, code, capfd):
    before = signal.default_int_handler
    original = signal.signal(sent, before)  # tests in the background of a shell ignore Ctrl-C, and so would _Stop
    with pytest.raises(raised), _Stop():
        signal.raise_signal(sent)
    with _Stop() as stop:
        stop.begun = True
        assert not stop.event.is_set()
        signal.raise_signal(sent)
        assert stop.event.is_set() and stop.exit_code == code
        assert signal.getsignal(sent) == signal.SIG_DFL  # once more stops at once
    assert signal.signal(sent, original) is before
    assert "saving" in capfd.readouterr().err


def write_log(folder, records: list[dict], tail: str = "") -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + tail)


def test_no_log_no_curves(tmp_path):
    assert draw_curves(tmp_path) is None
    write_log(tmp_path, [], tail='{"stage": "oim", "st')
    assert draw_curves(tmp_path) is None and not (tmp_path / "curves.png").exists()


def test_curves_count_steps_over_stages(tmp_path):
    records = [{"stage": "oim", "step": i, "total": 2.0, "cls": 1.5, "lr": 0.1} for i in (1, 2)]
    records.append({"stage": "oim", "step": 2, "validation": {"mAP": 12.5, "note": "x"}})
    records += [{"stage": "qeeps", "step": 1, "total": 1.0, "sim": 0.0, "gradient_norm": 3.0}]
    write_log(tmp_path, records, tail='{"stage": "qee')
    curves = read_curves(tmp_path / "log.jsonl")
    assert curves.stages == {"oim": 0, "qeeps": 2}
    assert set(curves.losses) == {"cls", "sim", "total"} and set(curves.validation) == {"mAP"}
    np.testing.assert_array_equal(curves.losses["total"].steps, [1, 2, 3])
    np.testing.assert_array_equal(curves.losses["sim"].steps, [3])
    np.testing.assert_array_equal(curves.validation["mAP"], [[2], [12.5]])
    assert draw_curves(tmp_path) == tmp_path / "curves.png"


def test_smoothing_keeps_a_line_straight():
    series = Series(np.arange(10.0), 2 * np.arange(10.0))
    curve = smooth(series, 4)
    assert len(curve.steps) == 7
    np.testing.assert_allclose(curve.values, 2 * curve.steps)
    assert len(smooth(series, 100).values) == 1
    np.testing.assert_array_equal(smooth(series, 1).values, series.values)
