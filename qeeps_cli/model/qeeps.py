"""QEEPS assembled (Fig. 2): BaseNet → RPN + QRPN → ClsIdenNet → QSimNet. No arithmetic of its own."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from qeeps_cli.errors import NotANumberError
from qeeps_cli.model.basenet import BaseNet, FeatureMaps, Stem
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.qsimnet import QSimNet
from qeeps_cli.model.roi_head import RoIOutput, build_roi_head
from qeeps_cli.model.rpn import QRPN, RPN, Anchors, select_proposals
from qeeps_cli.model.torchvision_parts import boxes as box_ops


class QueryInput(NamedTuple):
    """A query at the network's door.

    stem: `BaseNet.stem` of 1 or B query images. boxes: (1 or B, 4) float32 xyxy input pixels. embeddings: (1 or B, D),
    where no gallery image changes them; None: they follow from each pair's maps.
    """

    stem: Stem
    boxes: Tensor
    embeddings: Tensor | None = None


class Found(NamedTuple):
    """People in one image.

    boxes: (N, 4) xyxy input pixels. person_scores: (N,). scores: (N,) descending. embeddings: (N, D). proposals: (P, 4)
    xyxy input pixels, which the RoI head looked at.
    """

    boxes: Tensor
    person_scores: Tensor
    scores: Tensor
    embeddings: Tensor
    proposals: Tensor


class QEEPS(nn.Module):
    """The network of every variant; `config` says which blocks it has."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.basenet = BaseNet(config)
        channels = self.basenet.out_channels
        self.anchors = Anchors(config)
        self.rpn = RPN(channels, config)
        self.qrpn = QRPN(channels, config) if config.has_qrpn else None
        self.roi_head = build_roi_head(config)
        self.qsimnet = QSimNet(config.embedding_dim) if config.has_qsimnet else None
        for parameter in [*self.basenet.conv1.parameters(), *self.basenet.bn1.parameters()]:
            parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "QEEPS":
        """Training mode, in which the ResNet's BatchNorm statistics stay frozen (QSimNet's do not)."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode_query(self, images: Tensor, boxes: Tensor) -> QueryInput:
        """Query images (B, 3, H, W) with one box each, once; then pair them with any number of gallery batches."""
        query = QueryInput(self.basenet.stem(images), boxes)
        if self.roi_head.looks_at != "images":
            return query
        return query._replace(embeddings=self.query_embedding(self.own_maps(images), query))

    def proposals(
        self,
        size: tuple[int, int],
        gallery_maps: FeatureMaps,
        query_maps: FeatureMaps,
        query: QueryInput | None,
        params: InferenceParams,
    ) -> list[Tensor]:
        """Proposals of each image of size (H, W), (P_i, 4) xyxy. With a query and a QRPN the sum of both logits orders
        them (§4.2), and RPN's choose among those that overlap (docs/decisions.md)."""
        rpn_logits, deltas = self.rpn(gallery_maps.conv4)
        logits = rpn_logits
        if query is not None and self.qrpn is not None:
            logits = rpn_logits + self.qrpn(gallery_maps.conv4, query_maps.conv4, query.boxes)
        _require_numbers("the proposals", logits, deltas)
        anchors = self.anchors(gallery_maps.conv4)
        return [
            select_proposals(logits[i], deltas[i], anchors, size, params, rpn_logits[i])[0] for i in range(len(logits))
        ]

    def query_embedding(self, query_maps: FeatureMaps, query: QueryInput) -> Tensor:
        """Embeddings (1 or B, D) of the query people, pooled from the query stream."""
        if query.embeddings is not None:
            return query.embeddings
        seen = getattr(query_maps, self.roi_head.looks_at)
        return self.embed_queries(query_maps, list(query.boxes.expand(len(seen), -1).split(1)))

    def own_maps(self, images: Tensor) -> FeatureMaps:
        """What identification looks at of images (B, 3, H, W), each paired with itself, and nothing else."""
        looks_at = self.roi_head.looks_at
        if looks_at == "images":
            return FeatureMaps(images, None, None)
        maps, _ = self.basenet(images, conv4=looks_at == "conv4")
        return FeatureMaps(None, None, maps.conv4) if looks_at == "conv4" else FeatureMaps(None, maps.conv3, None)

    def embed_boxes(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        """Embeddings (R, D) of given boxes, (R_i, 4) xyxy input pixels per image."""
        return self.roi_head.embed(self.roi_head.features(maps, boxes))

    def embed_queries(self, maps: FeatureMaps, boxes: list[Tensor]) -> Tensor:
        """The same of query people."""
        return self.roi_head.embed(self.roi_head.query_features(maps, boxes))

    def similarity(self, query_embeddings: Tensor, embeddings: Tensor) -> Tensor:
        """Scores (N,) of embeddings (N, D) against queries (N or 1, D): QSimNet's, or the cosine without one."""
        if self.qsimnet is None:
            return (query_embeddings * embeddings).sum(dim=1)
        return self.qsimnet.score(query_embeddings, embeddings)

    @torch.no_grad()
    def forward(self, gallery: Tensor | Stem, query: QueryInput | None, params: InferenceParams) -> list[Found]:
        """Search a batch of gallery images of one size.

        gallery: (B, 3, H, W) normalised, or their `BaseNet.stem`. query: None finds people without a query: each image
        is paired with itself, RPN alone proposes, and `scores` are the person scores. Returns one Found per image.
        Raises NotANumberError.
        """
        size = tuple(gallery.shape[-2:]) if isinstance(gallery, Tensor) else gallery.size
        gallery_maps, query_maps = self.basenet(gallery, None if query is None else query.stem)
        proposals = self.proposals(size, gallery_maps, query_maps, query, params)
        query_embeddings = None
        if query is not None:
            query_embeddings = self.query_embedding(query_maps, query).expand(len(gallery_maps.conv4), -1)
        output = self.roi_head.detect(gallery_maps, proposals)
        _require_numbers("the people found", *(tensor for tensor in output if tensor is not None))
        people = self._people(output, proposals, size, params)
        if self.roi_head.is_separate:
            return self._identify_late(gallery_maps, people, query_embeddings, params)
        return self._identify_early(gallery_maps, people, query_embeddings, params)

    def _people(
        self, output: RoIOutput, proposals: list[Tensor], size: tuple[int, int], params: InferenceParams
    ) -> list[Found]:
        """Of each image, the refined proposals that ClsNet does not doubt (§4.3), with their person scores."""
        boxes = box_ops.clip_boxes_to_image(output.refined(torch.cat(proposals)), size)
        embeddings = output.embeddings
        if embeddings is None:  # still to be pooled
            embeddings = boxes.new_zeros(len(boxes), self.config.embedding_dim)
        counts = [len(p) for p in proposals]
        columns = zip(*(t.split(counts) for t in (boxes, output.person_scores, embeddings)), proposals, strict=True)
        people = []
        for boxes, person_scores, embeddings, proposed in columns:
            candidates = Found(boxes, person_scores, person_scores, embeddings, proposed)
            candidates = _pick(candidates, candidates.person_scores >= params.min_person_score)
            people.append(_pick(candidates, box_ops.remove_small_boxes(candidates.boxes, 1.0)))
        return people

    def _identify_early(
        self, gallery_maps: FeatureMaps, people: list[Found], query_embeddings: Tensor | None, params: InferenceParams
    ) -> list[Found]:
        """The paper's order: NMS on the score for the query (§4.3), or on ClsNet's without one, of embeddings that were
        pooled on the proposals."""
        found = []
        for i, candidates in enumerate(people):
            if query_embeddings is not None:
                scores = self.similarity(query_embeddings[i : i + 1], candidates.embeddings)
                candidates = candidates._replace(scores=scores)
            found.append(_suppress(candidates, params.nms))
        return self._embed_again(gallery_maps, found, query_embeddings) if params.second_pass else found

    def _identify_late(
        self, gallery_maps: FeatureMaps, people: list[Found], query_embeddings: Tensor | None, params: InferenceParams
    ) -> list[Found]:
        """Separate heads: NMS on ClsNet's scores, then embeddings of the boxes that are left (deviation,
        docs/decisions.md)."""
        return self._embed_again(gallery_maps, [_suppress(p, params.nms) for p in people], query_embeddings)

    def _embed_again(
        self, gallery_maps: FeatureMaps, found: list[Found], query_embeddings: Tensor | None
    ) -> list[Found]:
        """Embeddings and scores, pooled on the boxes that RegNet refined (deviation, docs/decisions.md)."""
        counts = [len(f.boxes) for f in found]
        if sum(counts) == 0:
            return found
        again = []
        for i, embeddings in enumerate(self.embed_boxes(gallery_maps, [f.boxes for f in found]).split(counts)):
            one = found[i]._replace(embeddings=embeddings)
            if query_embeddings is not None:
                one = one._replace(scores=self.similarity(query_embeddings[i : i + 1], embeddings))
            again.append(_pick(one, one.scores.argsort(descending=True, stable=True)))
        return again


def _suppress(found: Found, iou: float) -> Found:
    """NMS on the scores; what is left is in their descending order."""
    return _pick(found, box_ops.nms(found.boxes, found.scores, iou))


def _require_numbers(what: str, *tensors: Tensor) -> None:
    """Every threshold drops a NaN: without this, damaged weights would find nobody and say nothing."""
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise NotANumberError(
            f"the network gave {what} values that are not numbers. Expected finite ones: the weights may be damaged, "
            "or the device miscalculates (try --device cpu)."
        )


def _pick(found: Found, index: Tensor) -> Found:
    return Found(*(tensor[index] for tensor in found[:-1]), found.proposals)
