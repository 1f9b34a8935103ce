"""Stage `embed`: the embedding alone, on canvases with one person each; no proposals, many identities a step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.errors import UsageError
from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.preprocess import normalise
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.classifier import IdentityClassifier
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.losses import contrastive_loss, teacher_loss
from qeeps_cli.training.population import UNKNOWN
from qeeps_cli.training.stage import Batch, step_rng


def embed_crops(model: QEEPS, images: Tensor, boxes: Tensor) -> Tensor:
    """Embeddings (N, D) of canvases (N, 3, H, W) uint8, each paired with itself as the cached search pairs frames."""
    return model.roi_head.embed(crop_features(model, images, boxes))


def crop_features(model: QEEPS, images: Tensor, boxes: Tensor) -> Tensor:
    """conv5 features (N, F) of canvases' people."""
    return model.roi_head.features(model.own_maps(normalise(images)), list(boxes.split(1)))


def mirrored(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) with left and right exchanged, and a box (4,) xyxy in each, (N, 4)."""
    left, top, right, bottom = boxes.unbind(dim=1)
    width = images.shape[3]
    return images.flip(3), torch.stack([width - right, top, width - left, bottom], dim=1)


def crop_pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a step's canvases with labels (N,): their indices (P,) and (P,), and whether each is one person,
    (P,) 0 or 1. Someone UNKNOWN is nobody else."""
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    return first, second, ((labels[first] == labels[second]) & (labels[first] != UNKNOWN)).long()


class KeptCanvases:
    """What `repeat` keeps of a stage's steps: maps in half precision, boxes, labels and targets.

    Each in one block of memory for all steps, and nothing else that PyTorch allocates: any tensor that stayed between
    the large ones that come and go with each step, however small, would leave holes as large as themselves, several
    times what is kept.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._blocks: dict[str, Tensor] = {}
        self._rest: dict[int, Batch] = {}

    def keep(self, place: int, batch: Batch, maps: FeatureMaps) -> None:
        """The step that comes at `place` of the steps that are kept."""
        for key in ("boxes", "labels", "targets"):
            self._copy(key, place, batch[key], batch[key].dtype)
        for key, value in maps._asdict().items():
            if value is not None:
                self._copy(key, place, value, torch.half)
        self._rest[place] = {key: batch[key] for key in ("count", "files")}

    def get(self, place: int) -> Batch | None:
        """What was kept, with `maps` in place of images; None where nothing was."""
        if place not in self._rest:
            return None
        own = {key: block[place] for key, block in self._blocks.items()}
        maps = FeatureMaps(*(own.pop(key, None) for key in FeatureMaps._fields))
        return self._rest[place] | own | {"maps": maps}

    def _copy(self, key: str, place: int, value: Tensor, dtype: torch.dtype) -> None:
        if key not in self._blocks:
            self._blocks[key] = value.new_empty((self._steps, *value.shape), dtype=dtype)
        self._blocks[key][place].copy_(value)


class EmbedStage:
    """Contrastive, teacher and classification losses on canvases, and QSimNet's where the network has one already.

    Canvases that come again (`repeat`) are kept as what identification looks at, in half precision: the feature map of
    a frozen BaseNet (74 KB of a canvas of 192×96 pixels), so that painting them, the teacher and the trunk are paid for
    once, or the canvas itself (110 KB), which then comes mirrored every other time.
    """

    name = "embed"
    keeps = ()

    def __init__(
        self, config: StageConfig, crops: CropBatches, seed: int, classifier: IdentityClassifier | None = None
    ):
        if not config.identities or not any(map(config.weight_of, ("contrastive", "teacher", "classify"))):
            raise UsageError(
                "the stage embed needs identities above 0 and a loss that trains it: write, for example, "
                "losses = {contrastive = 1.0} under [stages.embed]."
            )
        if config.repeat and config.trunk_lr:
            raise UsageError(
                f"repeat = {config.repeat} keeps what BaseNet makes of the canvases, which changes with it: write "
                "trunk_lr = 0.0 under [stages.embed], too, or take repeat out."
            )
        self.config, self.crops, self.seed, self.classifier = config, crops, seed, classifier
        self.kept = KeptCanvases(min(config.repeat, config.steps))
        self.batch_is_stateless = not config.repeat  # what is kept is here, and not in another process

    def batch(self, step: int) -> Batch:
        if not self.config.repeat:
            return self.crops.draw(step_rng(self.seed, self.name, step))
        again, place = divmod(step, self.config.repeat)
        batch = self.kept.get(place) or self.crops.draw(step_rng(self.seed, self.name, place))
        return batch | {"place": place, "mirrored": again % 2 == 1}

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        embeddings, targets = self._embeddings(model, batch)
        losses = {
            "contrastive": contrastive_loss(embeddings, batch["labels"], self.config.contrastive_scale),
            "teacher": teacher_loss(embeddings, targets),
        }
        if self.classifier is not None:
            losses["classify"] = self.classifier(embeddings, batch["labels"])
        if model.qsimnet is not None and self.config.weight_of("sim_crops"):
            first, second, same = crop_pairs(batch["labels"])
            losses["sim_crops"] = F.cross_entropy(model.qsimnet(embeddings[first], embeddings[second]), same)
        return losses

    def _embeddings(self, model: QEEPS, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the canvases, and the teacher's targets for them, (N, D) each."""
        if not self.config.repeat:
            return embed_crops(model, batch["images"], batch["boxes"]), self.crops.targets_of(batch)
        if "maps" not in batch:
            with torch.no_grad():
                maps = model.own_maps(normalise(batch["images"]))
            self.kept.keep(batch["place"], batch | {"targets": self.crops.targets_of(batch)}, maps)
            batch = batch | self.kept.get(batch["place"])
        dtype = batch["targets"].dtype
        maps, boxes = FeatureMaps(*[None if m is None else m.to(dtype) for m in batch["maps"]]), batch["boxes"]
        if batch["mirrored"] and maps.images is not None:
            images, boxes = mirrored(maps.images, boxes)
            maps = maps._replace(images=images)
        return model.roi_head.embed(model.roi_head.features(maps, list(boxes.split(1)))), batch["targets"]

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.classifier is None else list(self.classifier.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.classifier is None else self.classifier.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self.classifier is not None:
            self.classifier.load_state_dict(state)
