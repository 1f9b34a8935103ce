"""`qeeps calibrate` on a small set, with a small random network."""

import json

import numpy as np
import pytest
import torch
from networks import small_network
from PIL import Image
from safetensors.torch import load_file
from training_sets import HEIGHT, WIDTH, Standing, dress, ground

from qeeps_cli.cli.calibrate import _write, calibrate
from qeeps_cli.errors import DataError, ExitCode, OutputError, UsageError
from qeeps_cli.evaluation.calibration import Calibration
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.weights import load_model, read_checkpoint, save_checkpoint

pytest_plugins = ["preloaded"]

PROPOSALS = 60
FEW = {"no_cache": True, "min_objectness": 0.0, "proposals": PROPOSALS}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random network."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(path, small_network(shorter_side=128, longest_side=192), {"data": "none"})
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory, small):
    """Three people in 15 frames, labelled where the random network scores highest for them: where it does so with some
    confidence, it is right."""
    root = tmp_path_factory.mktemp("set") / "people"
    (root / "frames").mkdir(parents=True)
    params = InferenceParams(proposals=PROPOSALS, min_objectness=0.0)
    engine = Engine(load_model(read_checkpoint(small)), torch.device("cpu"), params)
    pictures, found = [], []
    for number in range(15):
        rgb = ground(HEIGHT, WIDTH)
        for place in range(3):
            dress(rgb, Standing(1 + (number + place) % 3, 10 + 46 * place + number, 20))
        Image.fromarray(rgb).save(root / "frames" / f"{number}.png")
        pictures.append(rgb)
        found += engine.detect([rgb])
    names = [f"{number}.png" for number in range(15)]
    images = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names)]
    labels, queries = [], []
    for person in range(3):
        box = found[person].boxes[0]
        labels.append({"image_id": person, "bbox": _xywh(box), "person_id": person, "category_id": 1})
        queries.append({"image": names[person], "bbox": _xywh(box), "person_id": person})
        query = engine.embed_query(QueryPerson(pictures[person], tuple(box.tolist())))
        scores = [engine.score(query, detections.embeddings) for detections in found[3:]]
        for number in np.argsort([-own.max() for own in scores])[:5].tolist():
            best = found[3 + number].boxes[scores[number].argmax()]
            labels.append({"image_id": 3 + number, "bbox": _xywh(best), "person_id": person, "category_id": 1})
    labels = [label | {"id": number} for number, label in enumerate(labels)]
    document = {"images": images, "annotations": labels, "categories": [{"id": 1, "name": "person"}]}
    (root / "annotations.json").write_text(json.dumps(document))
    (root / "queries.json").write_text(json.dumps(queries))
    return root


def _xywh(box):
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]


@pytest.fixture
def run(small, people, capsysbinary):
    def run(**given):
        options = {"dataset": "coco", "root": people, "weights": str(small)}
        assert calibrate(**(FEW | options | given), as_json=True) == ExitCode.OK
        return json.loads(capsysbinary.readouterr().out)

    return run


def test_measures_without_writing(run, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = run()
    measured = document["as_given"]
    assert document["schema"] == "qeeps.calibration/1" and "calibration" not in document
    assert document["dataset"] == "coco" and document["set"] == document["sets"][0]["set"]
    assert sum(b["count"] for b in measured["bins"]) == measured["pairs"] <= 3 * 14
    assert not list(tmp_path.iterdir())


def test_calibrated_weights_rank_as_before_and_say_where_they_come_from(run, small, tmp_path):
    out = tmp_path / "calibrated.safetensors"
    document = run(out=out)
    before, after = read_checkpoint(small), read_checkpoint(out)
    about = after.card["calibrated"]
    assert about["of"] == before.digest and about["calibration"] == document["calibration"]
    assert after.config == before.config
    slope, offset = document["calibration"]["slope"], document["calibration"]["offset"]
    old, new = (load_model(checkpoint).qsimnet.closed_form() for checkpoint in (before, after))
    assert new.bias == pytest.approx(slope * old.bias + offset, rel=1e-4, abs=1e-4)
    again = run(weights=str(out))
    assert again["as_given"]["with_person"] == document["as_given"]["with_person"]
    assert again["as_given"]["brier"] < document["as_given"]["brier"]
    with pytest.raises(OutputError, match="--overwrite"):
        run(out=out)


def test_several_sets_count_alike_and_are_told_apart(run, small, people, tmp_path):
    few = json.loads((people / "queries.json").read_text())[:2]
    (people / "few.json").write_text(json.dumps(few))
    tables = ('name = "all"', 'name = "few"\nqueries = "few.json"')
    (tmp_path / "sets.toml").write_text("".join(f'[[set]]\nkind = "coco"\nroot = "people"\n{t}\n' for t in tables))
    both = {"dataset": "examples", "root": people.parent, "sets": tmp_path / "sets.toml", "prior": 0.2}
    out = tmp_path / "both.safetensors"
    document = run(**both, out=out)
    assert [about["set"] for about in document["sets"]] == ["all", "few"]
    assert [about["queries"] for about in document["sets"]] == [3, 2] and document["queries"] == 5
    assert document["dataset"] is None
    one = run(prior=0.2)
    assert document["sets"][0]["as_given"] == one["as_given"] == one["sets"][0]["as_given"]
    for which in ("as_given", "held_out"):
        of_sets = [about[which] for about in document["sets"]]
        assert document[which]["pairs"] == sum(measured["pairs"] for measured in of_sets)
        assert document[which]["brier"] == pytest.approx(np.mean([measured["brier"] for measured in of_sets]))
    assert read_checkpoint(out).card["calibrated"]["set"] == "all, few"


def test_a_list_of_sets_takes_no_options_of_one(run, people, tmp_path):
    (tmp_path / "sets.toml").write_text('[[set]]\nname = "all"\nkind = "coco"\nroot = "people"\n')
    with pytest.raises(UsageError, match="only --root"):
        run(root=people.parent, sets=tmp_path / "sets.toml")  # beside the dataset coco


def test_what_qsimnet_learnt_about_dimensions_may_be_evened_out(run, small, tmp_path):
    out = tmp_path / "even.safetensors"
    document = {"set": "s", "mode": "cached", "queries": 3, "prior": None, "calibration": {}, "as_given": {"pairs": 9}}
    document["spread"] = 0.0
    _write(out, read_checkpoint(small), Calibration(2.0, 1.0), document)
    checkpoint = read_checkpoint(out)
    assert checkpoint.card["calibrated"]["spread"] == 0
    weight = load_model(checkpoint).qsimnet.closed_form().weight
    assert weight.std() < 1e-4 * weight.mean().abs()
    with pytest.raises(UsageError, match="--spread needs --mode cached"):
        run(spread=0.5, mode="exact")


@pytest.mark.parametrize("half", [True, False])
def test_calibrated_weights_keep_their_precision(tmp_path, half):
    path, out = tmp_path / "given.safetensors", tmp_path / "calibrated.safetensors"
    save_checkpoint(path, small_network(), {}, half)
    document = {"set": "s", "mode": "cached", "queries": 3, "prior": None, "calibration": {}, "as_given": {"pairs": 9}}
    document["spread"] = 1.0
    _write(out, read_checkpoint(path), Calibration(2.0, 1.0), document)
    old, new = load_file(path), load_file(out)
    assert {name: tensor.dtype for name, tensor in new.items()} == {name: tensor.dtype for name, tensor in old.items()}
    assert all(torch.equal(new[name], old[name]) for name in old if not name.startswith("qsimnet."))


def test_text_for_people(small, people, preloaded):
    given = ("--dataset", "coco", "--root", people, "--weights", small, "--min-objectness", "0", "--no-cache")
    done = preloaded.run("calibrate", *given, "--proposals", str(PROPOSALS))
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "as given: " in text and "from 0.5 on: precision" in text and "calibration error" in text


def test_text_of_several_sets_has_a_line_each(small, people, tmp_path, capsysbinary):
    tables = ('[[set]]\nname = "yard"\n', '[[set]]\nname = "street"\n')
    (tmp_path / "sets.toml").write_text("".join(f'{table}kind = "coco"\nroot = "people"\n' for table in tables))
    assert calibrate(**FEW, sets=tmp_path / "sets.toml", root=people.parent, weights=str(small)) == ExitCode.OK
    yard, street = capsysbinary.readouterr().out.decode().splitlines()[-2:]
    assert yard.startswith("yard, from 0.5 on: precision") and street == yard.replace("yard", "street")


def test_a_cosine_is_refused(tmp_path):
    path = tmp_path / "oim.safetensors"
    save_checkpoint(path, small_network("oim", shorter_side=128, longest_side=192), {})
    with pytest.raises(UsageError, match="has no QSimNet"):
        calibrate(weights=str(path), **FEW)
    with pytest.raises(UsageError, match="--mode expects exact or cached"):
        calibrate(weights=str(path), mode="cascade", **FEW)


def test_nobody_found_is_said(run):
    with pytest.raises(DataError, match="some show the person and some do not"):
        run(min_person_score=1.0)
