"""Floating-point operations of a network's convolutions and linear layers, two for each multiply-add."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode  # where its documentation has it
from torch.utils.flop_counter import FlopCounterMode

from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS

PAPER_PROPOSALS = 300  # §5.3

# Layers only: RoIAlign may run as matrix products, which are no layers of the network, and would make a faster way to
# compute the same look like more work.
_LAYERS = (torch.ops.aten.convolution, torch.ops.aten.addmm)

Result = TypeVar("Result")


def count_operations(run: Callable[[], Result]) -> tuple[Result, int]:
    """What run() returns, and what the layers did meanwhile, on any device, under inference_mode too."""
    with FlopCounterMode(display=False) as counter:
        result = run()
    by_operator = counter.get_flop_counts()["Global"]
    return result, sum(by_operator.get(operator, 0) for operator in _LAYERS)


@torch.no_grad()
def pair_operations(config: ModelConfig, size: tuple[int, int], proposals: int = PAPER_PROPOSALS) -> int:
    """What one pair costs: both images, and one pass of the RoI head over `proposals` RoIs and the query's.

    size: (height, width) of the network's input. Only shapes pass through the network; nothing is computed. Separate
    heads identify people that they have found, whose number is not in the shapes: that is not counted.
    """
    with FakeTensorMode():
        model = QEEPS(config).eval()
        images, box, rois = torch.empty(1, 3, *size), torch.empty(1, 4), torch.empty(proposals, 4)

        def run() -> None:
            query = model.encode_query(images, box)
            gallery_maps, query_maps = model.basenet(images, query.stem)
            model.rpn(gallery_maps.conv4)
            if model.qrpn is not None:
                model.qrpn(gallery_maps.conv4, query_maps.conv4, query.boxes)
            found = model.roi_head.detect(gallery_maps, [rois])
            embedding = model.query_embedding(query_maps, query)
            if found.embeddings is not None:
                model.similarity(embedding, found.embeddings)

        return count_operations(run)[1]
