"""Detection recall and AP."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from qeeps_cli.evaluation.detection import DetectionEvaluator

A = [0.0, 0.0, 40.0, 100.0]
A_SHIFTED = [4.0, 0.0, 44.0, 100.0]
B = [200.0, 0.0, 240.0, 100.0]
NOBODY = [500.0, 0.0, 540.0, 100.0]


def score(*frames, **options):
    evaluator = DetectionEvaluator(**options)
    for frame in frames:
        evaluator.add_frame(*frame)
    return evaluator.result()


@pytest.mark.parametrize(
    ("truth", "boxes", "scores", "recall", "ap"),
    [
        ([], [], [], 0.0, 0.0),
        ([], [NOBODY], [0.9], 0.0, 0.0),
        ([A], [], [], 0.0, 0.0),
        ([A, B], [A, B], [0.9, 0.8], 1.0, 1.0),
        ([A, B], [A], [0.9], 0.5, 0.5),
        ([A, B], [NOBODY, A, B], [0.9, 0.8, 0.7], 1.0, (1 / 2 + 2 / 3) / 2),
        ([A], [A_SHIFTED, A], [0.9, 0.8], 1.0, 0.5),  # the better overlap counts, not the better score
    ],
)
def test_recall_and_ap(truth, boxes, scores, recall, ap):
    result = score((truth, boxes, scores))
    assert (result.recall, result.ap) == (pytest.approx(recall), pytest.approx(ap))


def test_ap_of_found_is_not_scaled_by_recall():
    result = score(([A, B], [A], [0.9]))
    assert (result.ap, result.ap_of_found) == (0.5, 1.0)


def test_ignored_people_count_neither_way():
    ignore = np.array([False, True])
    result = score(([A, B], [A, B, B, NOBODY], [0.5, 0.9, 0.8, 0.1], ignore))
    assert (result.people, result.detections, result.recall, result.ap) == (1, 2, 1.0, 1.0)


def test_a_person_standing_in_an_ignored_region_is_still_found():
    result = score(([A, A_SHIFTED], [A], [0.9], np.array([False, True])))
    assert (result.recall, result.detections) == (1.0, 1)


def test_detections_below_the_threshold_are_left_out():
    result = score(([A, B], [A, B], [0.9, 0.4]), det_thresh=0.5)
    assert (result.recall, result.detections) == (0.5, 1)


def plain_reference(frames):
    """OIM's evaluation in plain loops."""
    labels, scores, people, found = [], [], 0, 0
    for truth, boxes, frame_scores in frames:
        people += len(truth)
        table = np.zeros((len(truth), len(boxes)))
        for i, t in enumerate(truth):
            for j, b in enumerate(boxes):
                inter = max(0, min(t[2], b[2]) - max(t[0], b[0])) * max(0, min(t[3], b[3]) - max(t[1], b[1]))
                table[i, j] = inter / ((t[2] - t[0]) * (t[3] - t[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
        for j in range(len(boxes)):
            i = table[:, j].argmax() if len(truth) else None
            right = i is not None and table[i].argmax() == j and table[i, j] >= 0.5
            labels.append(right)
            scores.append(frame_scores[j])
            found += right
    return found / people, average_precision_score(labels, scores) * found / people if found else 0.0


def test_equals_the_plain_reference_on_random_frames():
    rng = np.random.default_rng(3)
    for _ in range(200):
        frames = []
        for _ in range(4):
            truth = rng.uniform(0, 100, (rng.integers(1, 5), 4))
            truth[:, 2:] = truth[:, :2] + rng.uniform(10, 60, (len(truth), 2))
            boxes = np.concatenate([truth, truth])[rng.random(2 * len(truth)) < 0.6]
            boxes = boxes + rng.normal(0, 3, boxes.shape)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            frames.append((truth, boxes, rng.integers(0, 9, len(boxes)) / 8.0))
        recall, ap = plain_reference(frames)
        result = score(*frames)
        assert (result.recall, result.ap) == (pytest.approx(recall), pytest.approx(ap))
