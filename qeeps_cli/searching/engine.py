"""The seam between pictures and the network: numpy and original pixels outside, torch and input pixels inside."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qeeps_cli.device import precision
from qeeps_cli.errors import NotANumberError
from qeeps_cli.model.basenet import Stem
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.model.deploy import for_search
from qeeps_cli.model.preprocess import prepare_frame, prepare_query
from qeeps_cli.model.qeeps import QEEPS, Found, QueryInput
from qeeps_cli.types import Box, Detections

# Part of every cache key: to be raised by whatever changes detections for the same weights and parameters. Of pairs
# alone there is PAIR_COMPUTATION (cache/pairs.py).
COMPUTATION = 2
KEPT_SIZES = 4  # gallery sizes for which a query stays encoded: megabytes each


@dataclass
class QueryPerson:
    """A decoded query. rgb (H, W, 3) uint8 upright; box xyxy pixels of it, or None where the picture is the person's
    crop.

    `encoded` holds what a network needs of the query, for the KEPT_SIZES gallery sizes that came last.
    """

    rgb: np.ndarray
    box: Box | None
    encoded: dict[tuple[QEEPS, tuple[int, int]], QueryInput] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Prepared:
    """Frames of one size, ready for any number of queries. factors: of each frame's boxes, (x, y). shapes: (H, W) as
    decoded."""

    stem: Stem
    factors: list[tuple[float, float]]
    shapes: list[tuple[int, int]]

    def pick(self, indices: Sequence[int]) -> "Prepared":
        """Some of the frames, for queries that are not searched for in all of them."""
        rows = list(indices)
        return Prepared(self.stem.pick(rows), [self.factors[i] for i in rows], [self.shapes[i] for i in rows])


class Engine:
    """A network on a device, ready to search. Not thread-safe.

    model: stays as it is; the engine works with a copy made for searching (`deploy.for_search`). plain: work with the
    model itself instead, in float32, operation by operation: what the fast paths are measured and tested against.
    weights_digest: of the checkpoint, for `fingerprint`.
    """

    def __init__(
        self,
        model: QEEPS,
        device: torch.device,
        params: InferenceParams | None = None,
        *,
        weights_digest: str = "",
        plain: bool = False,
    ):
        self.device = device
        self.params = params or InferenceParams()
        self.weights_digest = weights_digest
        self.plain = plain
        self.dtype = torch.float32 if plain else precision(device)
        self.model = model.to(device).eval() if plain else for_search(model, device, self.dtype)

    def with_params(self, params: InferenceParams) -> "Engine":
        """The same network with other parameters; nothing is copied."""
        other = copy.copy(self)
        other.params = params
        return other

    def fingerprint(self) -> dict[str, Any]:
        """All that decides what is found in a picture, as JSON types: the key of everything that is kept (pairs add
        PAIR_COMPUTATION)."""
        return {
            "computation": COMPUTATION,
            "weights": self.weights_digest,
            "model": self.model.config.cache_key(),
            "parameters": self.params.to_dict(),
            "device": self.device.type,
            "precision": str(self.dtype).removeprefix("torch."),
            "plain": self.plain,
        }

    @torch.inference_mode()
    def prepare(self, frames: list[np.ndarray]) -> Prepared:
        """frames: pictures (H, W, 3) uint8 of one size. What of the network needs no query is run here, once."""
        prepared = [prepare_frame(rgb, self.model.config) for rgb in frames]
        images = self._to_device(torch.stack([image for image, _ in prepared]))
        with self._autocast():
            stem = self.model.basenet.stem(images)
        return Prepared(stem, [factors for _, factors in prepared], [rgb.shape[:2] for rgb in frames])

    def detect(self, frames: list[np.ndarray] | Prepared, *, proposals: bool = False) -> list[Detections]:
        """People in frames, without a query: each frame is paired with itself. scores are the person scores.

        frames: pictures (H, W, 3) uint8 of one size, or what `prepare` made of them. proposals: keep them.
        """
        return self._run(frames, None, proposals)

    def search(
        self, query: QueryPerson, frames: list[np.ndarray] | Prepared, *, proposals: bool = False
    ) -> list[Detections]:
        """People in frames with their scores for the query: the paper's search, each pair through the Siamese network.

        frames: pictures (H, W, 3) uint8 of one size, or what `prepare` made of them; for several queries, prepare them
        once. Raises NotANumberError when a score is not finite.
        """
        return self._run(frames, query, proposals)

    @torch.inference_mode()
    def embed_query(self, query: QueryPerson) -> np.ndarray:
        """(D,) unit embedding of the query person, from the query picture paired with itself."""
        config = self.model.config
        if query.box is not None:
            image, factors = prepare_frame(query.rgb, config)
            box = np.array(query.box) * np.array([*factors, *factors])
        else:
            placed = prepare_query(query.rgb, None, (config.shorter_side, config.longest_side), config)
            image, box = placed.image, np.array(placed.box)
        boxes = torch.tensor(box[None], dtype=torch.float32, device=self.device)
        with self._autocast():
            maps = self.model.own_maps(self._to_device(image[None]))
            return self.model.embed_queries(maps, [boxes])[0].cpu().numpy()

    @torch.inference_mode()
    def score(self, query: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
        """Scores (N,) float32 of embeddings (N, D) for a query's embedding (D,), as the network would give."""
        scores = self.model.similarity(
            torch.from_numpy(query[None]).to(self.device), torch.from_numpy(embeddings).to(self.device)
        )
        return scores.float().cpu().numpy()

    def closed_form(self) -> tuple[np.ndarray, float] | None:
        """Weights (D,) float32 and bias of QSimNet's logit Σ w_d (q_d − g_d)² + b; None where scores are cosines."""
        if self.model.qsimnet is None:
            return None
        form = self.model.qsimnet.closed_form()
        return form.weight.cpu().numpy(), form.bias

    @torch.inference_mode()
    def _run(
        self, frames: list[np.ndarray] | Prepared, query: QueryPerson | None, proposals: bool
    ) -> list[Detections]:
        prepared = frames if isinstance(frames, Prepared) else self.prepare(frames)
        with self._autocast():
            encoded = None if query is None else self._encode(query, prepared.stem.size)
            found = self.model(prepared.stem, encoded, self.params)
        return [
            _to_detections(*each, proposals) for each in zip(found, prepared.factors, prepared.shapes, strict=True)
        ]

    def _encode(self, query: QueryPerson, size: tuple[int, int]) -> QueryInput:
        key = (self.model, size)
        if key not in query.encoded:
            placed = prepare_query(query.rgb, query.box, size, self.model.config)
            box = torch.tensor([placed.box], dtype=torch.float32, device=self.device)
            query.encoded[key] = self.model.encode_query(self._to_device(placed.image[None]), box)
            while len(query.encoded) > KEPT_SIZES:
                del query.encoded[next(iter(query.encoded))]
        return query.encoded[key]

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def _to_detections(
    found: Found, factors: tuple[float, float], shape: tuple[int, int], proposals: bool
) -> Detections:
    """Back to the original frame's pixels, as numpy."""
    scores = found.scores.float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise NotANumberError(
            "the network gave a score that is not a number. Expected finite scores: the weights may be damaged "
            "(`qeeps info --weights FILE` checks them), or the device miscalculates (try --device cpu)."
        )
    scale = np.array([factors[0], factors[1]] * 2, np.float32)
    limits = np.array([shape[1], shape[0]] * 2, np.float32)

    def original(boxes: Tensor) -> np.ndarray:
        return np.clip(boxes.float().cpu().numpy() / scale, 0, limits)

    return Detections(
        original(found.boxes),
        found.person_scores.float().cpu().numpy(),
        scores,
        found.embeddings.float().cpu().numpy(),
        original(found.proposals) if proposals else None,
    )
