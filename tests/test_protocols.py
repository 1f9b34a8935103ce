"""Running a search over a benchmark's queries."""

from pathlib import Path

import numpy as np
import pytest

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.metrics import SearchScore
from qeeps_cli.evaluation.protocols import (
    DetectionTable,
    FrameAnswer,
    QueryScorer,
    limit,
    score_queries,
    score_query,
    score_table,
)
from qeeps_cli.types import LabelledFrame, LabelledQuery


def make_frame(name, people):
    """people: (id, x) pairs; everybody is 40 pixels wide and 100 high."""
    return LabelledFrame(
        path=Path(name),
        name=name,
        boxes=np.array([[x, 0, x + 40, 100] for _, x in people], np.float32).reshape(-1, 4),
        person_ids=np.array([person for person, _ in people], np.int64),
        ignore=np.zeros(len(people), bool),
    )


def make_query(frames, person_id, own, truth=None, gallery=None):
    gallery = gallery or tuple(frame.name for frame in frames if frame.name != own)
    return LabelledQuery(f"{person_id}@{own}", Path(own), (0.0, 0.0, 40.0, 100.0), person_id, gallery, truth)


@pytest.fixture
def frames():
    frames = (
        make_frame("a", [(1, 0), (2, 200)]),
        make_frame("b", [(1, 50), (-1, 300)]),
        make_frame("c", []),
        make_frame("d", [(2, 0), (1, 400), (1, 500)]),
    )
    return FrameSet("toy", frames, (make_query(frames, 1, "a"), make_query(frames, 2, "a"), make_query(frames, 7, "a")))


def perfect_search(frames):
    def search(query):
        for name in query.gallery:
            frame = frames[name]
            yield name, frame.boxes, (frame.person_ids == query.person_id).astype(np.float32)

    return search


def test_no_queries_no_scores(frames):
    assert list(score_queries(FrameSet("none", frames.frames), perfect_search(frames))) == []


def test_a_search_that_knows_everything(frames):
    scores = list(score_queries(frames, perfect_search(frames), keep=2))
    # Person 1 stands twice in d with equal scores: one of the three best is wrong.
    assert [score.ap for score in scores] == [pytest.approx(2 / 3), 1.0, 0.0]
    assert [(r.frame, r.correct) for r in scores[0].ranking] == [("b", True), ("d", True)]


def test_a_query_without_positive_scores_zero_with_a_warning(frames):
    score = SearchScore(tuple(score_queries(frames, perfect_search(frames))))
    assert score.to_json()["queries_without_person"] == 1
    assert [warning for warning in score.warnings if "7@a" in warning]


def test_frames_without_an_answer_count_as_frames_without_detections(frames):
    query = frames.queries[0]
    answers = [a for a in perfect_search(frames)(query) if a[0] != "d"]
    score = score_query(frames, query, answers)
    assert (score.count_gt, score.count_tp, score.unanswered) == (2, 1, 1)
    assert score.ap == 0.5
    assert "1 pairs" in SearchScore((score,)).warnings[0]


@pytest.mark.parametrize("wrong", ["a", "nowhere", "b"])
def test_answers_about_other_frames_are_refused(frames, wrong):
    answers = [*perfect_search(frames)(frames.queries[0]), (wrong, [], [])]
    with pytest.raises(ValueError, match=wrong):
        score_query(frames, frames.queries[0], answers)


def test_a_frame_that_stands_twice_in_the_gallery_counts_twice(frames):
    query = make_query(frames.frames, 1, "a", gallery=("b", "b", "c"))
    score = score_query(frames, query, [("b", *perfect_answer(frames, "b")), ("c", [], [])])
    assert (score.count_gt, score.count_tp, score.detections) == (2, 2, 4)


def perfect_answer(frames, name):
    return frames[name].boxes, (frames[name].person_ids == 1).astype(np.float32)


def test_the_protocols_own_boxes_come_before_the_frames_labels(frames):
    truth = ((0, (300.0, 0.0, 340.0, 100.0)),)  # of b, where the labels say "unknown person"
    query = make_query(frames.frames, 1, "a", truth=truth)
    score = score_query(frames, query, perfect_search(frames)(query))
    assert (score.count_gt, score.count_tp) == (1, 1)
    assert not score.hits[1] and score.hits[5]


def test_proposals_give_max_recall(frames):
    query = frames.queries[0]
    answers = [FrameAnswer("b", [], [], frames["b"].boxes), FrameAnswer("d", [], [], np.empty((0, 4)))]
    assert SearchScore((score_query(frames, query, answers),)).max_recall == 0.5


def random_benchmark(rng):
    frames = tuple(
        make_frame(
            f"f{i}", [(int(person), 60 * slot) for slot, person in enumerate(rng.permutation(8)[: rng.integers(0, 5)])]
        )
        for i in range(12)
    )
    queries = []
    for person in range(8):
        names = rng.permutation([frame.name for frame in frames])[: rng.integers(1, 12)]
        gallery = tuple(str(name) for name in [*names, *names[:2]])  # two frames stand twice
        queries.append(make_query(frames, person, "elsewhere", gallery=gallery))
    return FrameSet("random", frames, tuple(queries))


def test_table_and_frame_by_frame_agree_and_order_of_answers_does_not_matter():
    rng = np.random.default_rng(4)
    for _ in range(30):
        frames = random_benchmark(rng)
        found = {
            frame.name: np.concatenate([frame.boxes, frame.boxes]) + rng.normal(0, 6, (2 * len(frame.boxes), 4))
            for frame in frames.frames[:-1]  # the last frame was never searched
        }
        table = DetectionTable.from_frames(found.items())
        for query in frames.queries:
            scores = rng.integers(0, 6, len(table.boxes)).astype(np.float32)
            per_frame = dict(zip(table.frames, np.split(scores, table.offsets[1:-1]), strict=True))
            names = [name for name in dict.fromkeys(query.gallery) if name in found]
            answers = [(name, found[name], per_frame[name]) for name in rng.permutation(names)]
            expected = score_query(frames, query, answers, keep=7)
            assert score_table(frames, query, table, scores, keep=7) == expected


def test_max_recall_is_the_same_from_a_table():
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(20):
        frames = random_benchmark(rng)
        proposals = {f.name: f.boxes + rng.normal(0, 12, f.boxes.shape) for f in frames.frames if rng.random() < 0.9}
        table = DetectionTable.from_frames((frame.name, np.empty((0, 4))) for frame in frames.frames)
        for query in frames.queries:
            names = dict.fromkeys(query.gallery)
            answers = [FrameAnswer(name, [], [], proposals.get(name)) for name in names]
            expected = score_query(frames, query, answers).count_covered
            assert score_table(frames, query, table, np.empty(0), proposals=proposals).count_covered == expected
            seen.add(expected)
    assert {None, 0, 1, 2} <= seen


def test_several_queries_may_be_open_at_a_time(frames):
    queries = frames.queries[:2]
    scorers = [QueryScorer(frames, query) for query in queries]
    assert scorers[0].wanted == {"b", "c", "d"} and scorers[0].held == {"b", "d"}
    for name in ("d", "b", "c"):
        for query, scorer in zip(queries, scorers, strict=True):
            scores = (frames[name].person_ids == query.person_id).astype(np.float32)
            scorer.add(FrameAnswer(name, frames[name].boxes, scores))
    alone = tuple(score_queries(frames, perfect_search(frames)))[:2]
    assert tuple(scorer.result() for scorer in scorers) == alone


def test_the_best_of_many_frames_are_kept_in_order():
    rng = np.random.default_rng(6)
    frames = tuple(make_frame(f"f{i}", [(1, 0), (2, 100), (3, 200)]) for i in range(300))
    query = make_query(frames, 1, "elsewhere")
    scores = {frame.name: rng.integers(0, 40, 3) / 40 for frame in frames}  # many ties
    answers = [(frames[i].name, frames[i].boxes, scores[frames[i].name]) for i in rng.permutation(300)]
    ranking = score_query(FrameSet("many", frames), query, answers, keep=50).ranking
    pool = [(-score, i, row) for i, frame in enumerate(frames) for row, score in enumerate(scores[frame.name])]
    expected = [(f"f{i}", tuple(frames[i].boxes[row]), -score) for score, i, row in sorted(pool)[:50]]
    assert [(r.frame, r.box, r.score) for r in ranking] == expected


def test_an_empty_table(frames):
    table = DetectionTable.from_frames([])
    score = score_table(frames, frames.queries[0], table, np.empty(0, np.float32), keep=3)
    assert (score.ap, score.count_gt, score.unanswered, score.ranking) == (0.0, 2, 3, ())


def test_limit_takes_first_queries_and_keeps_the_frames_with_the_person(frames):
    small = limit(frames, queries=2, gallery=2)
    assert [query.gallery for query in small.queries] == [("b", "d"), ("b", "d")]
    scores = list(score_queries(small, perfect_search(frames)))
    assert [score.count_gt for score in scores] == [2, 1]
    assert limit(frames).queries == frames.queries
    assert limit(frames, gallery=0).queries[0].gallery == ()
