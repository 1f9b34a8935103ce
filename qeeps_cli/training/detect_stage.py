"""Stage `detect`: all that finds people, of a network whose identification sees nothing of it (pixel heads)."""

import numpy as np
import torch
from torch import Tensor, nn

from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.detector_losses import detector_forward
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.pair_batches import draw_pair, person_box
from qeeps_cli.training.qeeps_stage import qrpn_loss
from qeeps_cli.training.stage import Batch, stack_images, step_rng

IDENTITY_SHARE = 0.35  # of draws, two views each: rooms without people, and people without names, teach detection too


class DetectStage:
    """A share of the steps shows frames without a query, paired with themselves, as the cached search does; in the
    others a query guides the network, if anything of it is guided at all."""

    name = "detect"
    batch_is_stateless = True
    keeps = ("roi_head.id_", "qsimnet.")  # identification

    def __init__(self, config: StageConfig, frames: FrameBatches, model: QEEPS, seed: int):
        self.config, self.frames, self.seed = config, frames, seed
        self.is_guided = (model.qrpn is not None or model.config.has_qsse) and len(frames.labels) > 0

    def batch(self, step: int) -> Batch:
        rng = step_rng(self.seed, self.name, step)
        if self.is_guided and rng.random() >= self.config.self_pairs:
            return self._pairs(rng)
        drawn = self.frames.draw(self.config.images, IDENTITY_SHARE, rng)
        views = [self.frames.view_of(frame, focus, rng, rng.random() < 0.5) for frame, focus in drawn]
        people = [self.frames.people_in(v, frame, rng) for v, (frame, _) in zip(views, drawn, strict=True)]
        return {
            "images": stack_images([v.rgb for v in views]),
            "people": people,
            "files": [self.frames.path_of(frame) for frame, _ in drawn],
            "count": len(views),
        }

    def _pairs(self, rng: np.random.Generator) -> Batch:
        pairs = [draw_pair(self.frames, self.config.absent, rng) for _ in range(self.config.images)]
        people = [self.frames.people_in(p.gallery, p.gallery_frame, rng) for p in pairs]
        return {
            "images": stack_images([p.gallery.rgb for p in pairs]),
            "people": people,
            "query_images": stack_images([p.query.rgb for p in pairs]),
            "query_boxes": torch.from_numpy(np.stack([p.box for p in pairs])),
            "query_people": [person_box(p, persons) for p, persons in zip(pairs, people, strict=True)],
            "files": [self.frames.path_of(i) for p in pairs for i in (p.query_frame, p.gallery_frame)],
            "count": len(pairs),
        }

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        images, people = batch["images"], batch["people"]
        losses: dict[str, Tensor] = {}
        query_logits = None
        if "query_images" in batch:
            gallery_maps, query_maps = model.basenet(images, model.basenet.stem(batch["query_images"]))
            if model.qrpn is not None:
                query_logits = model.qrpn(gallery_maps.conv4, query_maps.conv4, batch["query_boxes"])
                anchors = model.anchors(gallery_maps.conv4)
                losses["qrpn"] = qrpn_loss(query_logits, anchors, batch["query_people"], people)
        else:
            gallery_maps, _ = model.basenet(images)
        detector, _, _ = detector_forward(
            model, images, gallery_maps, people, self.config.rois, query_logits, identify=False
        )
        return losses | detector

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing lives beside the model."""
