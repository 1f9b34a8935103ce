"""The whole way from a set with queries to mAP and top-k, against plain loops and scikit-learn, on random benchmarks.

The loops are written from the protocol's text and share nothing with the package but numpy.
"""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.metrics import SearchScore, average_precision
from qeeps_cli.evaluation.protocols import DetectionTable, score_query, score_table
from qeeps_cli.types import LabelledFrame, LabelledQuery

PEOPLE = 2
SCORES = np.array([-1.0, -0.25, 0.0, 0.125, 0.5, 0.5, 0.75, 1.0], np.float32)  # cosines; few, so that many tie


def overlap(a, b):
    dx = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    dy = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return dx * dy / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - dx * dy)


def holds(frame, person):
    """The first box of the person in the frame, or None."""
    for box, person_id, ignore in zip(frame.boxes.tolist(), frame.person_ids, frame.ignore, strict=True):
        if person_id == person and not ignore:
            return box
    return None


def plain_query(frames, query, found, proposals):
    """(AP, top-1, 5, 10, count_gt, count_tp, covered, pool) of one query."""
    by_name = {frame.name: frame for frame in frames.frames}
    listed = None if query.truth is None else dict(query.truth)
    pool, count_gt, count_tp, covered = [], 0, 0, 0
    for position, name in enumerate(query.gallery):
        truth = holds(by_name[name], query.person_id) if listed is None else listed.get(position)
        boxes, scores = found.get(name, ([], []))
        labels = [0] * len(boxes)
        if truth is not None:
            count_gt += 1
            w, h = truth[2] - truth[0], truth[3] - truth[1]
            threshold = min(0.5, w * h / ((w + 10) * (h + 10)))
            for j in sorted(range(len(boxes)), key=lambda j: -scores[j]):
                if overlap(boxes[j], truth) >= threshold:
                    labels[j] = 1
                    count_tp += 1
                    break
            covered += any(overlap(box, truth) >= threshold for box in proposals.get(name, []))
        pool += list(zip(scores, labels, [name] * len(boxes), boxes, strict=True))
    ap = 0.0
    if count_tp:
        ap = average_precision_score([p[1] for p in pool], [p[0] for p in pool]) * count_tp / count_gt
    ranked = sorted(pool, key=lambda p: -p[0])  # Python's sort is stable: equal scores stay in gallery order
    top = [any(label for _, label, _, _ in ranked[:k]) for k in (1, 5, 10)]
    return ap, top, count_gt, count_tp, covered, ranked


def random_boxes(rng, count):
    boxes = rng.uniform(0, 200, (count, 4))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 80, (count, 2))
    return boxes.astype(np.float32)


def random_set(rng):
    """Frames with people, strangers, the same id twice, ignored boxes and nobody; queries over parts of them, some
    with frames twice, some with the protocol's own list of places, some without a single frame of the person."""
    frames = []
    for index in range(rng.integers(1, 9)):
        count = rng.integers(0, 4)
        frames.append(
            LabelledFrame(
                path=Path(f"f{index}"),
                name=f"f{index}",
                boxes=random_boxes(rng, count),
                person_ids=rng.integers(-1, PEOPLE, count),
                ignore=rng.random(count) < 0.1,
            )
        )
    frames = tuple(frames)
    queries = []
    for index in range(2):
        person = int(rng.integers(0, PEOPLE))
        gallery = tuple(frames[i].name for i in rng.integers(0, len(frames), rng.integers(0, 2 * len(frames))))
        truth = None
        if rng.random() < 0.3:
            places = [p for p in range(len(gallery)) if rng.random() < 0.4]
            truth = tuple(
                (place, tuple(box)) for place, box in zip(places, random_boxes(rng, len(places)).tolist(), strict=True)
            )
        queries.append(LabelledQuery(f"q{index}", Path("q"), (0.0, 0.0, 9.0, 9.0), person, gallery, truth))
    return FrameSet("random", frames, tuple(queries))


def random_detections(rng, frames):
    """Of most frames: boxes on people (some twice) and elsewhere, none in some frames."""
    boxes = {}
    for frame in frames.frames:
        if rng.random() < 0.1:
            continue  # never searched
        near = np.concatenate([frame.boxes, frame.boxes])[rng.random(2 * len(frame.boxes)) < 0.7]
        near = near + rng.normal(0, 4, near.shape).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.concatenate([near, random_boxes(rng, rng.integers(0, 3))])
        boxes[frame.name] = rng.permutation(found) if rng.random() < 0.9 else found[:0]
    return boxes


def test_hundreds_of_random_queries_score_as_plain_loops_do():
    rng = np.random.default_rng(11)
    seen = dict.fromkeys(("absent", "missed", "partly", "twice", "unanswered", "listed", "tie decides"), 0)
    for _ in range(300):
        frames = random_set(rng)
        boxes = random_detections(rng, frames)
        proposals = {name: random_boxes(rng, 3) if rng.random() < 0.5 else b for name, b in boxes.items()}
        for query in frames.queries:
            scores = {name: rng.choice(SCORES, len(b)) for name, b in boxes.items()}
            found = {name: (b.tolist(), scores[name].tolist()) for name, b in boxes.items()}
            ap, top, count_gt, count_tp, covered, ranked = plain_query(
                frames, query, found, {name: p.tolist() for name, p in proposals.items()}
            )
            wanted = [name for name in dict.fromkeys(query.gallery) if name in boxes]
            answers = [(name, boxes[name], scores[name], proposals[name]) for name in rng.permutation(wanted)]
            table = DetectionTable.from_frames(boxes.items())
            pool = np.concatenate([np.empty(0, np.float32), *(scores[name] for name in table.frames)])
            for score in (
                score_query(frames, query, answers, keep=4),
                score_table(frames, query, table, pool, keep=4),
            ):
                assert score.ap == pytest.approx(ap, abs=1e-12)
                assert [score.hits[k] for k in (1, 5, 10)] == top
                assert (score.count_gt, score.count_tp, score.detections) == (count_gt, count_tp, len(ranked))
                assert [(r.score, r.correct, r.frame, list(r.box)) for r in score.ranking] == [
                    (s, bool(label), name, box) for s, label, name, box in ranked[:4]
                ]
                assert score.unanswered == sum(name not in boxes for name in query.gallery)
            with_proposals = score_query(frames, query, answers)
            if count_gt and len(answers):
                assert (with_proposals.count_covered or 0) == covered
            seen["absent"] += count_gt == 0
            seen["missed"] += count_gt > 0 == count_tp
            seen["partly"] += 0 < count_tp < count_gt
            seen["twice"] += len(set(query.gallery)) < len(query.gallery)
            seen["unanswered"] += score.unanswered > 0
            seen["listed"] += query.truth is not None
            seen["tie decides"] += len({r[1] for r in ranked if r[0] == ranked[0][0]}) > 1 if ranked else 0
    assert min(seen.values()) > 25, seen


def test_means_are_over_all_queries_those_without_a_positive_too():
    rng = np.random.default_rng(12)
    scores = []
    expected = []
    for _ in range(40):
        frames = random_set(rng)
        boxes = random_detections(rng, frames)
        for query in frames.queries:
            chosen = {name: rng.choice(SCORES, len(b)) for name, b in boxes.items()}
            found = {name: (b.tolist(), chosen[name].tolist()) for name, b in boxes.items()}
            expected.append(plain_query(frames, query, found, {}))
            answers = [(n, boxes[n], chosen[n]) for n in dict.fromkeys(query.gallery) if n in boxes]
            scores.append(score_query(frames, query, answers))
    summary = SearchScore(tuple(scores))
    assert summary.mean_ap == pytest.approx(np.mean([e[0] for e in expected]))
    for index, k in enumerate((1, 5, 10)):
        assert summary.top(k) == pytest.approx(np.mean([e[1][index] for e in expected]))
    absent = sum(e[2] == 0 for e in expected)
    assert absent and summary.to_json()["queries_without_person"] == absent
    assert summary.warnings[0].startswith(f"{absent} of 80 queries have no frame with their person")


def test_a_pool_as_large_as_a_query_of_prw_has():
    rng = np.random.default_rng(13)
    scores = rng.random(200_000).astype(np.float32).round(4)
    labels = rng.random(200_000) < 1e-4 * (1 + 9 * scores)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "detection", "counts"),
    [
        # 40 x 100: from an IoU of 0.5
        ((0, 0, 40, 100), (0, 0, 40, 50), True),
        ((0, 0, 40, 100), (0, 0, 40, 49.9), False),
        # 10 x 20: from 1/3, so also where the detection is three times as large
        ((0, 0, 10, 20), (0, 0, 10, 60), True),
        ((0, 0, 10, 20), (0, 0, 10, 60.1), False),
        # a person who is cut by the frame's edge: labels reach out, detections do not
        ((-20, 0, 20, 100), (0, 0, 20, 100), True),
        ((-21, 0, 20, 100), (0, 0, 20, 100), False),
    ],
)
def test_what_counts_as_the_person(truth, detection, counts):
    frame = LabelledFrame(Path("f"), "f", np.array([truth], np.float32), np.array([3]), np.zeros(1, bool))
    query = LabelledQuery("q", Path("q"), (0.0, 0.0, 9.0, 9.0), 3, ("f",))
    score = score_query(FrameSet("one", (frame,)), query, [("f", np.array([detection], np.float32), [0.1])])
    assert (score.ap, score.hits[1]) == ((1.0, True) if counts else (0.0, False))
