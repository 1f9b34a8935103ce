"""Stage `oim`: the baseline of §3, detector and ID Net together on single images, with OIM."""

import torch
from torch import Tensor, nn

from qeeps_cli.model.preprocess import normalise
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.detector_losses import detector_forward, identified
from qeeps_cli.training.embed_stage import embed_crops
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.losses import contrastive_loss, teacher_loss
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.stage import Batch, step_rng

IDENTITY_SHARE = 0.75  # of draws that start from an identity; the rest draw frames, also those without names


class OIMStage:
    """Frames train the detector and the embedding; canvases with crops, if the recipe has any, the embedding alone."""

    name = "oim"
    batch_is_stateless = True
    keeps = ()

    def __init__(self, config: StageConfig, frames: FrameBatches, crops: CropBatches, oim: OIMLoss, seed: int):
        self.config, self.frames, self.crops, self.oim, self.seed = config, frames, crops, oim, seed

    def batch(self, step: int) -> Batch:
        rng = step_rng(self.seed, self.name, step)
        frames = self.frames.batch(self.config.images, IDENTITY_SHARE, rng)
        crops = self.crops.draw(rng) if self.config.identities else None
        return frames | {"crops": crops, "files": frames["files"] + (crops["files"] if crops else [])}

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        images, people = normalise(batch["images"]), batch["people"]
        gallery_maps, _ = model.basenet(images)
        losses, rois, output = detector_forward(model, images, gallery_maps, people, self.config.rois)
        embeddings, labels, targets = identified(output, rois, people)
        if batch["crops"]:
            crops = batch["crops"]
            embeddings = torch.cat([embeddings, embed_crops(model, crops["images"], crops["boxes"])])
            labels = torch.cat([labels, crops["labels"]])
            targets = torch.cat([targets, self.crops.targets_of(crops)])
        return losses | embedding_losses(embeddings, labels, targets, self.oim, self.config)

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return self.oim.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.oim.load_state_dict(state)


def embedding_losses(
    embeddings: Tensor, labels: Tensor, targets: Tensor, oim: OIMLoss, config: StageConfig
) -> dict[str, Tensor]:
    """L_oim and the auxiliary terms that the recipe asks for, on embeddings (N, D).

    labels: (N,). targets: (N, D) of the teacher.
    """
    losses = {}
    if config.weight_of("oim"):
        losses["oim"] = oim(embeddings, labels)
    if config.weight_of("contrastive"):
        losses["contrastive"] = contrastive_loss(embeddings, labels, config.contrastive_scale)
    if config.weight_of("teacher"):
        losses["teacher"] = teacher_loss(embeddings, targets)
    return losses
