"""Stage `qeeps`: the whole network on query-gallery pairs, with all seven terms of Eq. 3."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.errors import DataError
from qeeps_cli.model.preprocess import normalise
from qeeps_cli.model.qeeps import QEEPS, QueryInput
from qeeps_cli.model.torchvision_parts import boxes as box_ops
from qeeps_cli.training.assign import qrpn_labels, sample, sim_labels
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.detector_losses import People, SampledRoIs, detector_forward, drawn_rows, identified
from qeeps_cli.training.embed_stage import crop_pairs, embed_crops
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.oim_stage import embedding_losses
from qeeps_cli.training.pair_batches import Pair, draw_pairs
from qeeps_cli.training.stage import Batch, step_rng

QRPN_SAMPLES = 128  # anchors an image (§4.4)


class QEEPSStage:
    """A share of the steps pairs both images with themselves, as the cached search does; the others are the paper's."""

    name = "qeeps"
    batch_is_stateless = True
    keeps = ()

    def __init__(self, config: StageConfig, frames: FrameBatches, crops: CropBatches, oim: OIMLoss, seed: int):
        if len(frames.labels) == 0:
            raise DataError(
                "the stage qeeps trains on pairs of frames that show one person, but no identity of the training "
                "frames is labelled twice. Add such a set, or leave the stage out."
            )
        self.config, self.frames, self.crops, self.oim, self.seed = config, frames, crops, oim, seed

    def batch(self, step: int) -> Batch:
        rng = step_rng(self.seed, self.name, step)
        self_paired = bool(rng.random() < self.config.self_pairs)
        pairs, shown = draw_pairs(self.frames, self.config.images, self.config.absent, rng)
        crops = self.crops.draw(rng) if self.config.identities else None
        return shown | {
            "self_paired": self_paired,
            "query_labels": torch.tensor([p.label for p in pairs]),
            "query_targets": torch.stack([self._target(p) for p in pairs]),
            "crops": crops,
            "files": shown["files"] + (crops["files"] if crops else []),
        }

    def _target(self, pair: Pair) -> Tensor:
        row = self.frames.person_of[pair.query_frame, pair.query_row]
        return torch.from_numpy(self.frames.teacher[row])

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        images, query_images, people = normalise(batch["images"]), normalise(batch["query_images"]), batch["people"]
        query = QueryInput(model.basenet.stem(query_images), batch["query_boxes"])
        if batch["self_paired"]:
            gallery_maps, _ = model.basenet(images)
            query_maps, _ = model.basenet(query_images)
        else:
            gallery_maps, query_maps = model.basenet(images, query.stem)
        losses: dict[str, Tensor] = {}
        query_logits = None
        if model.qrpn is not None and not batch["self_paired"]:
            query_logits = model.qrpn(gallery_maps.conv4, query_maps.conv4, query.boxes)
            anchors = model.anchors(gallery_maps.conv4)
            losses |= qrpn_losses(query_logits, anchors, batch["query_people"], people, self.config)
        detector, rois, output = detector_forward(model, images, gallery_maps, people, self.config.rois, query_logits)
        losses |= detector
        # as the gallery's people are seen, not in the mirror, too: the losses compare all with all
        query_embeddings = model.embed_boxes(query_maps, list(query.boxes.split(1)))
        embeddings, labels, targets = identified(output, rois, people)
        embeddings = torch.cat([embeddings, query_embeddings])
        labels = torch.cat([labels, batch["query_labels"]])
        targets = torch.cat([targets, batch["query_targets"]])
        crops = batch["crops"]
        crop_embeddings = embed_crops(model, crops["images"], crops["boxes"]) if crops else query_embeddings[:0]
        if crops:
            embeddings = torch.cat([embeddings, crop_embeddings])
            labels = torch.cat([labels, crops["labels"]])
            targets = torch.cat([targets, self.crops.targets_of(crops)])
        losses |= embedding_losses(embeddings, labels, targets, self.oim, self.config)
        if model.qsimnet is not None:
            crop_labels = crops["labels"] if crops else labels[:0]
            losses |= sim_losses(
                model, query_embeddings, output.embeddings, rois, batch["query_people"], crop_embeddings, crop_labels
            )
        return losses

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return self.oim.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.oim.load_state_dict(state)


def qrpn_losses(
    logits: Tensor, anchors: Tensor, query_people: list[Tensor], people: list[People], config: StageConfig
) -> dict[str, Tensor]:
    """L_qrpn and, where the recipe weighs it in, the auxiliary `qrpn_people`. logits (B, N): QRPN's own."""
    losses = {"qrpn": qrpn_loss(logits, anchors, query_people, people)}
    if config.weight_of("qrpn_people"):
        losses["qrpn_people"] = qrpn_people_loss(logits, anchors, query_people, people)
    return losses


def qrpn_loss(logits: Tensor, anchors: Tensor, query_people: list[Tensor], people: list[People]) -> Tensor:
    """L_qrpn (Eq. 4): cross-entropy over QRPN_SAMPLES anchors an image. logits (B, N): QRPN's own."""
    drawn = []
    for i, persons in enumerate(people):
        labels = qrpn_labels(anchors, query_people[i], torch.cat([persons.boxes, persons.ignored]))
        index, is_drawn = sample(labels, QRPN_SAMPLES, 0.5)
        drawn.append((is_drawn, torch.full_like(index, i), index, labels[index]))
    image, index, labels = drawn_rows(drawn)
    return F.binary_cross_entropy_with_logits(logits[image, index], labels, reduction="sum") / max(1, len(labels))


def qrpn_people_loss(logits: Tensor, anchors: Tensor, query_people: list[Tensor], people: list[People]) -> Tensor:
    """Who of a gallery image's people is asked for: cross-entropy over their `logits_of_people`. logits (B, N): QRPN's.

    L_qrpn takes its negatives from the background alone (§4.4): whether an anchor is positive then shows in the gallery
    image, without the query (docs/decisions.md). Images without the person, or with nobody else, do not count; 0 where
    none counts. Another box of the person asked for is not somebody else; people without a name are.
    """
    terms = []
    for i, persons in enumerate(people):
        if len(query_people[i]) == 0 or len(persons.boxes) < 2:
            continue
        of_people = logits_of_people(logits[i], anchors, persons.boxes)
        asked = box_ops.box_iou(persons.boxes, query_people[i])[:, 0].argmax()
        again = (persons.labels == persons.labels[asked]) & (torch.arange(len(of_people), device=asked.device) != asked)
        terms.append(F.cross_entropy(of_people.masked_fill(again, -torch.inf)[None], asked[None]))
    return torch.stack(terms).mean() if terms else logits.sum() * 0


def logits_of_people(logits: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """(P,) float32 means of logits (N,) over each person's anchors: those at IoU ≥ 0.6 with their box (P, 4), as QRPN's
    positives are, and their best; 0 where none overlaps it."""
    iou = box_ops.box_iou(boxes, anchors)
    own = (iou >= 0.6) | ((iou == iou.amax(dim=1, keepdim=True)) & (iou > 0))
    return torch.where(own, logits, 0).sum(dim=1) / own.sum(dim=1).clamp(min=1)


def sim_losses(
    model: QEEPS,
    query_embeddings: Tensor,
    roi_embeddings: Tensor,
    rois: SampledRoIs,
    query_people: list[Tensor],
    crop_embeddings: Tensor,
    crop_labels: Tensor,
) -> dict[str, Tensor]:
    """L_sim of the pairs' RoIs, and the same loss on all pairs of crops (auxiliary `sim_crops`).

    One pass of QSimNet serves both, so that its BatchNorm sees many people a step and not only two queries.
    """
    boxes = rois.per_image(len(query_people))
    labels = torch.cat([sim_labels(own, person) for own, person in zip(boxes, query_people, strict=True)])
    first, second, same = crop_pairs(crop_labels)
    logits = model.qsimnet(
        torch.cat([query_embeddings[rois.image], crop_embeddings[first]]),
        torch.cat([roi_embeddings, crop_embeddings[second]]),
    )
    losses = {"sim": F.cross_entropy(logits[: len(labels)], labels)}
    if len(first):
        losses["sim_crops"] = F.cross_entropy(logits[len(labels) :], same)
    return losses
