"""What a search loses to detection: what is searched among, and that the first row is the benchmark's."""

import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from networks import FEW, small_network
from training_sets import write_queries, write_scene

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import lost_to_detection as lost  # noqa: E402

from qeeps_cli.datasets import load  # noqa: E402
from qeeps_cli.evaluation.runner import run_benchmark  # noqa: E402
from qeeps_cli.images import read_image  # noqa: E402
from qeeps_cli.model.config import InferenceParams  # noqa: E402
from qeeps_cli.searching.engine import Engine, QueryPerson  # noqa: E402

EVERYTHING = InferenceParams(proposals=100, min_objectness=0.0, min_person_score=0.0, proposal_nms=0.95, nms=0.95)


def people(first, *boxes):
    """Embeddings tell who is who."""
    return lost.People(np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes))[:, None] + float(first))


def test_what_is_searched_among():
    found = people(0, (0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 60, 60))  # somebody twice, and a bush
    labelled = people(100, (0, 0, 10, 12), (80, 0, 90, 10))  # the second is missed
    among = {name: p.embeddings[:, 0].tolist() for name, p in lost.mixtures(found, labelled).items()}
    assert among == {
        "what is found": [0, 1, 2],
        "without wrong boxes": [0, 1],
        "with boxes that fit": [2, 100, 100],
        "with those who were missed": [0, 1, 2, 101],
        "labelled boxes": [100, 101],
    }


def test_frames_in_which_nobody_is_found_or_labelled():
    somebody, nobody = people(0, (0, 0, 10, 10)), people(0)
    assert [len(p.boxes) for p in lost.mixtures(somebody, nobody).values()] == [1, 0, 1, 1, 0]
    assert [len(p.boxes) for p in lost.mixtures(nobody, somebody).values()] == [0, 0, 0, 1, 1]


def test_labelled_people_are_seen_as_queries_are(tmp_path):
    scene = load("coco", write_queries(write_scene(tmp_path / "scene", identities=4)))
    engine = Engine(small_network(shorter_side=120, longest_side=160), torch.device("cpu"), FEW, plain=True)
    frame = scene.frames[0]
    _, labelled = lost.look(engine, frame)
    rgb = read_image(frame.path).rgb
    for box, embedding in zip(labelled.boxes, labelled.embeddings, strict=True):
        assert embedding == pytest.approx(engine.embed_query(QueryPerson(rgb, tuple(box))), abs=1e-5)


def test_the_first_row_is_the_benchmarks_and_the_last_finds_everybody(tmp_path):
    scene = load("coco", write_queries(write_scene(tmp_path / "scene", identities=4)))
    model = small_network(shorter_side=120, longest_side=160)
    engine = Engine(model, torch.device("cpu"), EVERYTHING, plain=True)
    seen = [lost.look(engine, frame) for frame in scene.frames]
    queries = lost.embed_queries(engine, scene)
    names = [frame.name for frame in scene.frames]
    first, last = (dict(zip(names, column, strict=True)) for column in zip(*seen, strict=True))
    expected = run_benchmark(engine, scene, mode="cached").search.mean_ap
    assert 0 < expected < 1  # of so many boxes that a random network gives
    # the benchmark scores by a closed form: those who are nearly alike may change places
    assert lost.search(engine, scene, queries, first).mean_ap == pytest.approx(expected, rel=0.02)
    among_labelled = lost.search(engine, scene, queries, last)
    assert among_labelled.mean_ap > expected and all(q.count_tp == q.count_gt for q in among_labelled.queries)
