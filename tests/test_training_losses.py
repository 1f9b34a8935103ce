"""OIM's loss with its table and queue, and the losses without a table, against plain loops in numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qeeps_cli.boxes import iou
from qeeps_cli.training.classifier import SMOOTHING, IdentityClassifier
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.losses import contrastive_loss, teacher_loss
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.qeeps_stage import logits_of_people, qrpn_people_loss


def unit_rows(rng, count, dim):
    rows = rng.standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class PlainOIM:
    """Xiao et al., CVPR 2017, eq. 1-4, one person at a time in float64; what was never written is not there."""

    def __init__(self, queue, momentum, scale):
        self.table, self.queue, self.length = {}, [], queue
        self.momentum, self.scale = momentum, scale
        self.place = 0

    def loss(self, embeddings, labels):
        losses = []
        for x, label in zip(embeddings, labels, strict=True):
            if label in self.table:
                logits = {t: self.scale * float(v @ x) for t, v in self.table.items()}
                others = [self.scale * float(u @ x) for u in self.queue]
                total = sum(math.exp(z) for z in [*logits.values(), *others])
                losses.append(-math.log(math.exp(logits[label]) / total))
        return float(np.mean(losses)) if losses else 0.0

    def update(self, embeddings, labels):
        for x, label in zip(embeddings, labels, strict=True):
            x = np.asarray(x, np.float64)
            if label >= 0:
                row = self.momentum * self.table.get(label, np.zeros_like(x)) + (1 - self.momentum) * x
                self.table[label] = row / np.linalg.norm(row)
            elif len(self.queue) < self.length:
                self.queue.append(x)
            elif self.length:
                self.queue[self.place % self.length] = x
                self.place += 1


@pytest.mark.parametrize("queue", [0, 3, 50])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_oim_equals_a_plain_loop(queue, momentum):
    rng = np.random.default_rng(0)
    oim, plain = OIMLoss(6, 8, queue, momentum, scale=10.0), PlainOIM(queue, momentum, 10.0)
    nonzero = 0
    for _ in range(12):
        embeddings = unit_rows(rng, 5, 8)
        labels = rng.integers(-1, 5, size=5)  # identity 5 is never seen: its row takes no part
        loss = oim(torch.from_numpy(embeddings), torch.from_numpy(labels))
        expected = plain.loss(embeddings, labels)
        assert float(loss) == pytest.approx(expected, abs=1e-4)
        nonzero += expected > 0
        plain.update(embeddings, labels)
        assert oim.written.tolist() == [label in plain.table for label in range(6)]
        for label in range(6):
            np.testing.assert_allclose(oim.table[label], plain.table.get(label, np.zeros(8)), atol=1e-5)
        filled = min(int(oim.pushed), queue)
        np.testing.assert_allclose(oim.queue[:filled], np.array(plain.queue).reshape(-1, 8), atol=1e-6)
        assert not oim.queue[filled:].any()
    assert nonzero > 8
    assert queue != 3 or int(oim.pushed) > 3  # the circular queue was overwritten


def test_oim_of_nobody():
    oim = OIMLoss(3, 4)
    loss = oim(torch.empty(0, 4, requires_grad=True), torch.empty(0, dtype=torch.long))
    assert float(loss.detach()) == 0 and not oim.written.any() and int(oim.pushed) == 0


def test_oim_takes_people_in_order():
    """Twice the same identity in a batch: the row moves twice, and the last one counts most."""
    oim = OIMLoss(1, 2, momentum=0.5)
    first, second = [1.0, 0.0], [0.0, 1.0]
    oim(torch.tensor([first, second]), torch.tensor([0, 0]))
    assert oim.table[0].tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.5)])
    oim(torch.tensor([first, second]), torch.tensor([0, 0]))
    row = F.normalize(0.5 * torch.tensor([0.5**0.5, 0.5**0.5]) + 0.5 * torch.tensor(first), dim=0)
    row = F.normalize(0.5 * row + 0.5 * torch.tensor(second), dim=0)
    assert oim.table[0].tolist() == pytest.approx(row.tolist())


def test_oim_overwrites_the_oldest_of_the_queue():
    oim = OIMLoss(1, 2, queue=3)
    people = F.normalize(torch.arange(10.0).reshape(5, 2) + 1, dim=1)
    oim(people, torch.full((5,), -1))
    assert torch.equal(oim.queue, people[[3, 4, 2]])
    assert not oim.written.any()


def test_oim_has_no_loss_for_identities_it_has_not_seen():
    oim = OIMLoss(4, 4)
    eye = torch.eye(4, requires_grad=True)
    loss = oim(eye[:2], torch.tensor([0, 1]))
    loss.backward()
    assert float(loss.detach()) == 0 and not eye.grad.any()
    # of the two people only the one who was seen is scored: -log softmax([30, 0]) of two written rows
    loss = oim(eye[[0, 3]], torch.tensor([0, 3]))
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-30)), abs=1e-9)


def test_oim_gradient_reaches_the_embeddings_and_nothing_else():
    rng = np.random.default_rng(1)
    oim = OIMLoss(4, 8, queue=4)
    oim(torch.from_numpy(unit_rows(rng, 6, 8)), torch.tensor([0, 1, 2, 3, -1, -1]))
    table = oim.table.clone()
    embeddings = torch.from_numpy(unit_rows(rng, 3, 8)).requires_grad_()
    labels = torch.tensor([0, 2, -1])
    oim(embeddings, labels).backward()
    logits = 30 * embeddings.detach() @ torch.cat([table, oim.queue[:2]]).T  # as they stood before the update
    expected = torch.zeros(3, 8)
    for i, label in ((0, 0), (1, 2)):
        slope = logits[i].softmax(dim=0) - F.one_hot(torch.tensor(label), 6)
        expected[i] = 30 * slope @ torch.cat([table, oim.queue[:2]]) / 2
    torch.testing.assert_close(embeddings.grad, expected, atol=1e-4, rtol=1e-4)
    assert not list(oim.parameters())


def test_oim_keeps_its_precision_under_autocast():
    rng = np.random.default_rng(2)
    people = torch.from_numpy(unit_rows(rng, 8, 16))
    losses = []
    for enabled in (False, True):
        oim = OIMLoss(4, 16)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            oim(people[:4], torch.arange(4))
            losses.append(float(oim(people[4:], torch.arange(4))))
    assert losses[0] == losses[1]


def test_oim_state_round_trip():
    rng = np.random.default_rng(3)
    oim, other = OIMLoss(5, 8, queue=4), OIMLoss(5, 8, queue=4)
    for _ in range(3):
        oim(torch.from_numpy(unit_rows(rng, 6, 8)), torch.from_numpy(rng.integers(-1, 5, size=6)))
    state = {name: tensor.clone() for name, tensor in oim.state_dict().items()}
    assert set(state) == {"table", "written", "queue", "pushed"}
    other.load_state_dict(state)
    people, labels = torch.from_numpy(unit_rows(rng, 6, 8)), torch.tensor([0, 1, 2, 3, -1, -1])
    assert float(oim(people, labels)) == float(other(people, labels))
    assert all(torch.equal(a, b) for a, b in zip(oim.buffers(), other.buffers(), strict=True))


def plain_contrastive(embeddings, labels, scale):
    """For each anchor the mean of -log(e^p / (e^p + sum of e^negatives)) over its positives; then the mean of those."""
    anchors = []
    for i in range(len(labels)):
        terms = []
        for p in range(len(labels)):
            if p == i or labels[p] != labels[i] or labels[i] < 0:
                continue
            positive = math.exp(scale * float(embeddings[i] @ embeddings[p]))
            negatives = sum(
                math.exp(scale * float(embeddings[i] @ embeddings[n]))
                for n in range(len(labels))
                if labels[n] != labels[i]
            )
            terms.append(-math.log(positive / (positive + negatives)))
        if terms:
            anchors.append(np.mean(terms))
    return float(np.mean(anchors)) if anchors else 0.0


@pytest.mark.parametrize(
    "labels",
    [
        [],
        [3],
        [0, 1, 2],  # nobody twice
        [-1, -1, -1],  # unknown people are no pair
        [0, 0],  # nobody else: no negatives
        [0, 0, 1],
        [0, 0, 0, 1, 1, -1, -1],  # unequal numbers of positives; unknown people as negatives
        [0, 1, 0, 1, 2, 2, 2, 2, 3, -1],
    ],
)
def test_contrastive_loss_equals_a_plain_loop(labels):
    embeddings = torch.from_numpy(unit_rows(np.random.default_rng(len(labels)), len(labels), 8)).requires_grad_()
    loss = contrastive_loss(embeddings, torch.tensor(labels, dtype=torch.long), 16.0)
    assert float(loss.detach()) == pytest.approx(plain_contrastive(embeddings.detach().numpy(), labels, 16.0), abs=1e-4)
    loss.backward()
    assert embeddings.grad.isfinite().all()
    assert bool(embeddings.grad.any()) == (float(loss.detach()) > 0)


def test_contrastive_loss_pulls_positives_together():
    embeddings = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [1.0, 0.0]]), dim=1).requires_grad_()
    contrastive_loss(embeddings, torch.tensor([0, 0, 1]), 16.0).backward()
    moved = F.normalize(embeddings.detach() - 0.01 * embeddings.grad, dim=1)
    before = embeddings.detach() @ embeddings.detach().T
    after = moved @ moved.T
    assert after[0, 1] > before[0, 1] and after[0, 2] < before[0, 2]


@pytest.mark.parametrize("missing", [[], [0], [1, 3], [0, 1, 2, 3]])
def test_teacher_loss_equals_a_plain_loop(missing):
    rng = np.random.default_rng(4)
    embeddings, targets = unit_rows(rng, 4, 8), unit_rows(rng, 4, 8)
    targets[missing] = np.nan
    student = torch.from_numpy(embeddings).requires_grad_()
    loss = teacher_loss(student, torch.from_numpy(targets))
    kept = [i for i in range(4) if i not in missing]
    expected = np.mean([1 - embeddings[i] @ targets[i] for i in kept]) if kept else 0.0
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-6)
    loss.backward()
    assert student.grad.isfinite().all()
    assert [bool(row.any()) for row in student.grad] == [i in kept for i in range(4)]


def test_teacher_loss_of_nobody():
    student = torch.empty(0, 8, requires_grad=True)
    loss = teacher_loss(student, torch.empty(0, 8))
    loss.backward()
    assert float(loss.detach()) == 0


def test_the_classifier_equals_a_plain_loop():
    rng = np.random.default_rng(3)
    embeddings, labels = unit_rows(rng, 6, 8), np.array([0, 2, -1, 4, 2, -1])
    torch.manual_seed(0)
    classifier = IdentityClassifier(5, 8, scale=16.0)
    classifier.prototypes.data.mul_(3)  # only their direction counts
    prototypes = classifier.prototypes.detach().double().numpy()
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    losses = []
    for x, label in zip(embeddings.astype(float), labels, strict=True):
        if label >= 0:
            logits = 16 * prototypes @ x
            log_p = logits - math.log(np.exp(logits).sum())
            losses.append(-(1 - SMOOTHING) * log_p[label] - SMOOTHING * log_p.mean())
    loss = classifier(torch.from_numpy(embeddings), torch.from_numpy(labels))
    assert float(loss.detach()) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_classifier_of_unknown_people_is_zero_with_a_gradient():
    embeddings = torch.randn(3, 8, requires_grad=True)
    loss = IdentityClassifier(5, 8, scale=16.0)(embeddings, torch.full((3,), -1))
    loss.backward()
    assert float(loss.detach()) == 0 and embeddings.grad is not None


def test_prototypes_start_as_means_of_embeddings():
    torch.manual_seed(0)
    classifier = IdentityClassifier(3, 4, scale=16.0)
    before = classifier.prototypes.detach().clone()
    classifier.start_from(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]), torch.tensor([0, 0, 2]))
    half = 0.5**0.5
    expected = torch.tensor([[half, half, 0, 0], before[1].tolist(), [0, 0, 1, 0]])
    torch.testing.assert_close(classifier.prototypes.detach(), expected)


def plain_qrpn_people_loss(logits, anchors, asked, people):
    """Of one image, by a loop over its people."""
    of_people = []
    for person in people:
        overlap = iou(np.array([person], np.float32), anchors)[0]
        own = (overlap >= 0.6) | (overlap == overlap.max())
        of_people.append(float(logits[own].mean()))
    return math.log(sum(math.exp(z) for z in of_people)) - of_people[asked]


def people_at(*boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return People(boxes, torch.arange(len(boxes)), boxes[:0], boxes[:0], boxes[:0])


SOMEBODY, ANOTHER, SMALL = (0, 0, 10, 20), (30, 0, 40, 20), (60, 0, 62, 4)  # no anchor fits the last
ANCHORS = np.array(
    [[0, 0, 10, 20], [0, 0, 10, 13], [0, 0, 10, 8], [30, 0, 40, 20], [60, 0, 70, 20], [90, 0, 100, 20]], np.float32
)


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_qrpns_loss_among_people_equals_a_plain_loop(asked):
    logits = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 6)).astype(np.float32)).requires_grad_()
    everybody = people_at(SOMEBODY, ANOTHER, SMALL)
    absent, alone = everybody.boxes[:0], people_at(SOMEBODY)  # neither counts
    loss = qrpn_people_loss(
        logits,
        torch.from_numpy(ANCHORS),
        [everybody.boxes[asked : asked + 1], absent, alone.boxes],
        [everybody, everybody, alone],
    )
    expected = plain_qrpn_people_loss(logits.detach().numpy()[0], ANCHORS, asked, (SOMEBODY, ANOTHER, SMALL))
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert logits.grad[1:].any().item() is False
    assert (logits.grad[0] != 0).tolist() == [True, True, False, True, True, False]  # the background has no part in it
    on_asked = [[0, 1], [3], [4]][asked]
    assert (logits.grad[0][on_asked] < 0).all()  # who is asked for is raised


def test_qrpns_loss_among_people_knows_a_second_box_of_the_person():
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(6))
    once, twice = people_at(SOMEBODY, SMALL), people_at(SOMEBODY, ANOTHER, SMALL)
    twice = replace(twice, labels=torch.tensor([0, 0, 7]))
    losses = [
        qrpn_people_loss(logits, torch.from_numpy(ANCHORS), [once.boxes[:1]], [people]) for people in (once, twice)
    ]
    assert float(losses[0]) == pytest.approx(float(losses[1])) and float(losses[0]) > 0


def test_logits_of_people_keep_their_precision_and_need_an_anchor():
    logits = torch.tensor([5.021, 5.021, 0.3, 7.003, 1.0, 2.0])
    boxes = people_at(SOMEBODY, ANOTHER, (500, 500, 520, 540)).boxes  # nothing is near the last
    with torch.autocast("cpu", torch.bfloat16):
        of_people = logits_of_people(logits, torch.from_numpy(ANCHORS), boxes)
    assert of_people.tolist() == pytest.approx([5.021, 7.003, 0.0], abs=1e-6)


def test_qrpns_loss_among_people_of_nobody():
    logits = torch.randn(1, 6, requires_grad=True)
    loss = qrpn_people_loss(logits, torch.from_numpy(ANCHORS), [torch.empty(0, 4)], [people_at(SOMEBODY, ANOTHER)])
    loss.backward()
    assert float(loss.detach()) == 0 and not logits.grad.any()
