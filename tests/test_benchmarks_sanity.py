"""The sanity study: what is done to queries, and the tables, with a small random network."""

import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from networks import FEW, small_network
from training_sets import write_queries, write_scene

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import sanity_study as study_of  # noqa: E402
from render_twins import change_clothes, swap  # noqa: E402

from qeeps_cli.datasets import load  # noqa: E402
from qeeps_cli.evaluation.runner import run_benchmark  # noqa: E402
from qeeps_cli.searching.engine import Engine  # noqa: E402

BOX = (20.0, 10.0, 40.0, 70.0)
CLOTHES = (slice(19, 70), slice(20, 40))  # of BOX, without the head


@pytest.fixture
def rgb():
    rows, columns = np.mgrid[:80, :60]
    return np.stack([40 + 2 * rows, 30 + 3 * columns, 200 - rows - columns], axis=-1).astype(np.uint8)


def changed_pixels(before, after):
    return (before != after).any(axis=-1)


@pytest.mark.parametrize("name", list(study_of.CHANGES))
def test_no_change_writes_into_the_picture(rgb, name):
    before = rgb.copy()
    study_of.CHANGES[name](rgb, BOX)
    assert np.array_equal(rgb, before)


@pytest.mark.parametrize("change", [study_of.turn_hue, study_of.invert])
def test_other_clothes_change_what_is_below_the_head_only(rgb, change):
    after, box = change(rgb, BOX)
    assert box == BOX
    outside = np.ones(rgb.shape[:2], bool)
    outside[CLOTHES] = False
    changed = changed_pixels(rgb, after)
    assert changed[CLOTHES].mean() > 0.95
    assert not changed[outside].any()


def test_half_a_turn_of_the_hue_makes_red_cyan_and_leaves_grey():
    red, grey = np.full((40, 20, 3), (200, 20, 20), np.uint8), np.full((40, 20, 3), 90, np.uint8)
    whole = (0, 0, 20, 40)
    assert np.abs(study_of.turn_hue(red, whole)[0][20, 10].astype(int) - (20, 200, 200)).max() <= 6
    assert np.array_equal(study_of.turn_hue(grey, whole)[0], grey)


def test_half_the_size_takes_the_box_along(rgb):
    after, box = study_of.halve(rgb, BOX)
    assert after.shape == (40, 30, 3)
    assert box == (10, 5, 20, 35)
    assert np.abs(after[20, 15].astype(int) - rgb[40, 30]).max() <= 8


def test_jpeg_is_worse_but_the_same_picture(rgb):
    after, box = study_of.compress(rgb, BOX)
    error = np.abs(after.astype(int) - rgb)
    assert box == BOX and 0 < error.mean() < 10


def test_the_dark_picture_has_a_third_of_the_light_and_the_same_noise_every_time(rgb):
    after, box = study_of.darken(rgb, BOX)
    assert box == BOX
    assert after.mean() == pytest.approx(0.35 * rgb.mean(), rel=0.02)
    assert np.array_equal(after, study_of.darken(rgb, BOX)[0])


@pytest.mark.parametrize(
    ("change", "covered"),
    [
        (study_of.cover_lower_half, (slice(40, 70), slice(20, 40))),
        (study_of.cover_left_half, (slice(10, 70), slice(20, 30))),
    ],
)
def test_half_of_the_person_is_grey(rgb, change, covered):
    after, box = change(rgb, BOX)
    expected = rgb.copy()
    expected[covered] = 128
    assert box == BOX and np.array_equal(after, expected)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return load("coco", write_queries(write_scene(tmp_path_factory.mktemp("sanity") / "scene", identities=4)))


@pytest.fixture(scope="module")
def study(scene):
    network = small_network(shorter_side=120, longest_side=160)  # the size of the frames
    return study_of.Study.of(Engine(network, torch.device("cpu"), FEW), scene)


def test_unchanged_queries_score_as_in_the_benchmark(study, scene):
    expected = run_benchmark(study.engine, scene, mode="cached").search
    outcomes = study.changed(study_of.unchanged)
    assert [outcome.score.ap for outcome in outcomes] == [query.ap for query in expected.queries]
    assert [outcome.score.hits for outcome in outcomes] == [query.hits for query in expected.queries]
    for query, outcome in zip(scene.queries, outcomes, strict=True):
        assert len(outcome.right) == outcome.score.count_tp
        held = set(scene.appearances[query.person_id]) & set(query.gallery)
        assert len(outcome.absent) == len(query.gallery) - len(held) > 0
        assert outcome.others >= outcome.absent.max()
        # the best detection is right exactly if no wrong one is as good
        assert outcome.score.hits[1] == (outcome.right.max(initial=0) > outcome.others)


def test_the_tables(study, scene):
    lines = study_of.report(study, {"the same": scene}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {name: values for name, *values in cells}
    queries = str(len(scene.queries))
    assert rows["unchanged"][:2] == [queries, "1.00"]
    assert rows["rendered: the same"] == rows["unchanged"]
    assert set(study_of.CHANGES) < set(rows)
    assert all(rows[name][0] == queries for name in study_of.CHANGES)
    assert rows["the best of all frames without the person, a query"][0] == queries


def test_a_twin_who_stands_elsewhere_is_left_out(study, tmp_path):
    others = load("coco", write_scene(tmp_path / "others", identities=4, first=100))
    assert not list(study.twins(others))
    assert study_of.row("others", [], []) == ["others", "0", "–", "–", "–", "–", "–"]


def test_twins_wear_other_clothes_or_are_somebody_else():
    wardrobe = iter(np.linspace(0.1, 0.8, 8))

    def draw(rng):
        return {key: np.full((4, 3), value) for key, value in zip(("ca", "cb"), 2 * [next(wardrobe)], strict=True)} | {
            "pat": np.ones(4, int),
            "psc": np.ones(4),
        }

    own = {"ca": np.full((4, 3), 0.1), "cb": np.zeros((4, 3)), "pat": np.zeros(4, int), "psc": np.zeros(4)}
    own |= {"amt": [0.0, 1.0, 0.0, 0.0], "skirt": 0.3}
    person = {"avatar": "Asian_F_1_Casual", "skin": np.ones(3), "height": 1.7, "col": own}
    dressed = change_clothes(person, np.random.default_rng(0), draw)
    assert dressed["col"]["ca"][:3] == pytest.approx(np.full((3, 3), 0.8))  # the farthest
    assert dressed["col"]["ca"][3] == pytest.approx(np.full(3, 0.1))  # hair
    assert (dressed["avatar"], dressed["col"]["skirt"]) == ("Asian_F_1_Casual", 0.3)
    assert own["ca"] == pytest.approx(np.full((4, 3), 0.1))
    names = ["Asian_F_1_Casual", "Black_M_1_Casual", "White_F_2_Busi", "X_White_F_2_Casual"]
    other = swap(person, np.random.default_rng(0), names)
    assert other["avatar"] == "X_White_F_2_Casual" and other["col"] is own
