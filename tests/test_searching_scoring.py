"""Scores of cached people: the network's own, whatever the cuts of the cache, with bounded memory."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_samples import COUNTS, DIM, all_scored, digest, fill, form_of, frames, qsimnet, units

from qeeps_cli.cache.store import Cache, FrameStore
from qeeps_cli.distributed.scoring import shares
from qeeps_cli.gallery import FrameList
from qeeps_cli.searching import scoring
from qeeps_cli.searching.ranking import Ranking
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, Scorer, best_of_frames, rank_cached
from qeeps_cli.types import Match, Query

FORMS = ["qsimnet", "cosine"]


def test_no_embeddings_have_no_scores():
    scorer = Scorer(units(1), form_of("qsimnet"))
    assert scorer.scores(0, np.zeros((0, DIM), np.float16)).shape == (0,)


def test_no_embeddings_have_no_own_terms():
    assert scoring.own_terms(form_of("qsimnet")[0], np.zeros((0, DIM), np.float16)).shape == (0,)


@pytest.mark.parametrize("count", [1, 4_096, 4_097, 9_000])
def test_own_terms_are_weighted_squares(count):
    weights, gallery = form_of("qsimnet")[0], units(count).astype(np.float16)
    expected = gallery.astype(np.float64) ** 2 @ weights.astype(np.float64)
    np.testing.assert_allclose(scoring.own_terms(weights, gallery), expected, rtol=1e-5)


def test_scores_are_qsimnets():
    network, queries, gallery = qsimnet(), units(3, 1), units(500, 2).astype(np.float16)
    scorer = Scorer(queries, form_of("qsimnet"))
    for number, query in enumerate(queries):
        expected = network.score(torch.from_numpy(query[None]), torch.from_numpy(gallery).float()).detach().numpy()
        scores = scorer.scores(number, gallery)
        assert scores.dtype == np.float32 and np.ptp(scores) > 0.5
        np.testing.assert_allclose(scores, expected, atol=2e-6)


def test_without_qsimnet_scores_are_cosines():
    queries, gallery = units(2, 1), units(50, 2).astype(np.float16)
    expected = gallery.astype(np.float64) @ queries[1].astype(np.float64)
    np.testing.assert_allclose(Scorer(queries, None).scores(1, gallery), expected, atol=1e-7)


@pytest.mark.parametrize("kind", FORMS)
def test_a_score_depends_on_nothing_but_its_row(kind):
    scorer, gallery = Scorer(units(1, 1), form_of(kind)), units(3_000, 2).astype(np.float16)
    whole = scorer.scores(0, gallery)
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7, 8, 9, 1023, 1024, 1025):
        at = np.sort(rng.choice(len(gallery), size, replace=False))
        assert (scorer.scores(0, gallery[at]) == whole[at]).all()
    for cut in (1, 5, 1500, 2999):
        parts = [scorer.scores(0, part) for part in (gallery[:cut], gallery[cut:])]
        assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("queries", [1, 3, 5])
@pytest.mark.parametrize("halves", [True, False])
def test_the_product_is_off_by_less_than_it_says(kind, queries, halves, monkeypatch):
    monkeypatch.setattr(scoring, "_multiplies_halves", lambda: halves)
    form, gallery = form_of(kind, dim=256), units(5_000, 2, dim=256).astype(np.float16)
    scorer = Scorer(units(queries, 1, dim=256), form)
    own = None if form is None else scoring.own_terms(form[0], gallery)
    rough = scorer.approximate(gallery, own)
    for query in range(queries):
        error = np.abs(rough[query] - scorer.logits(query, gallery)).max()
        assert 0 < error < scorer.error[query] < 0.2


def test_this_pytorch_multiplies_halves_or_does_without():
    assert scoring._multiplies_halves() in (True, False)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(0, 40), st.sampled_from(FORMS))
def test_what_ties_is_a_candidate(logit, below, kind):
    """Of float32 scores that are equal, box and place decide: so nothing that ties may fall out before."""
    scorer = Scorer(units(1), form_of(kind))
    score, other = (np.float32(scorer.to_scores(np.array([x]))[0]) for x in (logit, logit - below))
    if score == other:
        assert logit - below >= scorer.lowest_candidate(0, logit)
    if kind == "qsimnet" and -20 < logit < 10:
        assert scorer.to_logit(float(score)) == pytest.approx(logit, abs=1e-2)


# Whole galleries


def rank(store: FrameStore, count: int, queries: np.ndarray, form, left_out=(), **options) -> list[list[Match]]:
    names = FrameList(Path("gallery"), [f"{i}.jpg" for i in range(count)])
    rankings = [Ranking(Query(Path("q"), None, "q"), names, SearchOptions(**options)) for _ in queries]
    wanted = np.ones((len(queries), count), bool)
    wanted[:, list(left_out)] = False
    for ranking in rankings:
        ranking.searched = count
    gallery = CachedGallery(store, [digest(i) for i in range(count)], form)
    for _ in range(2):  # the second pass uses what the first one kept
        best = best_of_frames(gallery, Scorer(queries, form))
    rank_cached(gallery, Scorer(queries, form), rankings, np.arange(count), wanted)
    results = [ranking.result().matches for ranking in rankings]
    for one, matches in zip(best, results, strict=True):
        for match in matches:
            assert match.score <= one[int(match.frame.name.removesuffix(".jpg"))]
    return results


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """The same frames in one segment, in three, and each in its own."""
    folders = []
    for segments in (1, 3, len(COUNTS)):
        folders.append(tmp_path_factory.mktemp("cache") / "c.qeeps")
        fill(folders[-1], frames(COUNTS), segments)
    return folders


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": 20}, {"min_score": 0.3}, {"min_score": -1.0}])
def test_rankings_do_not_depend_on_how_the_cache_is_cut(kind, options, folders):
    found, queries, form = frames(COUNTS), units(2, seed=999), form_of(kind)
    scorer = Scorer(queries, form)
    rankings = []
    for folder in folders:
        with Cache(folder, warn=pytest.fail) as cache:
            rankings.append(rank(cache.frames({}), len(COUNTS), queries, form, **options))
    assert rankings[0] == rankings[1] == rankings[2]

    for query, matches in enumerate(rankings[0]):
        score = partial(scorer.scores, query)
        expected = all_scored(found, score, options.get("min_score", -9))[: options.get("top_k")]
        assert [(-m.score, int(m.frame.name.removesuffix(".jpg")), m.box) for m in matches] == expected


@pytest.mark.parametrize("kind", FORMS)
def test_of_many_people_the_best_are_found(kind, folders, monkeypatch):
    """More than are listed, so that the product has to choose."""
    queries, form = units(5, seed=999), form_of(kind)
    with Cache(folders[1], warn=pytest.fail) as cache:
        everything = rank(cache.frames({}), len(COUNTS), queries, form)
        monkeypatch.setattr("qeeps_cli.searching.ranking.LISTED", 10)
        some = rank(cache.frames({}), len(COUNTS), queries, form)
    for matches, kept in zip(everything, some, strict=True):
        best = {match.frame: match.rank for match in reversed(matches)}
        expected = [match for match in matches if match.rank <= 10 or match.rank == best[match.frame]]
        assert [(m.frame, m.box, m.score) for m in kept] == [(m.frame, m.box, m.score) for m in expected]
        assert len(kept) < len(matches)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("top_k", [None, 3])
def test_small_blocks_choose_the_same(kind, top_k, folders, monkeypatch):
    """Of the later blocks only those count that score more than the lowest of the ranking so far."""
    queries, form, rankings = units(3, seed=999), form_of(kind), []
    for size in (65_536, 8):
        monkeypatch.setattr("qeeps_cli.cache.blocks.BLOCK_DETECTIONS", size)
        monkeypatch.setattr("qeeps_cli.searching.ranking.LISTED", 4)
        with Cache(folders[0], warn=pytest.fail) as cache:
            rankings.append(rank(cache.frames({}), len(COUNTS), queries, form, top_k=top_k))
    assert rankings[0] == rankings[1]


def test_once_the_ranking_is_full_hardly_anybody_is_scored_again(tmp_path, monkeypatch):
    monkeypatch.setattr("qeeps_cli.cache.blocks.BLOCK_DETECTIONS", 2_000)
    queries, form, scored = units(1, seed=999), form_of("qsimnet"), []
    fill(tmp_path / "c", frames([20] * 1_000), 1)
    logits = Scorer.logits
    monkeypatch.setattr(Scorer, "logits", lambda *given: scored.append(len(given[2])) or logits(*given))
    digests = [digest(i) for i in range(1_000)]
    with Cache(tmp_path / "c", warn=pytest.fail) as cache:
        ranking = Ranking(Query(Path("q"), None, "q"), digests, SearchOptions(top_k=10))
        rank_cached(
            CachedGallery(cache.frames({}), digests, form), Scorer(queries, form), [ranking],
            np.arange(1_000), np.ones((1, 1_000), bool),
        )  # fmt: skip
    assert len(scored) >= 10 and 10 <= sum(scored) < 200  # of 20,000


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"min_score": 0.3}])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_shares_of_the_segments_merge_into_the_whole_ranking(kind, options, count, folders, monkeypatch):
    """As workers on other machines score them."""
    monkeypatch.setattr("qeeps_cli.searching.ranking.LISTED", 5)
    queries, form = units(3, seed=999), form_of(kind)
    digests, scorer = [digest(i) for i in range(len(COUNTS))], Scorer(queries, form)
    places, wanted = np.arange(len(COUNTS)), np.ones((3, len(COUNTS)), bool)
    wanted[1, 4] = False
    with Cache(folders[1], warn=pytest.fail) as cache:
        whole, merged = ([empty_ranking(options) for _ in queries] for _ in range(2))
        gallery = CachedGallery(cache.frames({}), digests, form)
        gallery.rank(scorer, whole, places, wanted)
        best = np.zeros((3, len(COUNTS)), np.float32)
        for share in shares(cache, {}, digests, form, count):
            share = pickle.loads(pickle.dumps(share))
            best[:, share.numbers] = share.best(scorer)
            for ranking, rows in zip(merged, share.rank(scorer, SearchOptions(**options), places, wanted), strict=True):
                ranking.add(rows)
        assert np.array_equal(best, gallery.best(scorer))
    assert [ranking.result() for ranking in merged] == [ranking.result() for ranking in whole]


def empty_ranking(options: dict) -> Ranking:
    names = FrameList(Path("gallery"), [f"{i}.jpg" for i in range(len(COUNTS))])
    ranking = Ranking(Query(Path("q"), None, "q"), names, SearchOptions(**options))
    ranking.searched = len(COUNTS)
    return ranking


def test_frames_can_be_left_out(folders):
    queries = units(1, seed=999)
    with Cache(folders[0], warn=pytest.fail) as cache:
        store = cache.frames({})
        (everything,) = rank(store, len(COUNTS), queries, None)
        (some,) = rank(store, len(COUNTS), queries, None, left_out=[6, 4])
    names = {"6.jpg", "4.jpg"}
    assert [m.box for m in some] == [m.box for m in everything if m.frame.name not in names]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_weights_choose_the_same_as_all_scores(seed):
    """The product with random weights, saturated scores included, against scores of every row."""
    rng = np.random.default_rng(seed)
    form = (rng.normal(0, 10 ** rng.uniform(-2, 2), DIM).astype(np.float32), float(rng.normal(0, 5)))
    gallery, query = units(400, seed % 1000).astype(np.float16), units(1, seed % 1000 + 1)
    scorer = Scorer(query, form)
    scores = scorer.scores(0, gallery)
    rough = scorer.approximate(gallery, scoring.own_terms(form[0], gallery))[0]
    for kept in (1, 10, 100):
        chosen = rough >= scorer.lowest_candidate(0, np.partition(rough, -kept)[-kept])
        threshold = np.partition(scores, -kept)[-kept]
        assert chosen[scores >= threshold].all()
