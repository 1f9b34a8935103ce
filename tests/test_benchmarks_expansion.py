"""Ways to expand a query: two of them are those of `qeeps benchmark`, the others do what their names say."""

import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from networks import FEW, small_network
from scoring_samples import units
from training_sets import write_queries, write_scene

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import expansion as ways_of  # noqa: E402

from qeeps_cli.datasets import load  # noqa: E402
from qeeps_cli.evaluation.independent import index_benchmark  # noqa: E402
from qeeps_cli.evaluation.pairwise import open_query  # noqa: E402
from qeeps_cli.evaluation.runner import run_benchmark  # noqa: E402
from qeeps_cli.searching.engine import Engine, QueryPerson  # noqa: E402
from qeeps_cli.searching.scoring import Scorer  # noqa: E402
from qeeps_cli.searching.tally import Tally  # noqa: E402


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return load("coco", write_queries(write_scene(tmp_path_factory.mktemp("expansion") / "scene", identities=4)))


def test_two_of_them_are_those_of_the_benchmark(scene):
    engine = Engine(small_network(shorter_side=120, longest_side=160), torch.device("cpu"), FEW)
    how = {"cache": None, "batch": 1, "det_thresh": 0.5, "confident_only": False}
    index, _ = index_benchmark(engine, scene, **how, tally=Tally(), progress=lambda *done: None)
    pictures = [open_query(scene, query) for query in scene.queries]
    queries = [engine.embed_query(QueryPerson(picture.rgb, picture.query.box)) for picture in pictures]

    def scores(query, people):
        return Scorer(query[None], engine.closed_form()).scores(0, people).astype(np.float64)

    for name, expand in (("none", False), ("scores, one", True)):
        outcome = ways_of.measure(ways_of.WAYS[name], scores, scene, index, queries)
        row = outcome.cells(outcome)
        expected = run_benchmark(engine, scene, mode="cached", expand=expand).search.to_json()
        assert row[:2] == [f"{100 * expected[key]:.1f}" for key in ("mAP", "top1")]


def cosine(query, people):
    return people.astype(np.float64) @ query


def test_what_the_others_do():
    people = units(30, 1)
    query = people[3] + 0.3 * units(1, 2)[0]
    query /= np.linalg.norm(query)
    everybody, without = np.ones(30, bool), np.arange(30) != 3
    ways, plain = ways_of.WAYS, cosine(query, people)
    assert np.array_equal(ways["none"](cosine, query, people, everybody), plain)
    mean = (query + people[3]) / np.linalg.norm(query + people[3])
    assert ways["embeddings"](cosine, query, people, everybody) == pytest.approx(people @ mean, abs=1e-6)
    first, second = ways_of._best(plain, without, 2)
    assert first != 3 and plain[first] == np.sort(plain)[-2]
    by = [plain[row] * cosine(people[row], people) for row in (first, second)]
    assert ways["scores, two"](cosine, query, people, without) == pytest.approx((plain + np.mean(by, axis=0)) / 2)
    gated = ways["scores, one from 0.5"]
    assert np.array_equal(gated(cosine, query, people, without), plain) and plain[first] < 0.5
    assert not np.array_equal(gated(cosine, query, people, everybody), plain)
