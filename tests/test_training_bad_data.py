"""Unusable data and runs that diverge end with a message that names the file, or the loss."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from training_sets import (
    Standing,
    crops_source,
    frames_source,
    ground,
    tiny_recipe,
    tiny_stage,
    write_crops,
    write_frames,
    write_scene,
)

from qeeps_cli.errors import DataError, ExitCode, UsageError, WeightsError
from qeeps_cli.training.population import Person
from qeeps_cli.training.run import train
from qeeps_cli.training.teacher import Teacher, load_teacher

EMBED = {"losses": {"contrastive": 1.0}}


def run(sources, out, stage_name="oim", report=lambda progress: None, **changes):
    recipe = tiny_recipe(sources, {stage_name: tiny_stage(**changes)})
    return train(recipe, out, torch.device("cpu"), report, lambda line: None)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_missing_frame(tmp_path):
    write_scene(tmp_path / "scene")
    (tmp_path / "scene" / "frames" / "f3.png").unlink()
    with pytest.raises(DataError, match=r"annotations\.json.*f3\.png"):
        run([frames_source(tmp_path / "scene")], tmp_path / "out")


def test_a_missing_crop(tmp_path):
    write_crops(tmp_path / "crops")
    (tmp_path / "crops" / "p2_B1.png").unlink()
    with pytest.raises(DataError, match=r"index\.csv.*p2_B1\.png"):
        run([crops_source(tmp_path / "crops")], tmp_path / "out", "embed", **EMBED)


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist.*--data-root"):
        run([frames_source(tmp_path / "nowhere")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_to_start_from_that_are_not_there(tmp_path):
    recipe = tiny_recipe([frames_source(write_scene(tmp_path / "scene"))], {"oim": tiny_stage()})
    recipe = replace(recipe, init=tmp_path / "start.safetensors")
    with pytest.raises(WeightsError, match=r"start\.safetensors does not exist.*--data-root"):
        train(recipe, tmp_path / "out", torch.device("cpu"), lambda progress: None, lambda line: None)


@pytest.mark.parametrize(
    ("root", "says"), [("nowhere", "nowhere does not exist"), ("scene", "has no queries; expected somebody")]
)
def test_a_validation_set_that_cannot_serve_is_told_before_a_stage_is_trained(tmp_path, root, says):
    source = frames_source(write_scene(tmp_path / "scene"))
    recipe = replace(
        tiny_recipe([source], {"oim": tiny_stage()}), validation=replace(source, root=tmp_path / root, use="both")
    )
    steps = []
    with pytest.raises(DataError, match=says):
        train(recipe, tmp_path / "out", torch.device("cpu"), steps.append, lambda line: None)
    assert steps == []


@pytest.mark.parametrize("bbox", [[150, 20, 30, 40], [400, 20, 14, 30], [20, 20, 0, 30], [20, 20, 14], [1, 2, 3, None]])
def test_a_box_outside_the_frame(tmp_path, bbox):
    root = write_scene(tmp_path / "scene")
    edit(root / "annotations.json", lambda content: content["annotations"][4].update(bbox=bbox))
    with pytest.raises(DataError, match=r"annotations\.json: annotation 4: .*bbox"):
        run([frames_source(root)], tmp_path / "out")


def test_a_box_outside_a_picture_that_is_smaller_than_its_labels_say(tmp_path):
    root = write_frames(tmp_path / "set", [(f"c{c}", [Standing(0, 20, 20), Standing(1, 120, 60)]) for c in range(2)])
    Image.fromarray(ground(60, 80)).save(root / "frames" / "f1.png")
    with pytest.raises(DataError, match=r"f1\.png.*x,y,w,h = 120,60,14,30.*80 pixels wide and 60 high"):
        run([frames_source(root)], tmp_path / "out")


def test_no_identities_at_all(tmp_path):
    crowd = [("c0", [Standing(-1, 20, 20), Standing(-1, 90, 20)])] * 3
    write_frames(tmp_path / "crowd", crowd)
    with pytest.raises(DataError, match="no identities.*person_id is -1") as error:
        run([frames_source(tmp_path / "crowd")], tmp_path / "out")
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("stage_name", "changes", "message"),
    [
        ("embed", EMBED, "two crops"),
        ("oim", {}, "two crops"),
        ("qeeps", {"identities": 0}, "no identity of the training frames is labelled twice"),
    ],
)
def test_identities_that_are_seen_once_only(tmp_path, stage_name, changes, message):
    write_frames(tmp_path / "once", [("c0", [Standing(0, 20, 20), Standing(1, 90, 20)])])
    with pytest.raises(DataError, match=message):
        run([frames_source(tmp_path / "once")], tmp_path / "out", stage_name, **changes)


def test_frames_of_identities_seen_once_train_the_detector(tmp_path):
    write_frames(tmp_path / "once", [("c0", [Standing(0, 20, 20), Standing(1, 90, 20)])])
    assert run([frames_source(tmp_path / "once")], tmp_path / "out", identities=0, steps=1).is_file()


@pytest.mark.parametrize("stage_name", ["oim", "qeeps"])
def test_a_stage_of_frames_without_frames(tmp_path, stage_name):
    write_crops(tmp_path / "crops")
    with pytest.raises(DataError, match="crops alone"):
        run([crops_source(tmp_path / "crops")], tmp_path / "out", stage_name)


def test_held_out_people_of_one_camera_give_no_metric_instead_of_a_nan(tmp_path):
    write_crops(tmp_path / "crops", cameras="A")
    run([crops_source(tmp_path / "crops", holdout=2)], tmp_path / "out", "embed", steps=1, **EMBED)
    assert '"validation": {}' in (tmp_path / "out" / "log.jsonl").read_text()


@pytest.mark.parametrize("changes", [{}, EMBED | {"identities": 0}, {"losses": {"contrastive": 0.0}}])
def test_a_stage_that_would_train_nothing(tmp_path, changes):
    write_crops(tmp_path / "crops")
    with pytest.raises(UsageError, match="contrastive"):
        run([crops_source(tmp_path / "crops")], tmp_path / "out", "embed", **changes)


def test_a_picture_that_cannot_be_read_at_the_start(tmp_path):
    write_crops(tmp_path / "crops")
    (tmp_path / "crops" / "p1_A0.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"training picture .*p1_A0\.png"):
        run([crops_source(tmp_path / "crops")], tmp_path / "out", "embed", **EMBED)


def test_a_picture_that_cannot_be_read_in_mid_run(tmp_path):
    root = write_scene(tmp_path / "scene")
    steps = []

    def report(progress):
        steps.append(progress.step)
        for path in (root / "frames").iterdir():  # cut short, as by a full disk
            path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(DataError, match=r"training picture .*f\d+\.png: .*(damaged|cut short)"):
        run([frames_source(root)], tmp_path / "out", report=report, steps=30, identities=0)
    assert 1 <= len(steps) < 10  # the steps whose pictures had been read already


@pytest.mark.parametrize(
    ("stage_name", "changes", "term"), [("embed", EMBED, "contrastive"), ("oim", {"identities": 0}, "rpn_cls")]
)
def test_a_loss_that_is_not_finite(tmp_path, stage_name, changes, term):
    write_crops(tmp_path / "crops")
    write_scene(tmp_path / "scene")
    sources = [frames_source(tmp_path / "scene"), crops_source(tmp_path / "crops")]
    with pytest.raises(DataError) as error:
        run(sources, tmp_path / "out", stage_name, lr=1e30, steps=6, **changes)
    message = str(error.value)
    assert term in message.split("became")[0]
    assert f"of stage {stage_name}" in message and "Lower lr" in message and ".png" in message
    assert not (tmp_path / "out" / f"{stage_name}.safetensors").exists()
    assert "NaN" not in (tmp_path / "out" / "log.jsonl").read_text()


def test_a_teacher_that_is_missing_or_has_nobody_to_teach(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the teacher .*teacher\.bin"):
        load_teacher(tmp_path / "teacher.xml", torch.device("cpu"))
    nobody = [Person(tmp_path / "a.jpg", None, 0, "A", "crops")]
    with pytest.raises(UsageError, match="no set has `teacher = true`"):
        Teacher(lambda person: person, b"").of_crops(nobody, [], tmp_path)
