"""The detector's and the identification's terms of Eq. 3 on gallery images, shared by the stages that see frames."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.box_coding import ROI_CODER, RPN_CODER, encode
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.roi_head import PERSON, RoIOutput
from qeeps_cli.model.rpn import select_proposals
from qeeps_cli.training.assign import roi_labels, rpn_labels, sample

RPN_SAMPLES = 256  # an image, half of them positive where there are enough
ROI_POSITIVES = 0.5
TRAINING_PROPOSALS = InferenceParams(proposals=300, pre_nms=1000, min_objectness=0.0)


@dataclass(frozen=True)
class People:
    """Labels of one gallery view, tensors on the model's device. boxes (P, 4) and jittered (J, 4) xyxy, labels (P,)."""

    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    jittered: Tensor
    targets: Tensor  # (P, D) of the teacher, NaN where there is none


@dataclass(frozen=True)
class SampledRoIs:
    """RoIs of a batch, concatenated: image (R,), boxes (R, 4), labels (R,) 0 or 1, person (R,) index in that image."""

    image: Tensor
    boxes: Tensor
    labels: Tensor
    person: Tensor

    def per_image(self, count: int) -> list[Tensor]:
        """The boxes of each of `count` images. `image` must ascend, as it does after `sample_rois`."""
        lengths = (self.image[:, None] == torch.arange(count, device=self.image.device)).sum(dim=0)
        return list(self.boxes.split(lengths.tolist()))


def rpn_losses(logits: Tensor, deltas: Tensor, anchors: Tensor, people: list[People]) -> dict[str, Tensor]:
    """L_rpn_o and L_rpn_r over RPN_SAMPLES anchors an image. logits (B, N), deltas (B, N, 4), anchors (N, 4)."""
    drawn = []
    for i, persons in enumerate(people):
        labels, matched = rpn_labels(anchors, persons.boxes, persons.ignored)
        index, is_drawn = sample(labels, RPN_SAMPLES, 0.5)
        boxes = persons.boxes[matched[index]] if len(persons.boxes) else anchors[index]
        drawn.append((is_drawn, torch.full_like(index, i), index, labels[index], boxes))
    image, index, labels, boxes = drawn_rows(drawn)
    count = max(1, len(labels))
    cls = F.binary_cross_entropy_with_logits(logits[image, index], labels, reduction="sum") / count
    positive = (labels == 1).nonzero().squeeze(1)
    image, index = image[positive], index[positive]
    targets = encode(RPN_CODER, boxes[positive], anchors[index])
    reg = F.smooth_l1_loss(deltas[image, index], targets, beta=1 / 9, reduction="sum") / count
    return {"rpn_cls": cls, "rpn_reg": reg}


def drawn_rows(images: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Columns of all images, concatenated: of each image tensors of as many rows, of which those are kept whose mask,
    the first column, is true. The processor waits for a GPU once, and not for each image."""
    is_drawn, *columns = (torch.cat(column) for column in zip(*images, strict=True))
    rows = is_drawn.nonzero().squeeze(1)
    return [column[rows] for column in columns]


@torch.no_grad()
def sample_rois(
    logits: Tensor, deltas: Tensor, anchors: Tensor, people: list[People], size: tuple[int, int], count: int
) -> SampledRoIs:
    """At most `count` RoIs an image out of its proposals, its people and jittered copies of them (§4.4)."""
    drawn = []
    for i, persons in enumerate(people):
        proposals, _ = select_proposals(logits[i].detach(), deltas[i].detach(), anchors, size, TRAINING_PROPOSALS)
        rois = torch.cat([proposals, persons.boxes, persons.jittered])
        labels, matched = roi_labels(rois, persons.boxes, persons.ignored)
        index, is_drawn = sample(labels, count, ROI_POSITIVES)
        drawn.append((is_drawn, torch.full_like(index, i), rois[index], labels[index].long(), matched[index]))
    return SampledRoIs(*drawn_rows(drawn))


def roi_losses(output: RoIOutput, rois: SampledRoIs, people: list[People]) -> dict[str, Tensor]:
    """L_cls and L_reg (class-specific deltas of the person class)."""
    cls = F.cross_entropy(output.class_logits, rois.labels)
    positive = (rois.labels == 1).nonzero().squeeze(1)
    if len(positive) == 0:
        return {"cls": cls, "reg": output.deltas.sum() * 0}
    boxes = gather_people([p.boxes for p in people], rois, positive)
    targets = encode(ROI_CODER, boxes, rois.boxes[positive])
    reg = F.smooth_l1_loss(output.deltas[positive, PERSON], targets, beta=1 / 9, reduction="sum") / len(rois.labels)
    return {"cls": cls, "reg": reg}


def gather_people(values: list[Tensor], rois: SampledRoIs, index: Tensor) -> Tensor:
    """For RoIs of the given index, the value (per image, per person) of the person that each one is matched to."""
    counts = [len(of_image) for of_image in values]
    before = torch.tensor([sum(counts[:i]) for i in range(len(counts))]).to(index.device, non_blocking=True)
    return torch.cat(values)[before[rois.image[index]] + rois.person[index]]  # all at once: a GPU waits for each int()


def identified(output: RoIOutput, rois: SampledRoIs, people: list[People]) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (M, D) of positive RoIs, their labels (M,) (−1 unknown) and the teacher's targets (M, D)."""
    positive = (rois.labels == 1).nonzero().squeeze(1)
    if len(positive) == 0:
        empty = output.embeddings[:0]
        return empty, rois.labels[:0], empty.detach()
    labels = gather_people([p.labels for p in people], rois, positive)
    return output.embeddings[positive], labels, gather_people([p.targets for p in people], rois, positive)


def detector_forward(
    model: QEEPS,
    images: Tensor,
    gallery_maps: FeatureMaps,
    people: list[People],
    count: int,
    extra_logits: Tensor | None = None,
    identify: bool = True,
) -> tuple[dict[str, Tensor], SampledRoIs, RoIOutput]:
    """RPN and RoI head on gallery maps: their four losses, the RoIs sampled and the heads' output on them.

    extra_logits: QRPN's, added to RPN's for choosing proposals (§4.2; by the sum alone, which a search does not do:
    here each person's own box is among the candidates, and none can be lost). identify: whether embeddings are wanted.
    """
    logits, deltas = model.rpn(gallery_maps.conv4)
    anchors = model.anchors(gallery_maps.conv4)
    losses = rpn_losses(logits, deltas, anchors, people)
    combined = logits if extra_logits is None else logits + extra_logits
    rois = sample_rois(combined, deltas, anchors, people, tuple(images.shape[-2:]), count)
    look = model.roi_head if identify else model.roi_head.detect
    output = look(gallery_maps, rois.per_image(len(images)))
    return losses | roi_losses(output, rois, people), rois, output
