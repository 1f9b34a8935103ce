"""Stage `embed`: the embedding alone, on canvases with one person each; no proposals, many identities a step."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.classifier import IdentityClassifier
from qeeps_cli.training.config import StageConfig
from qeeps_cli.training.crop_bank import MIN_HEIGHT, Crop, CropSampler, background_patches, paint_canvas
from qeeps_cli.training.losses import contrastive_loss, teacher_loss
from qeeps_cli.training.population import Population
from qeeps_cli.training.stage import Batch, stack_images, step_rng


class CropBatches:
    """Draws canvases for a step; the later stages use it beside their frames, so that the embedding keeps its
    breadth."""

    def __init__(self, population: Population, crops: list[Crop], teacher: np.ndarray, config: StageConfig):
        self.people, self.crops, self.teacher, self.config = population.people, crops, teacher, config
        self.sampler = CropSampler(population.people, population.by_label, population.label_weights)
        if config.identities and len(self.sampler.labels) == 0:
            raise DataError(
                f"no identity of the training data has two crops of at least {MIN_HEIGHT} pixels. Add a set that shows "
                "its people more than once, or set identities = 0 in a stage that trains on frames."
            )
        self.backgrounds = background_patches(crops, config.canvas)

    def draw(self, rng: np.random.Generator) -> Batch:
        """images (N, 3, H, W), boxes (N, 4), labels (N,), targets (N, D) of the teacher (NaN where there is none)."""
        rows = self.sampler.draw(rng, self.config.identities, self.config.crops_each)
        views = [paint_canvas(self.crops[i], self.backgrounds[rng.integers(len(self.backgrounds))], rng) for i in rows]
        return {
            "images": stack_images([image for image, _ in views]),
            "boxes": torch.from_numpy(np.stack([box for _, box in views])),
            "labels": torch.tensor([self.people[i].label for i in rows]),
            "targets": torch.from_numpy(self.teacher[rows]),
            "count": len(rows),
            "files": sorted({str(self.people[i].path) for i in rows}),
        }


def embed_crops(model: QEEPS, images: Tensor, boxes: Tensor) -> Tensor:
    """Embeddings (N, D) of canvases, each paired with itself as the cached search pairs frames."""
    return model.roi_head.embed(crop_features(model, images, boxes))


def crop_features(model: QEEPS, images: Tensor, boxes: Tensor) -> Tensor:
    """conv5 features (N, F) of canvases' people."""
    maps, _ = model.basenet(images)
    return model.roi_head.features(maps, list(boxes.split(1)))


def crop_pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a step's canvases with labels (N,) ≥ 0: their indices (P,) and (P,), and whether each is one person,
    (P,) 0 or 1."""
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    return first, second, (labels[first] == labels[second]).long()


class EmbedStage:
    """Contrastive, teacher and classification losses on canvases, and QSimNet's where the network has one already."""

    name = "embed"

    def __init__(
        self, config: StageConfig, crops: CropBatches, seed: int, classifier: IdentityClassifier | None = None
    ):
        if not config.identities or not any(map(config.weight_of, ("contrastive", "teacher", "classify"))):
            raise UsageError(
                "the stage embed needs identities above 0 and a loss that trains it: write, for example, "
                "losses = {contrastive = 1.0} under [stages.embed]."
            )
        self.config, self.crops, self.seed, self.classifier = config, crops, seed, classifier

    def batch(self, step: int) -> Batch:
        return self.crops.draw(step_rng(self.seed, self.name, step))

    def losses(self, model: QEEPS, batch: Batch) -> dict[str, Tensor]:
        embeddings = embed_crops(model, batch["images"], batch["boxes"])
        losses = {
            "contrastive": contrastive_loss(embeddings, batch["labels"], self.config.contrastive_scale),
            "teacher": teacher_loss(embeddings, batch["targets"]),
        }
        if self.classifier is not None:
            losses["classify"] = self.classifier(embeddings, batch["labels"])
        if model.qsimnet is not None and self.config.weight_of("sim_crops"):
            first, second, same = crop_pairs(batch["labels"])
            losses["sim_crops"] = F.cross_entropy(model.qsimnet(embeddings[first], embeddings[second]), same)
        return losses

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.classifier is None else list(self.classifier.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.classifier is None else self.classifier.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self.classifier is not None:
            self.classifier.load_state_dict(state)
