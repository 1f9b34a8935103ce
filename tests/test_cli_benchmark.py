"""`qeeps benchmark`: wiring; the protocols have tests of their own."""

import json

import pytest
from training_sets import write_scene

from qeeps_cli.cli.benchmark import benchmark
from qeeps_cli.errors import ExitCode, UsageError

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = write_scene(tmp_path_factory.mktemp("set") / "scene", identities=3)
    labels = json.loads((root / "annotations.json").read_text())["annotations"]
    named = [label for label in labels if label["person_id"] >= 0][:2]
    queries = [{"image": f"f{q['image_id']}.png", "bbox": q["bbox"], "person_id": q["person_id"]} for q in named]
    (root / "test_queries.json").write_text(json.dumps(queries))
    return root


def test_a_benchmark_of_a_coco_set(scene, weights, capsysbinary):
    given = {"queries_file": "test_queries.json", "mode": "cached", "frames": 3, "weights": str(weights)}
    assert benchmark("coco", scene, **given, as_json=True) == ExitCode.OK
    stdout, stderr = capsysbinary.readouterr()
    document = json.loads(stdout)
    assert document["schema"] == "qeeps.benchmark/1" and document["mode"] == "cached"
    assert document["weights"]["name"] == weights.stem and document["frames_per_query"] == 3
    assert document["pairs"] == 6 and len(document["queries"]) == 2
    assert 0 <= document["search"]["mAP"] <= 1 and document["detection"]["people"] > 0
    assert b"6 pairs" in stderr


def test_the_table(scene, weights, capsysbinary):
    benchmark("coco", scene, queries_file="test_queries.json", method="oim", queries=1, frames=2, weights=str(weights))
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0] == "scene: 1 queries, 2 pairs; oim, detections of person score 0.5 or more"
    assert lines[1].startswith("mAP ") and lines[2].startswith("detection at IoU 0.5: recall ")


def test_extra_labels(scene, weights, capsysbinary):
    labels = json.loads((scene / "annotations.json").read_text())["annotations"]
    one_each = {label["image_id"]: label for label in labels}.values()
    extra = [{**label, "id": 10_000 + label["id"], "bbox": [1, 1, 9, 20], "person_id": -1} for label in one_each]
    (scene / "extra.json").write_text(json.dumps({"annotations": extra}))
    people = []
    for more in (None, ["extra.json"]):
        given = {"queries_file": "test_queries.json", "mode": "cached", "frames": 3, "extra": more}
        benchmark("coco", scene, **given, weights=str(weights), as_json=True)
        people.append(json.loads(capsysbinary.readouterr().out)["detection"]["people"])
    assert people[1] > people[0]


def test_files_of_a_set_that_has_its_own(scene):
    with pytest.raises(UsageError, match="belong to --dataset coco"):
        benchmark("prw", scene, annotations="train.json")
    with pytest.raises(UsageError, match="unknown dataset"):
        benchmark("nonsense", scene)
