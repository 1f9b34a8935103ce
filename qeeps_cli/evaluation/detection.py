"""Detection scores as the person-search literature reports them (OIM's evaluation): recall and AP at IoU 0.5."""

from dataclasses import dataclass

import numpy as np

from qeeps_cli.boxes import iou
from qeeps_cli.evaluation.metrics import average_precision

IOU = 0.5


@dataclass(frozen=True)
class DetectionScore:
    """recall: people found / people. ap: average precision × recall, the published figure. ap_of_found: the average
    precision itself, whose recall runs to 1 at the last person that was found. All between 0 and 1.
    """

    recall: float
    ap: float
    ap_of_found: float
    people: int
    detections: int

    def to_json(self) -> dict:
        return {
            "recall": self.recall,
            "ap": self.ap,
            "ap_of_found": self.ap_of_found,
            "people": self.people,
            "detections": self.detections,
        }


class DetectionEvaluator:
    """Collects detections frame by frame.

    A detection finds a person if each is the other's best overlap and IoU ≥ 0.5. Ignored people count neither way: they
    need not be found, and a detection that overlaps one and finds nobody else is left out.
    det_thresh: detections with a lower person score are left out (0.5 in OIM's evaluation).
    """

    def __init__(self, det_thresh: float = 0.0) -> None:
        self._det_thresh = det_thresh
        self._labels: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._people = 0

    def add_frame(
        self, truth: np.ndarray, boxes: np.ndarray, scores: np.ndarray, ignore: np.ndarray | None = None
    ) -> None:
        """truth: (P, 4) xyxy people, boxes: (N, 4) xyxy, scores: (N,), ignore: (P,) bool."""
        truth, boxes = np.asarray(truth).reshape(-1, 4), np.asarray(boxes).reshape(-1, 4)
        scores = np.asarray(scores).reshape(-1)
        ignore = np.zeros(len(truth), bool) if ignore is None else np.asarray(ignore, bool)
        confident = scores >= self._det_thresh
        boxes, scores = boxes[confident], scores[confident]
        right = find_people(truth[~ignore], boxes)
        counted = right | ~(iou(boxes, truth[ignore]) >= IOU).any(axis=1)
        self._labels.append(right[counted])
        self._scores.append(scores[counted])
        self._people += int((~ignore).sum())

    def result(self) -> DetectionScore:
        """The score of all frames so far; all 0 without people."""
        labels = np.concatenate([np.empty(0, bool), *self._labels])
        scores = np.concatenate([np.empty(0, np.float32), *self._scores])
        recall = float(labels.sum() / self._people) if self._people else 0.0
        ap = average_precision(labels, scores)
        return DetectionScore(recall, ap * recall, ap, self._people, len(labels))


def find_people(truth: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: which of (N, 4) xyxy boxes find one of (P, 4) people, at most one for each person."""
    if not len(truth) or not len(boxes):
        return np.zeros(len(boxes), bool)
    overlap = iou(truth, boxes)
    best_person = overlap.argmax(axis=0)
    rows = np.arange(len(boxes))
    is_best_box = overlap.argmax(axis=1)[best_person] == rows
    return is_best_box & (overlap[best_person, rows] >= IOU)
