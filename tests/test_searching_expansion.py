"""Scores of which half comes by way of the best match: their formula, and that rankings by them leave nobody out."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_samples import COUNTS, DIM, all_scored, digest, fill, form_of, frames, units

from qeeps_cli.cache.store import Cache
from qeeps_cli.distributed.scoring import shares
from qeeps_cli.gallery import FrameList
from qeeps_cli.searching import scoring
from qeeps_cli.searching.expansion import ExpandedScorer, best_row
from qeeps_cli.searching.ranking import Ranking
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, Scorer
from qeeps_cli.types import Query

FORMS = ["qsimnet", "cosine"]


def expanded(queries: np.ndarray, form, witnesses) -> ExpandedScorer:
    return ExpandedScorer(Scorer(queries, form), form, list(witnesses))


def near(vector: np.ndarray, count: int, spread: float, seed: int = 0) -> np.ndarray:
    """(count, D) float16 unit vectors around one."""
    rows = vector + spread * units(count, seed, dim=vector.shape[-1])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("kind", FORMS)
def test_half_is_the_querys_own_and_half_the_witnesses(kind):
    queries, gallery, form = units(3, 1), units(400, 3).astype(np.float16), form_of(kind)
    witnesses = np.concatenate([near(query, 1, 0.7) for query in queries])
    own, other = Scorer(queries, form), Scorer(witnesses, form)
    scorer = expanded(queries, form, witnesses)
    for query in range(3):
        believed = own.scores(query, witnesses[query][None])[0]
        assert 0 < believed < 1
        wanted = (own.scores(query, gallery) + believed * other.scores(query, gallery)) / 2
        assert scorer.scores(query, gallery) == pytest.approx(wanted, abs=1e-6)
        assert scorer.scores(query, gallery).dtype == np.float32


def test_nobody_scores_higher_than_the_best_match_did():
    query, gallery, form = units(1, 1), units(400, 3).astype(np.float16), form_of("qsimnet")
    plain = Scorer(query, form).scores(0, gallery)
    best = best_row(plain)
    scores = expanded(query, form, [gallery[best]]).scores(0, gallery)
    assert scores.max() <= plain[best] and scores.argmax() == best
    assert not np.array_equal(np.argsort(scores), np.argsort(plain))


@pytest.mark.parametrize("kind", FORMS)
def test_without_a_witness_scores_are_as_they_were(kind):
    queries, gallery, form = units(2, 1), units(400, 3).astype(np.float16), form_of(kind)
    scorer = expanded(queries, form, [None, near(queries[1], 1, 0.7)[0]])
    plain = Scorer(queries, form)
    assert np.array_equal(scorer.scores(0, gallery), plain.scores(0, gallery))
    assert not np.array_equal(scorer.scores(1, gallery), plain.scores(1, gallery))


def test_a_witness_that_is_unlike_the_query_is_not_asked():
    """Cosines below 0, which would turn what is like it into what is unlike it."""
    query, gallery = units(1, 1), units(400, 3).astype(np.float16)
    plain = Scorer(query, None).scores(0, gallery)
    scorer = expanded(query, None, [gallery[plain.argmin()]])
    assert plain.min() < 0 and np.array_equal(scorer.scores(0, gallery), plain)


def test_the_querys_own_picture_may_score_higher_than_the_best_match():
    query, form = units(1, 1), (np.full(DIM, -8.0, np.float32), 4.0)
    gallery = np.concatenate([query, units(50, 3)]).astype(np.float16)
    plain = Scorer(query, form).scores(0, gallery)
    best = 1 + plain[1:].argmax()
    scores = expanded(query, form, [gallery[best]]).scores(0, gallery)
    assert scores[0] > plain[best] and scores[1:].max() <= plain[best]


def test_the_best_row():
    assert best_row(np.array([0.1, 0.9, 0.9])) == 1
    assert best_row(np.array([-np.inf, -np.inf])) is None and best_row(np.zeros(0)) is None


@pytest.mark.parametrize("kind", FORMS)
def test_a_score_depends_on_nothing_but_its_row(kind):
    gallery, form = units(3_000, 2).astype(np.float16), form_of(kind)
    scorer = expanded(units(1, 1), form, [gallery[7]])
    whole = scorer.scores(0, gallery)
    for cut in (1, 5, 1_024, 2_999):
        parts = [scorer.scores(0, part) for part in (gallery[:cut], gallery[cut:])]
        assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("halves", [True, False])
def test_the_product_is_off_by_less_than_it_says(kind, halves, monkeypatch):
    monkeypatch.setattr(scoring, "_multiplies_halves", lambda: halves)
    form, gallery = form_of(kind, dim=256), units(5_000, 2, dim=256).astype(np.float16)
    scorer = expanded(units(2, 1, dim=256), form, [gallery[3], None])
    own = None if form is None else scoring.own_terms(form[0], gallery)
    rough = scorer.approximate(gallery, own)
    for query in range(2):
        error = np.abs(rough[query] - scorer.scores(query, gallery)).max()
        assert 0 < error < scorer.error[query] < 0.2


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("slope", ["steep", "flat"])
@pytest.mark.parametrize("asked", [True, False])
def test_whoever_may_be_among_the_best_is_a_candidate(kind, slope, asked, monkeypatch):
    """The product errs as much as it may, against those who belong to the best and for all others. Their scores are so
    close that it could tell nobody apart, near 1/2 or near 0."""
    query, form = units(1, 1), form_of(kind)
    gallery = near(query[0] if slope == "steep" else -query[0], 300, 0.02)
    if kind == "qsimnet":  # with an offset, so that they score about 1/2, or a thousandth
        form = form[0], form[1] - Scorer(query, form).logits(0, gallery).mean() - (0 if slope == "steep" else 7)
    scorer = expanded(query, form, [near(query[0], 1, 0.01)[0] if asked else None])
    scores, both = scorer.scores(0, gallery), scorer._both
    logits = np.stack([both.logits(i, gallery) for i in range(2)])
    for kept in (1, 5, 100):
        lowest = np.sort(scores)[-kept]
        against = np.where(scores >= lowest, -both.error[:, None], both.error[:, None])
        monkeypatch.setattr(both, "approximate", lambda embeddings, own, off=against: logits + off)
        rough = scorer.approximate(gallery, None)[0]
        assert np.abs(rough - scores).max() <= scorer.error[0]
        chosen = rough >= scorer.lowest_candidate(0, np.partition(rough, -kept)[-kept])
        assert chosen[scores >= lowest].all()
        if slope == "steep":  # there the bound is as tight as it can be
            assert np.abs(rough - scores).max() > 0.9 * scorer.error[0]


def test_of_small_scores_few_are_candidates():
    """Most people of a gallery score next to nothing, and are off by next to nothing."""
    query, form = units(1, 1, dim=256), (np.full(256, -8.0, np.float32), 4.0)
    gallery = units(5_000, 3, dim=256).astype(np.float16)
    scorer = expanded(query, form, [near(query[0], 1, 0.5)[0]])
    rough = scorer.approximate(gallery, scoring.own_terms(form[0], gallery))[0]
    best = np.partition(rough, -100)[-100]
    assert best < 0.1 and 100 <= (rough >= scorer.lowest_candidate(0, best)).sum() < 200


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_weights_choose_the_same_as_all_scores(seed):
    rng = np.random.default_rng(seed)
    form = (rng.normal(0, 10 ** rng.uniform(-2, 2), DIM).astype(np.float32), float(rng.normal(0, 5)))
    gallery = units(400, seed % 1000).astype(np.float16)
    scorer = expanded(units(1, seed % 1000 + 1), form, [gallery[rng.integers(400)]])
    scores = scorer.scores(0, gallery)
    rough = scorer.approximate(gallery, scoring.own_terms(form[0], gallery))[0]
    for kept in (1, 10, 100):
        chosen = rough >= scorer.lowest_candidate(0, np.partition(rough, -kept)[-kept])
        assert chosen[scores >= np.partition(scores, -kept)[-kept]].all()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"min_score": 0.2}])
def test_rankings_hold_who_scores_best_also_in_shares(kind, options, tmp_path, monkeypatch):
    """Against all scores, sorted; and as workers on other machines rank their segments."""
    monkeypatch.setattr("qeeps_cli.cache.blocks.BLOCK_DETECTIONS", 16)
    found, queries, form = frames(COUNTS), units(2, seed=999), form_of(kind)
    fill(tmp_path / "c", found, 3)
    scorer = expanded(queries, form, [found[6].embeddings[5].astype(np.float16), None])
    digests, places = [digest(i) for i in range(len(COUNTS))], np.arange(len(COUNTS))
    names = FrameList(Path("gallery"), [f"{i}.jpg" for i in range(len(COUNTS))])
    wanted = np.ones((2, len(COUNTS)), bool)
    with Cache(tmp_path / "c", warn=pytest.fail) as cache:
        whole, merged = (
            [Ranking(Query(Path("q"), None, "q"), names, SearchOptions(**options)) for _ in queries] for _ in range(2)
        )
        CachedGallery(cache.frames({}), digests, form).rank(scorer, whole, places, wanted)
        for share in shares(cache, {}, digests, form, 2):
            share = pickle.loads(pickle.dumps(share))
            for ranking, rows in zip(merged, share.rank(scorer, SearchOptions(**options), places, wanted), strict=True):
                ranking.add(rows)
    for query, (one, other) in enumerate(zip(whole, merged, strict=True)):
        one.searched = other.searched = len(COUNTS)
        score = partial(scorer.scores, query)
        expected = all_scored(found, score, options.get("min_score", -9))[: options.get("top_k")]
        matches = one.result().matches
        assert [(-m.score, int(m.frame.name.removesuffix(".jpg")), m.box) for m in matches] == expected
        assert other.result().matches == matches
