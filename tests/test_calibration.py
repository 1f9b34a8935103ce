"""Calibrated scores: the fit against scikit-learn, reliability against counts by hand, QSimNet with the map inside."""

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from networks import randomise
from sklearn.linear_model import LogisticRegression

from qeeps_cli.errors import DataError
from qeeps_cli.evaluation.calibration import (
    Calibration,
    FrameScores,
    NothingToTellApartError,
    apart,
    collect,
    fit,
    held_out,
    join,
    measure,
)
from qeeps_cli.evaluation.metrics import QueryScore, RankedDetection
from qeeps_cli.model.qsimnet import QSimNet


def pairs(slope: float = 0.5, offset: float = -3.0, count: int = 20_000, seed: int = 0) -> FrameScores:
    """Pairs whose truth follows slope · logit + offset."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(1, 3, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(slope * logits + offset)))
    return FrameScores(1 / (1 + np.exp(-logits)), right, np.arange(count) % 40, missed=7)


def test_the_fit_finds_the_map_that_made_the_data_and_is_scikit_learns():
    found = pairs()
    calibration = fit(found)
    assert calibration.slope == pytest.approx(0.5, abs=0.05) and calibration.offset == pytest.approx(-3, abs=0.15)
    reference = LogisticRegression(C=np.inf).fit(found.logits[:, None], found.right)
    assert calibration.slope == pytest.approx(float(reference.coef_[0, 0]), abs=5e-3)
    assert calibration.offset == pytest.approx(float(reference.intercept_[0]), abs=5e-3)


def test_separable_scores_keep_a_finite_map():
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.95, 0.99])
    calibration = fit(FrameScores(scores, scores > 0.5, np.arange(6), 0))
    assert np.isfinite([calibration.slope, calibration.offset]).all() and 0 < calibration.slope < 100


def test_scores_that_mislead_are_refused():
    with pytest.raises(DataError, match="not right more often"):
        fit(pairs(slope=-0.5, count=500))


def test_saturated_scores_do_no_harm():
    found = FrameScores(np.array([0.0, 0.0, 1.0, 1.0, 1.0]), np.array([0, 0, 1, 1, 0], bool), np.arange(5), 0)
    assert np.isfinite(fit(found).apply(found.logits)).all()


def test_held_out_scores_are_calibrated_and_raw_ones_are_not():
    found = pairs()
    assert measure(found).error > 0.3
    assert measure(held_out(found)).error < 0.02


def test_a_pair_is_scored_by_a_map_that_has_not_seen_its_query():
    found = pairs(count=400)
    changed = FrameScores(found.scores, np.where(found.query % 5 == 0, ~found.right, found.right), found.query, 0)
    own = found.query % 5 == 0
    assert np.array_equal(held_out(found).scores[own], held_out(changed).scores[own])
    assert not np.array_equal(held_out(found).scores[~own], held_out(changed).scores[~own])


def test_another_prior_is_the_fit_to_a_set_with_that_share():
    """Dropping right pairs at random changes the prior and nothing else."""
    found = pairs(count=200_000)
    kept = ~found.right | (np.random.default_rng(1).random(len(found.right)) < 0.1)
    rare = FrameScores(found.scores[kept], found.right[kept], found.query[kept], 0)
    share = float(rare.right.mean())
    moved, own = fit(found, share), fit(rare)
    assert (moved.slope, moved.offset) == pytest.approx((own.slope, own.offset), abs=0.05)
    assert measure(held_out(rare, 0.4), 0.4).error < 0.02
    as_if, real = measure(found, share), measure(rare)
    assert (as_if.brier, as_if.precision) == pytest.approx((real.brier, real.precision), abs=0.01)


def test_sets_count_alike_whatever_their_size():
    small, large = pairs(0.5, -1.0, 2_000), pairs(0.5, -5.0, 40_000, seed=1)
    both = join([small, large])
    weights = both.weights(0.1)
    assert weights.mean() == pytest.approx(1)
    for number in (0, 1):
        mine = both.sets == number
        assert weights[mine].sum() == pytest.approx(len(weights) / 2)
        assert weights[mine & both.right].sum() == pytest.approx(0.1 * len(weights) / 2)
        assert both.query[mine].min() == (0, 40)[number]
    again = np.concatenate([np.tile(np.arange(2_000), 20), 2_000 + np.arange(40_000)])
    repeated = FrameScores(both.scores[again], both.right[again], both.query[again], 0)
    sizes_alike = replace(repeated, sets=both.sets[again])
    assert astuple(fit(both, 0.1)) == pytest.approx(astuple(fit(sizes_alike, 0.1)), abs=5e-3)
    offsets = [fit(own, 0.1).offset for own in (small, large)]
    assert offsets[1] < fit(both, 0.1).offset < offsets[0]
    assert both.missed == 14 and both.weights(None)[both.sets == 1].sum() == pytest.approx(len(weights) / 2)


def test_what_was_joined_comes_apart_with_new_scores():
    sets = [pairs(count=500), pairs(count=900, seed=1)]
    unseen = held_out(join(sets))
    first, second = apart(unseen, sets)
    assert np.array_equal(np.concatenate([first.scores, second.scores]), unseen.scores)
    assert np.array_equal(second.right, sets[1].right) and second.missed == 7 and second.sets is None


def test_a_set_in_which_nothing_is_right_is_refused():
    hopeless = replace(pairs(count=50), right=np.zeros(50, bool))
    with pytest.raises(NothingToTellApartError, match="50 with 0 right"):
        hopeless.weights(0.1)
    found = pairs(count=50)
    with pytest.raises(DataError, match="too few queries to hold some out"):
        held_out(replace(found, right=found.scores == found.scores.max()), 0.1)


def test_every_set_needs_queries_to_hold_out():
    one, many = replace(pairs(count=50), query=np.zeros(50, np.int64)), pairs(count=500)
    for found in (join([one]), join([many, one])):
        with pytest.raises(DataError, match="too few queries to hold some out"):
            held_out(found, 0.1)


def test_reliability_by_hand():
    found = FrameScores(np.array([0.05, 0.15, 0.15, 0.85, 1.0]), np.array([0, 0, 1, 1, 1], bool), np.arange(5), 1)
    measured = measure(found)
    assert [(b.low, b.count, round(b.mean, 3), round(b.right, 3)) for b in measured.bins] == [
        (0.0, 1, 0.05, 0), (0.1, 2, 0.15, 0.5), (0.8, 1, 0.85, 1), (0.9, 1, 1.0, 1),
    ]  # fmt: skip
    assert measured.error == pytest.approx((0.05 + 2 * 0.35 + 0.15 + 0) / 5)
    assert measured.precision == 1.0 and measured.recall == pytest.approx(2 / 4)
    assert measured.with_person == 4 and measured.pairs == 5
    nobody = measure(FrameScores(np.array([0.1, 0.2]), np.array([False, True]), np.arange(2), 0))
    assert nobody.precision is None and nobody.recall == 0


def ranked(*detections: tuple[str, float, bool]) -> tuple[RankedDetection, ...]:
    return tuple(RankedDetection(frame, (0, 0, 1, 1), score, right) for frame, score, right in detections)


def test_a_frame_counts_by_its_best_detection():
    first = ranked(("a", 0.9, False), ("b", 0.8, True), ("a", 0.7, True), ("c", 0.1, False))
    queries = [
        QueryScore("q1", 0.5, {}, count_gt=2, count_tp=2, detections=4, ranking=first),
        QueryScore("q2", 0.0, {}, count_gt=1, count_tp=0, detections=0, ranking=()),
    ]
    found = collect(queries)
    assert found.scores.tolist() == [0.9, 0.8, 0.1] and found.right.tolist() == [False, True, False]
    assert found.query.tolist() == [0, 0, 0] and found.missed == 2
    with pytest.raises(DataError, match="some show the person and some do not"):
        collect(queries[1:])


@torch.no_grad()
def test_qsimnet_takes_the_map_into_its_weights():
    torch.manual_seed(0)
    net = randomise(QSimNet(16), 0).eval()
    query, gallery = torch.randn(1, 16), torch.randn(30, 16)
    before = net(query, gallery)
    calibration = Calibration(0.4, -2.5)
    net.calibrate(calibration.slope, calibration.offset)
    expected = calibration.apply((before[:, 1] - before[:, 0]).double().numpy())
    np.testing.assert_allclose(net.score(query, gallery).numpy(), expected, rtol=1e-4, atol=1e-6)
    logits = net.closed_form().logits(query, gallery)[0]
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), expected, rtol=1e-4, atol=1e-6)
