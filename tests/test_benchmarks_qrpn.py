"""What QRPN knows of whom it is asked for: how that is counted, and that it alone is trained."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from networks import small_network
from safetensors.torch import load_file
from training_sets import MODEL, frames_source, tiny_recipe, tiny_stage, write_queries, write_scene

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import proposal_recall  # noqa: E402
import train_qrpn  # noqa: E402

from qeeps_cli.datasets import load  # noqa: E402
from qeeps_cli.errors import DataError  # noqa: E402
from qeeps_cli.evaluation.metrics import covers  # noqa: E402
from qeeps_cli.evaluation.protocols import find_truth  # noqa: E402
from qeeps_cli.images import read_image  # noqa: E402
from qeeps_cli.model.config import InferenceParams  # noqa: E402
from qeeps_cli.model.qeeps import QEEPS  # noqa: E402
from qeeps_cli.model.torchvision_parts import boxes as box_ops  # noqa: E402
from qeeps_cli.searching.engine import Engine, QueryPerson  # noqa: E402
from qeeps_cli.weights import load_model, read_checkpoint, save_checkpoint  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_queries(write_scene(tmp_path_factory.mktemp("qrpn") / "scene", identities=4))


def test_places_are_those_of_a_searchs_proposals(folder):
    scene = load("coco", folder)
    many = InferenceParams(proposals=300, pre_nms=1000, min_objectness=0.0, proposal_nms=0.9, min_person_score=0.0)
    engine = Engine(small_network(shorter_side=120, longest_side=160), CPU, many, plain=True)
    people = [QueryPerson(read_image(query.path).rgb, query.box) for query in scene.queries]
    pictures = {frame.name: read_image(frame.path).rgb for frame in scene.frames}

    def place(box, found):
        right = np.flatnonzero(covers(box, found[0].proposals))
        return int(right[0]) if len(right) else proposal_recall.ALL

    places = proposal_recall.find_places(engine, scene)
    for number, (query, found) in enumerate(zip(scene.queries, places, strict=True)):
        truth = {query.gallery[position]: box for position, box in find_truth(scene, query).items()}
        held = [(truth[name], [pictures[name]]) for name in pictures if name in truth]
        assert found.alone.tolist() == [place(box, engine.detect(picture, proposals=True)) for box, picture in held]
        for way, person in ((found.asked, number), (found.another, (number + 1) % len(people))):
            searched = [(box, engine.search(people[person], picture, proposals=True)) for box, picture in held]
            assert way.tolist() == [place(*each) for each in searched]
    columns = [np.concatenate(way) for way in zip(*places, strict=True)]
    assert all((column < proposal_recall.ALL).any() for column in columns)
    assert all((columns[a] != columns[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))


def test_somebody_else_is_needed(folder):
    scene = load("coco", folder)
    engine = Engine(small_network(shorter_side=120, longest_side=160), CPU, plain=True)
    with pytest.raises(SystemExit, match="at least two people"):
        proposal_recall.find_places(engine, replace(scene, queries=scene.queries[:1]))


def test_the_report_counts_each_query_once():
    far = proposal_recall.ALL
    often = proposal_recall.Places(*(np.array(places) for places in ([0, 4, 4, far], [0, 4, 4, far], [0, 0, 0, 0])))
    once = proposal_recall.Places(*(np.array([place]) for place in (far, far, 2)))
    rows = {row.split("|")[1].strip(): row for row in proposal_recall.report([often, once]).splitlines()[2:]}
    assert [cell.strip() for cell in rows["1"].split("|")[2:6]] == ["12.5", "12.5", "50.0", "+37.5 ± 37.5"]
    assert [cell.strip() for cell in rows["5"].split("|")[2:6]] == ["37.5", "37.5", "100.0", "+62.5 ± 37.5"]
    assert [cell.strip() for cell in rows["all"].split("|")[2:6]] == ["37.5", "37.5", "100.0", "+62.5 ± 37.5"]


@pytest.fixture
def recipe(folder, tmp_path):
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, QEEPS(MODEL), {}, half=False)
    stage = tiny_stage(size=(288, 384), steps=4)
    source = frames_source(folder)
    return replace(tiny_recipe([source], {"qeeps": stage}, init=start), validation=source)


def test_qrpn_alone_is_trained(recipe, tmp_path):
    checkpoint = read_checkpoint(recipe.init)
    model = load_model(checkpoint)
    views = train_qrpn.look(model, recipe, recipe.data, 6)
    assert len(views.maps) == len(views.queries) == len(views.labels) == len(views.people) == 6
    assert all(len(views.asked(view, int(label))) == 1 for view, label in enumerate(views.labels))
    config = replace(recipe.stages["qeeps"], losses=train_qrpn.LOSSES["people"])
    files = []
    for run, seed in (("first", 1), ("again", 1), ("other", 2)):
        told = train_qrpn.train(model, views, config, seed, queries=3)
        assert "qrpn " in told and "qrpn_people " in told
        files.append(tmp_path / f"{run}.safetensors")
        save_checkpoint(files[-1], model, {}, half=False)
    start, first, again, other = (load_file(path) for path in (recipe.init, *files))
    assert {name for name in first if not torch.equal(first[name], again[name])} == set()
    assert {name for name in first if not torch.equal(first[name], other[name])} >= {"qrpn.fc1.weight"}
    changed = {name for name in start if not torch.equal(start[name], first[name])}
    assert changed and all(name.startswith("qrpn.") for name in changed)


def test_who_is_placed_before_whom(recipe, monkeypatch):
    """A QRPN whose logits point at the person asked for, and one that points away from them."""
    model = load_model(read_checkpoint(recipe.init))
    views = train_qrpn.look(model, recipe, recipe.data, 6)
    anchors = model.anchors(views.maps[:1])

    def pointing(sign):
        def logits_of(model, views, gallery, asking):
            boxes = [views.asked(view, int(views.labels[query])) for view, query in zip(gallery, asking, strict=True)]
            overlaps = [box_ops.box_iou(anchors, box)[:, 0] for box in boxes]
            return sign * torch.stack(overlaps)

        return logits_of

    for sign, share in ((1, 100.0), (-1, 0.0), (0, 50.0)):
        monkeypatch.setattr(train_qrpn, "logits_of", pointing(sign))
        assert train_qrpn.share_before(model, views, 6)[0] == pytest.approx(share)
    alone = replace(views, people=[replace(people, labels=people.labels * 0) for people in views.people])
    with pytest.raises(DataError, match="beside somebody else"):
        train_qrpn.share_before(model, replace(alone, labels=alone.labels * 0), 6)
