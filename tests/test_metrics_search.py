"""The search metric against an independent implementation and the protocol's golden values."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from qeeps_cli.errors import NotANumberError
from qeeps_cli.evaluation.metrics import (
    QueryEvaluator,
    SearchScore,
    average_precision,
    find_match,
    match_threshold,
)

BOX = (100.0, 100.0, 140.0, 200.0)
ELSEWHERE = (400.0, 100.0, 440.0, 200.0)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([], [], 0.0),
        ([0, 0], [0.5, 0.4], 0.0),
        ([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6], 0.8333),
        ([1, 0, 0], [0.9, 0.9, 0.1], 0.5),
        ([0, 1, 0], [0.9, 0.9, 0.1], 0.5),
        ([1], [0.0], 1.0),
    ],
)
def test_average_precision_golden(labels, scores, expected):
    assert average_precision(np.array(labels), np.array(scores)) == pytest.approx(expected, abs=5e-5)


def test_average_precision_equals_scikit_learn():
    rng = np.random.default_rng(1)
    for _ in range(600):
        size = rng.integers(1, 40)
        labels = rng.random(size) < rng.choice([0.05, 0.5, 0.95])
        scores = rng.integers(0, rng.choice([2, 5, 1000]), size) / 7.0  # few distinct values: many ties
        if labels.any():
            assert average_precision(labels, scores) == pytest.approx(
                average_precision_score(labels, scores), abs=1e-12
            )


@pytest.mark.parametrize(("w", "h", "expected"), [(10, 20, 0.3333), (24, 24, 0.49827), (30, 30, 0.5), (90, 200, 0.5)])
def test_match_threshold_golden(w, h, expected):
    assert match_threshold((5, 7, 5 + w, 7 + h)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        ([], [], None),
        ([ELSEWHERE], [0.9], None),
        ([ELSEWHERE, BOX], [0.9, 0.1], 1),
        ([BOX, (102.0, 100.0, 142.0, 200.0)], [0.3, 0.6], 1),
        ([BOX, BOX], [0.5, 0.5], 0),
    ],
)
def test_the_best_scored_overlapping_detection_matches(boxes, scores, expected):
    assert find_match(BOX, np.array(boxes).reshape(-1, 4), np.array(scores)) == expected


def test_iou_is_continuous_and_the_threshold_is_inclusive():
    person = (0.0, 0.0, 30.0, 30.0)  # threshold 0.5
    assert find_match(person, np.array([[0.0, 0.0, 30.0, 15.0]]), np.array([1.0])) == 0
    assert find_match(person, np.array([[0.0, 0.0, 30.0, 14.9]]), np.array([1.0])) is None


def plain_reference(frames):
    """One query's AP and top-k in plain Python loops with scikit-learn, written from the protocol's text."""
    labels, scores, count_gt, count_tp = [], [], 0, 0
    for truth, boxes, frame_scores in frames:
        frame_labels = [0] * len(boxes)
        if truth is not None:
            count_gt += 1
            w, h = truth[2] - truth[0], truth[3] - truth[1]
            threshold = min(0.5, w * h / ((w + 10) * (h + 10)))
            for j in sorted(range(len(boxes)), key=lambda j: -frame_scores[j]):
                b = boxes[j]
                dx = max(0, min(b[2], truth[2]) - max(b[0], truth[0]))
                dy = max(0, min(b[3], truth[3]) - max(b[1], truth[1]))
                union = w * h + (b[2] - b[0]) * (b[3] - b[1]) - dx * dy
                if dx * dy / union >= threshold:
                    frame_labels[j] = 1
                    count_tp += 1
                    break
        labels += frame_labels
        scores += list(frame_scores)
    ap = average_precision_score(labels, scores) * count_tp / count_gt if count_tp else 0.0
    ranked = [label for _, label in sorted(zip(scores, labels, strict=True), key=lambda pair: -pair[0])]
    return ap, [any(ranked[:k]) for k in (1, 5, 10)], count_gt, count_tp


def random_frame(rng):
    """A frame with or without the person, with several, one or no detections on it, and ties in score."""
    truth = None
    boxes = rng.uniform(0, 300, (rng.integers(0, 5), 4))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(4, 120, (len(boxes), 2))
    if rng.random() < 0.6:
        w, h = rng.uniform(6, 60, 2)
        x, y = rng.uniform(0, 300, 2)
        truth = (x, y, x + w, y + h)
        near = np.array(truth) + rng.normal(0, 0.12, (rng.integers(0, 4), 4)) * [w, h, w, h]
        boxes = np.concatenate([boxes, near])
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return truth, rng.permutation(boxes), rng.integers(0, 12, len(boxes)) / 11.0


def test_query_score_equals_the_plain_reference_on_random_galleries():
    rng = np.random.default_rng(2)
    found_nobody = several = 0
    for _ in range(500):
        frames = [random_frame(rng) for _ in range(rng.integers(1, 7))]
        evaluator = QueryEvaluator()
        for truth, boxes, scores in frames:
            evaluator.add_frame(truth, boxes, scores)
        score = evaluator.result()
        ap, hits, count_gt, count_tp = plain_reference(frames)
        assert score.ap == pytest.approx(ap, abs=1e-12)
        assert [score.hits[k] for k in (1, 5, 10)] == hits
        assert (score.count_gt, score.count_tp) == (count_gt, count_tp)
        found_nobody += count_gt > 0 and count_tp == 0
        several += count_tp > 1
    assert found_nobody > 5 and several > 50  # the cases do occur


def test_missed_frames_scale_the_average_precision():
    evaluator = QueryEvaluator("q")
    evaluator.add_frame(BOX, [BOX, ELSEWHERE], [0.9, 0.8])
    evaluator.add_frame(BOX, [BOX, ELSEWHERE], [0.7, 0.6])
    assert evaluator.result().ap == pytest.approx(0.8333, abs=5e-5)
    evaluator.add_frame(BOX, [], [])
    score = evaluator.result()
    assert score.ap == pytest.approx(0.5556, abs=5e-5)
    assert (score.count_gt, score.count_tp, score.detections) == (3, 2, 4)


def test_a_second_detection_on_the_person_is_wrong():
    evaluator = QueryEvaluator()
    evaluator.add_frame(BOX, [BOX, BOX], [0.9, 0.8])
    evaluator.add_frame(BOX, [BOX], [0.7])
    assert evaluator.result().ap == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_rank_in_gallery_order_whatever_order_frames_come_in():
    for positions in ((0, 1), (1, 0)):
        evaluator = QueryEvaluator(keep=2)
        evaluator.add_frame(None, [ELSEWHERE], [0.5], frame="without", position=positions[0])
        evaluator.add_frame(BOX, [BOX], [0.5], frame="with", position=positions[1])
        score = evaluator.result()
        assert score.hits[1] == (positions[1] == 0)
        assert score.ap == 0.5
        assert [ranked.frame for ranked in score.ranking] == (
            ["without", "with"] if positions == (0, 1) else ["with", "without"]
        )


def test_ranking_holds_the_best_detections_with_frames_and_boxes():
    evaluator = QueryEvaluator(keep=3)
    evaluator.add_frame(None, [], [], frame="empty")
    evaluator.add_frame(None, [ELSEWHERE, BOX], [0.2, 0.6], frame="a")
    evaluator.add_frame(BOX, [ELSEWHERE, BOX], [0.4, 0.8], frame="b")
    ranking = evaluator.result().ranking
    assert [(r.frame, r.box, r.score, r.correct) for r in ranking] == [
        ("b", BOX, 0.8, True),
        ("a", BOX, 0.6, False),
        ("b", ELSEWHERE, 0.4, False),
    ]


def test_a_score_that_is_not_a_number_is_refused():
    evaluator = QueryEvaluator("the query")
    evaluator.add_frame(None, [BOX], [float("nan")])
    with pytest.raises(NotANumberError, match="the query"):
        evaluator.result()


def test_nothing_at_all_scores_zero():
    assert SearchScore(()).to_json()["mAP"] == 0.0
    score = SearchScore((QueryEvaluator("lost").result(),))
    assert score.mean_ap == 0.0 and score.top(1) == 0.0 and score.max_recall is None
    assert any("lost" in warning and "score 0" in warning for warning in score.warnings)


def test_max_recall_counts_frames_whose_person_a_proposal_covers():
    evaluator = QueryEvaluator("q")
    evaluator.add_frame(BOX, [], [], proposals=np.array([ELSEWHERE, BOX]))
    evaluator.add_frame(BOX, [], [], proposals=np.array([ELSEWHERE]))
    evaluator.add_frame(BOX, [], [], proposals=np.empty((0, 4)))
    evaluator.add_frame(None, [], [], proposals=np.array([BOX]))
    score = SearchScore((evaluator.result(),))
    assert score.max_recall == pytest.approx(1 / 3)
    assert score.to_json()["max_recall"] == pytest.approx(1 / 3)


def test_means_over_queries():
    def one(found):
        evaluator = QueryEvaluator("q")
        evaluator.add_frame(BOX, [BOX, ELSEWHERE], [0.9, 0.1] if found else [0.1, 0.9])
        return evaluator.result()

    summary = SearchScore((one(True), one(False))).to_json()
    assert summary["mAP"] == pytest.approx(0.75)
    assert (summary["top1"], summary["top5"], summary["queries"]) == (0.5, 1.0, 2)
