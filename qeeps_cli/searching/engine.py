"""The seam between pictures and the network: numpy and original pixels outside, torch and input pixels inside."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.device import precision
from qeeps_cli.errors import NotANumberError
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.preprocess import prepare_frame, prepare_query
from qeeps_cli.model.qeeps import QEEPS, Found, QueryInput
from qeeps_cli.types import Box, Detections


@dataclass
class QueryPerson:
    """A decoded query. rgb (H, W, 3) uint8 upright; box xyxy pixels of it, or None where the picture is the person's
    crop.

    `encoded` holds what the network needs of the query, once for each gallery size.
    """

    rgb: np.ndarray
    box: Box | None
    encoded: dict[tuple[int, int], QueryInput] = field(default_factory=dict, repr=False)


class Engine:
    """A network on a device, ready to search. Not thread-safe."""

    def __init__(self, model: QEEPS, device: torch.device, params: InferenceParams | None = None):
        self.model = model.eval().to(device, memory_format=torch.channels_last)
        self.device = device
        self.params = params or InferenceParams()
        self.dtype = precision(device)

    @torch.inference_mode()
    def detect(self, frames: list[np.ndarray]) -> list[Detections]:
        """People in frames, without a query: each frame is paired with itself. scores are the person scores.

        frames: pictures (H, W, 3) uint8 of one size.
        """
        return self._run(frames, None)

    @torch.inference_mode()
    def search(self, query: QueryPerson, frames: list[np.ndarray]) -> list[Detections]:
        """People in frames with their scores for the query: the paper's search, each pair through the Siamese network.

        frames: pictures (H, W, 3) uint8 of one size. Raises NotANumberError when a score is not finite.
        """
        return self._run(frames, query)

    @torch.inference_mode()
    def embed_query(self, query: QueryPerson) -> np.ndarray:
        """(D,) unit embedding of the query person, from the query picture paired with itself."""
        image, box = self._prepare_alone(query)
        with self._autocast():
            feature_map, _ = self.model.basenet(image)
            embedding = self.model.embed_boxes(feature_map, [box])
        return embedding[0].cpu().numpy()

    @torch.inference_mode()
    def score(self, query: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Scores (N,) float32 of embeddings (N, D) for a query's embedding (D,), as the network would give."""
        scores = self.model.similarity(
            torch.from_numpy(query[None]).to(self.device), torch.from_numpy(embeddings).to(self.device)
        )
        return scores.float().cpu().numpy()

    def _run(self, frames: list[np.ndarray], query: QueryPerson | None) -> list[Detections]:
        config = self.model.config
        prepared = [prepare_frame(rgb, config) for rgb in frames]
        images = self._to_device(torch.stack([image for image, _ in prepared]))
        with self._autocast():
            encoded = None if query is None else self._encode(query, tuple(images.shape[-2:]))
            found = self.model(images, encoded, self.params)
        return [
            _to_detections(f, factors, rgb.shape[:2])
            for f, (_, factors), rgb in zip(found, prepared, frames, strict=True)
        ]

    def _encode(self, query: QueryPerson, size: tuple[int, int]) -> QueryInput:
        if size not in query.encoded:
            placed = prepare_query(query.rgb, query.box, size, self.model.config)
            box = torch.tensor([placed.box], dtype=torch.float32, device=self.device)
            query.encoded[size] = self.model.encode_query(self._to_device(placed.image[None]), box)
        return query.encoded[size]

    def _prepare_alone(self, query: QueryPerson) -> tuple[Tensor, Tensor]:
        """The query picture at its own size, or a bare crop on a canvas of its own, with its box (1, 4)."""
        config = self.model.config
        if query.box is None:
            size = (config.shorter_side, config.longest_side)
            placed = prepare_query(query.rgb, None, size, config)
            image, box = placed.image, placed.box
        else:
            image, factors = prepare_frame(query.rgb, config)
            box = tuple(value * factors[i % 2] for i, value in enumerate(query.box))
        return self._to_device(image[None]), torch.tensor([box], dtype=torch.float32, device=self.device)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def _to_detections(found: Found, factors: tuple[float, float], shape: tuple[int, int]) -> Detections:
    """Back to the original frame's pixels, as numpy."""
    scores = found.scores.float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise NotANumberError(
            "the network gave a score that is not a number. Expected finite scores: the weights may be damaged "
            "(`qeeps info --weights FILE` checks them), or the device miscalculates (try --device cpu)."
        )
    scale = np.array([factors[0], factors[1]] * 2, np.float32)
    limits = np.array([shape[1], shape[0]] * 2, np.float32)
    boxes = np.clip(found.boxes.float().cpu().numpy() / scale, 0, limits)
    return Detections(boxes, found.person_scores.float().cpu().numpy(), scores, found.embeddings.float().cpu().numpy())
