"""One ranking from the people of many frames: order, what is kept, and what is told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qeeps_cli.errors import NothingToSearchError
from qeeps_cli.gallery import FrameList
from qeeps_cli.searching import ranking as ranking_module
from qeeps_cli.searching.ranking import Ranking, Rows
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.types import Detections, Match, Query

QUERY = Query(Path("q.jpg"), (80, 40, 120, 130), digest="q")
GALLERY = FrameList(Path("gallery"), ["a.jpg", "b.jpg", "c2.jpg", "c10.jpg"])

Found = tuple[int, list[float]]  # a frame and the scores of its people


def people(scores: list[float], boxes: list[tuple] | None = None) -> Detections:
    count = len(scores)
    return Detections(
        np.array(boxes or [(i, 0, i + 5, 9) for i in range(count)], np.float32).reshape(-1, 4),
        np.full(count, 0.9, np.float32),
        np.array(scores, np.float32),
        np.zeros((count, 2), np.float32),
    )


def ranked(found: list[Found], **options) -> Ranking:
    ranking = Ranking(QUERY, GALLERY, SearchOptions(**options))
    for frame, scores in found:
        assert ranking.see(frame, digest=str(frame))
        ranking.add(Rows.of(frame, people(scores)))
    return ranking


def matches(found: list[Found], **options) -> list[Match]:
    return ranked(found, **options).result().matches


def test_a_gallery_without_people_has_no_matches():
    result = ranked([(0, []), (1, [])]).result()
    assert result.matches == [] and result.frames_searched == 2 and result.notes == []


def test_matches_of_all_frames_rank_together():
    found = [(1, [0.5, 0.25]), (0, [0.75, 0.125])]
    for order in (found, found[::-1]):
        assert [(m.rank, m.frame.name, m.score) for m in matches(order)] == [
            (1, "a.jpg", 0.75),
            (2, "b.jpg", 0.5),
            (3, "b.jpg", 0.25),
            (4, "a.jpg", 0.125),
        ]


def test_ties_go_by_the_gallerys_order_then_box():
    boxes = [(9, 0, 20, 20), (8, 5, 20, 20), (8, 4, 20, 20)]
    for order in ((2, 3, 0), (3, 0, 2)):
        ranking = Ranking(QUERY, GALLERY, SearchOptions())
        for frame in order:
            ranking.see(frame, str(frame))
            ranking.add(Rows.of(frame, people([0.5] * 3, boxes) if frame == 3 else people([0.5])))
        found = ranking.result().matches
        assert [m.frame.name for m in found] == ["a.jpg", "c2.jpg", "c10.jpg", "c10.jpg", "c10.jpg"]
        assert [m.box[:2] for m in found[2:]] == [(8, 4), (8, 5), (9, 0)]


def test_top_k_and_min_score():
    found = [(0, [0.75, 0.5, 0.25, 0.125])]
    assert len(matches(found, top_k=3)) == 3
    assert [m.score for m in matches(found, min_score=0.25)] == [0.75, 0.5, 0.25]
    assert matches(found, min_score=0.9) == []


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), max_size=6), min_size=4, max_size=4),
    st.permutations(range(4)),
    st.integers(1, 30),
)
def test_top_k_is_the_beginning_of_everything(scores, order, top_k):
    found = [(frame, scores[frame]) for frame in order]
    everything = matches([(frame, scores[frame]) for frame in range(4)])
    assert len(everything) == sum(map(len, scores))
    assert matches(found, top_k=top_k) == everything[:top_k]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, width=32), max_size=6), min_size=4, max_size=4), st.permutations(range(4)))
def test_of_many_matches_each_frames_best_and_the_best_of_all_are_kept(scores, order):
    with pytest.MonkeyPatch.context() as patch:
        everything = matches(list(enumerate(scores)))
        patch.setattr(ranking_module, "LISTED", 3)
        result = ranked([(frame, scores[frame]) for frame in order]).result()
    best = {match.frame: match for match in reversed(everything)}
    expected = [match for match in everything if match.rank <= 3 or match == best[match.frame]]
    assert [(m.frame, m.box, m.score) for m in result.matches] == [(m.frame, m.box, m.score) for m in expected]
    assert any("--top-k" in note for note in result.notes) == (len(everything) >= 3)


def test_memory_does_not_grow_with_the_rows():
    gallery = FrameList(Path("gallery"), [f"{i}.jpg" for i in range(2_000)])
    ranking = Ranking(QUERY, gallery, SearchOptions(top_k=10))
    for frame in range(2_000):
        ranking.see(frame, str(frame))
        ranking.add(Rows.of(frame, people([frame / 2_000, 0.5])))
        assert sum(map(len, ranking._listed)) < 20 and not ranking._best
    assert [m.frame.name for m in ranking.result().matches][:2] == ["1999.jpg", "1998.jpg"]


def test_the_query_itself_is_flagged_or_left_out():
    def searched(**options) -> Ranking:
        ranking = Ranking(QUERY, GALLERY, SearchOptions(**options))
        for frame, digest, note in ((1, "other", "animated"), (0, "q", None)):
            if ranking.see(frame, digest, note):
                ranking.add(Rows.of(frame, people([0.5])))
        return ranking

    flagged = searched().result()
    assert flagged.frames_searched == 2 and "a.jpg is the query's own picture" in flagged.notes[0]
    assert flagged.notes[1] == "b.jpg: animated"
    without = searched(exclude_query=True).result()
    assert without.frames_searched == 1 and [m.frame.name for m in without.matches] == ["b.jpg"]


def test_nothing_searched_is_an_error_with_reasons():
    gallery = FrameList(Path("gallery"), [f"{i}.jpg" for i in range(13)])
    ranking = Ranking(QUERY, gallery, SearchOptions())
    for frame in range(12):
        ranking.skip(frame, "cut short")
    with pytest.raises(NothingToSearchError, match=r"0.jpg: cut short\n(.|\n)*and 2 more"):
        ranking.result()
    ranking.see(12, "other")
    assert len(ranking.result().skipped) == 12
    left_out = Ranking(QUERY, gallery, SearchOptions(exclude_query=True))
    assert not left_out.see(0, "q")
    with pytest.raises(NothingToSearchError, match="was left out"):
        left_out.result()
