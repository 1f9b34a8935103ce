"""Stage `detect`: all that finds people, of a network whose identification sees nothing of it (pixel heads)."""

from torch import Tensor, nn

from qeeps_cli.model.preprocess import normalise
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.detector_losses import detector_forward
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.pair_batches import draw_pairs
from qeeps_cli.training.qeeps_stage import qrpn_losses
from qeeps_cli.training.stage import Batch, step_rng

IDENTITY_SHARE = 0.35  # of draws, two views each: rooms without people, and people without names, teach detection too


class DetectStage:
    """A share of the steps shows frames without a query, paired with themselves, as the cached search does; in the
    others a query guides the network, if anything of it is guided at all."""

    name = "detect"
    batch_is_stateless = True
    keeps = ("roi_head.id_", "qsimnet.")  # identification

    def __init__(self, config: StageConfig, frames: FrameBatches, model: QEEPS, seed: int):
        self.config, self.frames, self.seed = config, frames, seed
        self.is_guided = model.qrpn is not None and len(frames.labels) > 0

    def batch(self, step: int) -> Batch:
        rng = step_rng(self.seed, self.name, step)
        if self.is_guided and rng.random() >= self.config.self_pairs:
            _, shown = draw_pairs(self.frames, self.config.images, self.config.absent, rng)
            return shown
        return self.frames.batch(self.config.images, IDENTITY_SHARE, rng)

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        images, people = normalise(batch["images"]), batch["people"]
        losses: dict[str, Tensor] = {}
        query_logits = None
        if "query_images" in batch:
            gallery_maps, query_maps = model.basenet(images, model.basenet.stem(normalise(batch["query_images"])))
            query_logits = model.qrpn(gallery_maps.conv4, query_maps.conv4, batch["query_boxes"])
            anchors = model.anchors(gallery_maps.conv4)
            losses = qrpn_losses(query_logits, anchors, batch["query_people"], people, self.config)
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
