"""Label assignment of every loss, on hand-made cases with the labels written out."""

import pytest
import torch

from qeeps_cli.training.assign import qrpn_labels, roi_labels, rpn_labels, sample, sim_labels

# Three people of 10 x 20 pixels, far apart. part(A, h) is the upper h pixels of A: its IoU with A is h / 20.
A, B, C = (0, 0, 10, 20), (100, 0, 110, 20), (200, 0, 210, 20)
NOBODY = (300, 0, 310, 20)


def part(person, height):
    return (person[0], 0, person[2], height)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("anchors", "people", "ignored", "labels", "matched"),
    [
        ((), (), (), [], []),
        ((), (A,), (C,), [], []),
        ((A, NOBODY), (), (), [0, 0], [0, 0]),
        # IoU .80 is a person, .65 and .30 are undecided, .25 is background
        ((part(A, 16), part(A, 13), part(A, 6.001), part(A, 5), NOBODY), (A,), (), [1, -1, -1, 0, 0], [0] + [None] * 4),
        # B's best anchor stands for B, low as its IoU is; the second best does not
        ((part(A, 16), part(B, 9), part(B, 8), part(B, 4)), (A, B), (), [1, 1, -1, 0], [0, 1, None, None]),
        # ... even below the negatives' bound, and both of two equally good ones do
        ((part(A, 3), part(A, 3), NOBODY), (A,), (), [1, 1, 0], [0, 0, None]),
        # what overlaps an ignored person by .3 is left out; by less, it is background; a positive stays one
        ((part(C, 10), part(C, 5), part(A, 16)), (A,), (C, A), [-1, 0, 1], [None, None, 0]),
        ((part(C, 10), part(C, 5), NOBODY), (), (C,), [-1, 0, 0], [0, 0, 0]),
    ],
)
def test_rpn(anchors, people, ignored, labels, matched):
    found, persons = rpn_labels(boxes(*anchors), boxes(*people), boxes(*ignored))
    assert found.tolist() == labels
    assert all(wanted in (None, got) for got, wanted in zip(persons.tolist(), matched, strict=True))


@pytest.mark.parametrize(
    ("anchors", "query_person", "others", "labels"),
    [
        ((), (), (), []),
        ((), (A,), (B,), []),
        # IoU .80 and .65 (not enough for RPN) are the query person, .50 is undecided, .25 is background
        ((part(A, 16), part(A, 13), part(A, 10), part(A, 5), NOBODY), (A,), (A,), [1, 1, -1, 0, 0]),
        # the query person's best anchor, where none reaches .6
        ((part(A, 8), part(A, 7), NOBODY), (A,), (A,), [1, -1, 0]),
        # other people, ignored ones (C) too: what the RPN beside calls a person is not pushed the other way
        ((part(A, 16), part(B, 16), part(B, 5), part(C, 8), NOBODY), (A,), (A, B, C), [1, -1, 0, -1, 0]),
        # an anchor on the query person that also covers somebody else stays positive
        ((A, NOBODY), (A,), (A, part(A, 15)), [1, 0]),
        # the person is absent: no positive, and still no negatives on people
        ((part(A, 16), part(B, 16), part(B, 5), NOBODY), (), (A, B), [-1, -1, 0, 0]),
        ((A, NOBODY), (), (), [0, 0]),
    ],
)
def test_qrpn(anchors, query_person, others, labels):
    assert qrpn_labels(boxes(*anchors), boxes(*query_person), boxes(*others)).tolist() == labels


@pytest.mark.parametrize(
    ("rois", "people", "ignored", "labels", "matched"),
    [
        ((), (), (), [], []),
        ((), (A,), (), [], []),
        ((A, NOBODY), (), (), [0, 0], [0, 0]),
        # .5 is a person, less is background, without a gap and without best-anchor rule
        ((part(A, 10), part(A, 9.99), NOBODY), (A,), (), [1, 0, 0], [0, None, None]),
        # the person with the larger overlap
        ((part(B, 16), part(A, 11)), (A, B), (), [1, 1], [1, 0]),
        ((part(A, 12),), (part(A, 20), part(A, 13)), (), [1], [1]),
        ((part(C, 16), part(C, 5), part(A, 9)), (A,), (C,), [-1, 0, 0], [None, None, None]),
    ],
)
def test_roi(rois, people, ignored, labels, matched):
    found, persons = roi_labels(boxes(*rois), boxes(*people), boxes(*ignored))
    assert found.tolist() == labels
    assert all(wanted in (None, got) for got, wanted in zip(persons.tolist(), matched, strict=True))


@pytest.mark.parametrize(
    ("rois", "query_person", "labels"),
    [
        ((), (), []),
        ((), (A,), []),
        ((A, B), (), [0, 0]),  # absent: everybody is somebody else
        ((part(A, 10), part(A, 9.99), B, NOBODY), (A,), [1, 0, 0, 0]),
    ],
)
def test_sim(rois, query_person, labels):
    found = sim_labels(boxes(*rois), boxes(*query_person))
    assert found.tolist() == labels
    assert found.dtype == torch.long


@pytest.mark.parametrize(
    ("labels", "size", "positives", "negatives"),
    [
        ([], 8, 0, 0),
        ([-1] * 5, 8, 0, 0),
        ([1] * 10 + [0] * 10 + [-1] * 10, 8, 4, 4),  # half of them positive
        ([1] * 2 + [0] * 10, 8, 2, 6),  # few positives: negatives fill up
        ([1] * 10 + [0] * 3, 8, 4, 3),  # but never the other way round
    ],
)
def test_sample(labels, size, positives, negatives):
    torch.manual_seed(0)
    index, is_drawn = sample(torch.tensor(labels, dtype=torch.float32), size, 0.5)
    assert len(index) == len(is_drawn) == min(size, len(labels))
    drawn = [labels[i] for i in index[is_drawn].tolist()]
    assert drawn == [1] * positives + [0] * negatives
    assert len(set(index[is_drawn].tolist())) == len(drawn)
    assert not is_drawn[len(drawn) :].any()


def test_every_label_may_be_drawn():
    torch.manual_seed(0)
    labels = torch.tensor([1.0] * 6 + [0.0] * 6 + [-1.0])
    seen = {int(i) for _ in range(60) for i, is_drawn in zip(*sample(labels, 4, 0.5), strict=True) if is_drawn}
    assert seen == set(range(12))
