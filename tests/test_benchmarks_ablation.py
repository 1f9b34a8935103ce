"""Table 1 on one's own data: which runs are trained, from where, and what the table says of them."""

import json
import sys
from dataclasses import replace
from threading import Event

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file
from training_sets import write_scene

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import ablation  # noqa: E402
from ablation import Evaluation, evaluate_all, gain, mean, summary, train_all, unguided  # noqa: E402

from qeeps_cli.datasets.listed import read_sets  # noqa: E402
from qeeps_cli.errors import DataError, UsageError  # noqa: E402
from qeeps_cli.model.config import VARIANTS, InferenceParams  # noqa: E402
from qeeps_cli.model.qeeps import QEEPS  # noqa: E402
from qeeps_cli.training.config import read_recipe  # noqa: E402
from qeeps_cli.training.initialise import GUIDED  # noqa: E402
from qeeps_cli.training.trainer import Interrupted  # noqa: E402
from qeeps_cli.weights import load_model, read_checkpoint, save_checkpoint  # noqa: E402

STAGE = """
steps = 2
warmup = 1
size = [96, 128]
identities = 0
rois = 8
"""
RECIPE = f"""
[model]
backbone = "resnet18"
embedding_dim = 16
pool_size = 4
[[data]]
kind = "coco"
root = "scene"
[stages.oim]
{STAGE}
[stages.qeeps]
{STAGE}
"""
SETS = """
[[set]]
name = "val"
kind = "coco"
root = "scene"
queries = "some.json"
"""
FEW = Evaluation(params=InferenceParams(proposals=10, min_objectness=0.0), queries=1, frames=3)
CPU = torch.device("cpu")


@pytest.fixture
def recipe(tmp_path):
    root = write_scene(tmp_path / "scene", identities=3)
    labels = json.loads((root / "annotations.json").read_text())["annotations"]
    queries = [{"image": "f0.png", "bbox": q["bbox"], "person_id": q["person_id"]} for q in labels[:2]]
    (root / "some.json").write_text(json.dumps(queries))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "sets.toml").write_text(SETS)
    return read_recipe(tmp_path / "recipe.toml")


def result(seed, variant, aps, recall=None):
    """Of queries a, b, … with these ap."""
    search = {"mAP": sum(aps) / len(aps), "top1": 0.5, "max_recall": recall, "queries": len(aps)}
    queries = [{"query": name, "ap": ap} for name, ap in zip("abcdefg", aps, strict=False)]
    row = {"seed": seed, "variant": variant, "set": "val", "measured": {"ranking": "exact"}}
    return row | {"search": search, "per_query": queries}


def test_no_results_make_no_table():
    assert summary([]) == ""
    assert mean([]) == "–"


def test_the_table_has_means_and_spreads_over_the_seeds():
    rows = [result(1, "oim", [0.1, 0.3]), result(1, "qeeps", [0.3, 0.3], 0.9), result(2, "oim", [0.2, 0.6])]
    lines = summary(rows).splitlines()
    assert lines[0] == "val, 2 queries"
    assert lines[-2:] == [
        "| oim | exact | 2 | 30.0 ± 14.1 |  | 50.0 ± 0.0 | – |",
        "| qeeps | exact | 1 | 30.0 | +10.0 ± 10.0 | 50.0 | 90.0 |",  # of seed 1
    ]


def test_the_gain_is_that_of_the_same_queries_and_seeds():
    baseline = [result(1, "oim", [0.1, 0.5, 0.9]), result(2, "oim", [0.3, 0.5, 0.5])]
    # a: +20 and +40, b: -10 and -10, c: 0 and +10, so that the queries gain 30, -10 and 5 in the mean
    found = [result(1, "qeeps", [0.3, 0.4, 0.9]), result(2, "qeeps", [0.7, 0.4, 0.6])]
    assert gain(found, baseline) == "+8.3 ± 11.7"
    assert gain(found[:1], baseline) == "+3.3 ± 8.8"
    assert gain([result(1, "qeeps", [0.3])], baseline) == "+20.0"
    assert gain([result(7, "qeeps", [0.3])], baseline) == "–"


@pytest.mark.parametrize(
    ("variant", "mode", "ranking"),
    [
        ("oim", "exact", "cosine"),
        ("oim+qrpn", "exact", "exact"),
        ("oim+qrpn", "cached", "cosine"),  # no QSimNet
        ("oim+qsimnet", "cached", "cached"),
        ("qeeps", "cascade", "cascade"),
        ("qeeps", "oim", "cosine"),
    ],
)
def test_how_each_variant_is_ranked(variant, mode, ranking):
    assert Evaluation(mode).name(variant) == ranking


def test_a_recipe_without_the_guided_stage_is_refused(recipe, tmp_path):
    stages = {"oim": recipe.stages["oim"]}
    with pytest.raises(UsageError, match="stages.qeeps"):
        train_all(replace(recipe, stages=stages), 1, ["oim"], tmp_path / "out", CPU)


@pytest.mark.slow
def test_all_variants_start_alike_and_are_trained_and_measured_once(recipe, tmp_path, monkeypatch):
    out, variants = tmp_path / "out", ["oim", "oim+qrpn", "qeeps"]
    begun = []
    real_train = ablation.train

    def watched(config, folder, *rest):
        begun.append((folder.name, config.model.variant, config.init, list(config.stages), config.seed))
        return real_train(config, folder, *rest)

    monkeypatch.setattr(ablation, "train", watched)
    train_all(recipe, 5, variants, out, CPU)
    start = out / "seed5" / "start" / "oim.safetensors"
    assert begun[0] == ("start", "oim", None, ["oim"], 5)
    assert begun[1:] == [(variant, variant, start, ["qeeps"], 5) for variant in variants]
    for variant in variants:
        assert read_checkpoint(out / "seed5" / variant / "qeeps.safetensors").config.variant == variant
    train_all(recipe, 5, variants, out, CPU)
    assert len(begun) == 1 + len(variants)  # nothing again

    sets = {listed.name: listed.frames for listed in read_sets(tmp_path / "sets.toml")}
    rows = evaluate_all(out, 5, [*variants, "oim+qsimnet"], sets, FEW, "cpu")  # the last was not trained
    assert [(row["variant"], row["measured"]["ranking"]) for row in rows] == [
        ("oim", "cosine"),
        ("oim+qrpn", "cosine"),
        ("qeeps", "cached"),
    ]
    assert all(row["search"]["queries"] == 1 for row in rows)
    monkeypatch.delattr(ablation, "run_benchmark")  # what was measured is read
    assert evaluate_all(out, 5, variants, sets, FEW, "cpu") == rows
    assert summary(rows).count("\n| ") == 2 + len(variants)


@pytest.mark.slow
def test_on_a_frozen_network_parts_come_from_the_whole(recipe, tmp_path):
    """The baseline is the start without its guidance; QRPN and QSimNet alone are those that were trained together."""
    start, out = tmp_path / "start.safetensors", tmp_path / "out"
    save_checkpoint(start, QEEPS(recipe.model), {}, half=False)
    guided = replace(recipe.stages["qeeps"], guidance_only=True, losses={"oim": 0.0})
    recipe = replace(recipe, init=start, stages={"qeeps": guided})
    train_all(recipe, 3, list(VARIANTS), out, CPU)
    tensors = {name: load_file(out / "seed3" / name / "qeeps.safetensors") for name in VARIANTS}
    both = tensors["oim+qrpn+qsimnet"]
    assert {name for name in both if name not in tensors["oim"]} == {
        name for name in both if name.startswith(("qrpn.", "qsimnet."))
    }
    for variant in ("oim", "oim+qrpn", "oim+qsimnet"):
        assert read_checkpoint(out / "seed3" / variant / "qeeps.safetensors").config.variant == variant
        assert all(torch.equal(tensor, both[name]) for name, tensor in tensors[variant].items())
    assert not torch.equal(both["qrpn.fc2.bias"], tensors["qeeps"]["qrpn.fc2.bias"])
    assert any(tensors["qeeps"][name].any() for name in tensors["qeeps"] if ".fc2." in name and "qsse" in name)
    train_all(recipe, 3, list(VARIANTS), out, CPU)  # finished runs and their parts
    (out / "seed3" / "oim" / "state.pt").write_bytes(b"a run of its own")
    with pytest.raises(DataError, match="holds a run that was trained by itself"):
        train_all(recipe, 3, list(VARIANTS), out, CPU)


def test_a_start_without_guidance_holds_the_rest_as_it_was(recipe, tmp_path):
    with pytest.raises(UsageError, match="--unguided-start .* name a trained checkpoint there, got None"):
        unguided(recipe, tmp_path)
    whole = QEEPS(recipe.model)
    resnet = {name: tensor for name, tensor in whole.basenet.state_dict().items() if "qsse" not in name}
    save_file(resnet, tmp_path / "resnet.safetensors")
    with pytest.raises(UsageError, match="name a trained checkpoint there, got .*resnet"):
        unguided(replace(recipe, init=tmp_path / "resnet.safetensors"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    save_checkpoint(tmp_path / "whole.safetensors", whole, {"terms": "for research"}, half=False)
    start = unguided(replace(recipe, init=tmp_path / "whole.safetensors"), tmp_path / "out")
    assert read_checkpoint(start).config.variant == "oim"
    assert read_checkpoint(start).card["terms"] == "for research"
    names = set(load_file(start))
    assert names and not [name for name in names if name.startswith(GUIDED)]
    whole.eval()
    bare = load_model(read_checkpoint(start))
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        maps, _ = whole.basenet(images)
        torch.testing.assert_close(bare.basenet(images)[0].conv4, maps.conv4, rtol=2e-2, atol=2e-2)


@pytest.mark.slow
def test_an_interrupted_run_is_gone_on_with(recipe, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stopped():
        event = Event()
        event.set()
        return event

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(ablation, "Event", stopped)
        train_all(recipe, 1, ["qeeps"], out, CPU)
    assert not (out / "seed1" / "start" / "oim.safetensors").exists()
    train_all(recipe, 1, ["qeeps"], out, CPU)
    steps = [json.loads(line)["step"] for line in (out / "seed1" / "start" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2]
    assert (out / "seed1" / "qeeps" / "qeeps.safetensors").is_file()
