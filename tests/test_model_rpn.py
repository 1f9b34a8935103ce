"""Anchors, RPN, QRPN and the selection of proposals (§4.2, §5.2)."""

import pytest
import torch
from networks import FEW, pictures, randomise, small_config, small_network
from torch import Tensor

from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.rpn import QRPN, RPN, Anchors, select_proposals

CHANNELS = 32


def feature_map(count: int = 1, height: int = 6, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed))


def random_qrpn(seed: int = 0) -> QRPN:
    torch.manual_seed(seed)
    return randomise(QRPN(CHANNELS, small_config()), seed).eval()


def anchors_of(size: tuple[int, int]) -> Tensor:
    """Anchors of an image of this size; the ResNet's map has ⌈side / 16⌉ cells."""
    height, width = size
    return Anchors(ModelConfig())(torch.zeros(1, 1, -(-height // 16), -(-width // 16)))


def test_fifteen_anchors_a_cell_of_the_papers_sizes_and_ratios():
    anchors = anchors_of((16, 16))
    assert anchors.shape == (15, 4) and anchors.dtype == torch.float32
    assert torch.equal(anchors[:, :2], -anchors[:, 2:])  # centred on the cell
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    sides = torch.tensor([32.0, 64, 128, 256, 512]).repeat(3)
    ratios = torch.tensor([1.0, 2, 3]).repeat_interleave(5)
    # h = side · √ratio and w = side / √ratio, each half rounded to a pixel
    assert ((height - sides * ratios.sqrt()).abs() <= 1).all()
    assert ((width - sides / ratios.sqrt()).abs() <= 1).all()
    golden = {0: [-16, -16, 16, 16], 5: [-11, -23, 11, 23], 10: [-9, -28, 9, 28], 14: [-148, -443, 148, 443]}
    for index, box in golden.items():
        assert anchors[index].tolist() == box


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((16, 16), (1, 1)),
        ((96, 128), (6, 8)),
        ((100, 130), (7, 9)),
        ((562, 1000), (36, 63)),  # 1920×1080 at 600/1000: the map's cells are still 16 pixels apart
        ((2, 1000), (1, 63)),
    ],
)
def test_anchors_stand_16_pixels_apart_whatever_the_image_size(size, cells):
    anchors = anchors_of(size)
    assert len(anchors) == cells[0] * cells[1] * 15
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).reshape(*cells, 15, 2)
    y, x = torch.meshgrid(torch.arange(cells[0]) * 16.0, torch.arange(cells[1]) * 16.0, indexing="ij")
    assert torch.equal(centres, torch.stack([x, y], dim=2)[:, :, None].expand(-1, -1, 15, -1))


@pytest.mark.parametrize("size", [(100, 130), (90, 97)])
def test_the_map_has_as_many_cells_as_there_are_anchors(size):
    model = small_network("oim")
    image = pictures(1, size=size)
    with torch.no_grad():
        gallery_maps, _ = model.basenet(image)
        logits, deltas = model.rpn(gallery_maps.conv4)
        anchors = model.anchors(gallery_maps.conv4)
    assert logits.shape == (1, len(anchors)) and deltas.shape == (1, len(anchors), 4)
    assert torch.equal(anchors, anchors_of(size))


@torch.no_grad()
def test_logits_and_deltas_are_in_the_order_of_the_anchors():
    config = ModelConfig(max_rpn_channels=1)
    rpn = RPN(1, config)
    for parameter in rpn.parameters():
        parameter.zero_()
    rpn.conv.weight[0, 0, 1, 1] = 1  # passes its input on
    rpn.cls_logits.weight.fill_(100)
    rpn.cls_logits.bias.copy_(torch.arange(15.0))
    rpn.bbox_pred.bias.copy_(torch.arange(60.0))
    features = torch.zeros(2, 1, 3, 5)
    features[1, 0, 2, 1] = 1  # row 2, column 1 of the second image
    logits, deltas = rpn(features)
    assert logits.shape == (2, 3 * 5 * 15) and deltas.shape == (2, 3 * 5 * 15, 4)
    assert torch.equal(logits[0], torch.arange(15.0).repeat(15))
    first = (2 * 5 + 1) * 15
    assert logits[1].argsort(descending=True)[:15].sort().values.tolist() == list(range(first, first + 15))
    assert torch.equal(deltas[0], torch.arange(60.0).reshape(15, 4).repeat(15, 1))
    anchors = anchors_of((48, 80))
    best = anchors[logits[1].argmax()]  # ratio 3, side 512, at (x, y) = (16, 32)
    assert best.tolist() == [16 - 148, 32 - 443, 16 + 148, 32 + 443]


def test_qrpn_has_no_regression_and_looks_at_all_pixels_of_the_query():
    qrpn = QRPN(CHANNELS, small_config(pool_size=14))
    assert qrpn.rpn.bbox_pred is None and not any("bbox" in name for name in qrpn.state_dict())
    assert qrpn.fc1.weight.shape == (CHANNELS // 16, CHANNELS * 14 * 14)
    assert qrpn.fc2.weight.shape == (CHANNELS, CHANNELS // 16)


@torch.no_grad()
def test_excitation_depends_on_the_query_box_and_on_nothing_else_of_the_query():
    qrpn = random_qrpn()
    box = torch.tensor([[32.0, 32.0, 64.0, 80.0]])  # cells 2–4 by 2–5
    query = feature_map(seed=1)
    before = qrpn.excitation(query, box)
    assert before.shape == (1, CHANNELS, 1, 1) and 0 < before.min() and before.max() < 1

    outside = query + 10
    outside[:, :, 1:6, 1:5] = query[:, :, 1:6, 1:5]  # RoIAlign reaches a cell beyond the box
    assert torch.equal(qrpn.excitation(outside, box), before)
    inside = query.clone()
    inside[:, :, 3, 3] += 10
    assert (qrpn.excitation(inside, box) - before).abs().max() > 1e-3
    moved = qrpn.excitation(query, box + 16)
    assert (moved - before).abs().max() > 1e-3


@torch.no_grad()
def test_excitation_knows_where_in_the_query_a_pattern_is():
    """§4.2: FC1 is applied to all channels and all pixels, not to their average."""
    qrpn = random_qrpn()
    query, box = feature_map(seed=1), torch.tensor([[0.0, 0.0, 128.0, 96.0]])
    upside_down = qrpn.excitation(query.flip(2), box)
    assert (upside_down - qrpn.excitation(query, box)).abs().max() > 1e-3


@torch.no_grad()
def test_qrpn_re_weights_the_gallerys_channels_before_its_own_rpn():
    qrpn = random_qrpn()
    gallery, query, box = feature_map(2, seed=1), feature_map(1, seed=2), torch.tensor([[32.0, 16.0, 80.0, 80.0]])
    s = qrpn.excitation(query, box)
    expected, none = qrpn.rpn(gallery * s)
    assert none is None
    assert torch.equal(qrpn(gallery, query, box), expected)
    assert (qrpn(gallery, query.roll(1, dims=1), box) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_one_box_serves_a_query_map_for_each_gallery_image():
    """With QSSE the query's map depends on the gallery image, its box does not."""
    qrpn = random_qrpn()
    query, box = feature_map(3, seed=2), torch.tensor([[32.0, 16.0, 80.0, 80.0]])
    together = qrpn.excitation(query, box)
    assert together.shape == (3, CHANNELS, 1, 1)
    torch.testing.assert_close(together, torch.cat([qrpn.excitation(query[i : i + 1], box) for i in range(3)]))


@torch.no_grad()
def proposals_and_logits(model, seed: int = 1):
    images, query_image = pictures(2, seed=seed), pictures(1, seed=9)
    query = model.encode_query(query_image, torch.tensor([[30.0, 10.0, 70.0, 90.0]]))
    gallery_maps, query_maps = model.basenet(images, query.stem)
    return images, gallery_maps, query_maps, query


@torch.no_grad()
@pytest.mark.parametrize("variant", ["oim+qrpn", "qeeps"])
def test_an_anchors_score_is_the_sum_of_both_logits_with_the_deltas_of_the_rpn(variant):
    model = small_network(variant)
    images, gallery_maps, query_maps, query = proposals_and_logits(model)
    own, deltas = model.rpn(gallery_maps.conv4)
    guided = model.qrpn(gallery_maps.conv4, query_maps.conv4, query.boxes)
    assert guided.std() > 0.01
    anchors = model.anchors(gallery_maps.conv4)
    found = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, query, FEW)
    for i in range(2):
        boxes, logits = select_proposals(own[i] + guided[i], deltas[i], anchors, (96, 128), FEW, own[i])
        assert torch.equal(found[i], boxes)
        assert (logits.diff() <= 0).all()
    without = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, None, FEW)
    assert not any(torch.equal(a, b) for a, b in zip(found, without, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("constant", [0.0, 4.0])
def test_with_a_constant_qrpn_the_proposals_are_the_rpns(constant):
    model = small_network("qeeps")
    model.qrpn.rpn.cls_logits.weight.zero_()
    model.qrpn.rpn.cls_logits.bias.fill_(constant)
    images, gallery_maps, query_maps, query = proposals_and_logits(model)
    guided = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, query, FEW)
    plain = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, None, FEW)
    assert all(len(boxes) == 8 for boxes in plain)
    assert all(torch.equal(a, b) for a, b in zip(guided, plain, strict=True))


def select(logits: list[float], anchors: list[list[float]], **params) -> tuple[list, list]:
    boxes, kept = select_proposals(
        torch.tensor(logits), torch.zeros(len(logits), 4), torch.tensor(anchors).reshape(-1, 4), (96, 128),
        InferenceParams(**params),
    )  # fmt: skip
    return boxes.tolist(), kept.tolist()


LEFT, LEFT_TOO, RIGHT = [0.0, 0, 40, 80], [0.0, 0, 40, 76], [60.0, 0, 100, 80]


@pytest.mark.parametrize(
    ("logits", "anchors", "params", "boxes", "kept"),
    [
        ([], [], {}, [], []),
        ([1.0, 2.0], [LEFT, RIGHT], {}, [RIGHT, LEFT], [2.0, 1.0]),
        ([1.0, 2.0], [LEFT, LEFT_TOO], {}, [LEFT_TOO], [2.0]),  # IoU 0.95
        ([1.0, 2.0], [LEFT, LEFT_TOO], {"proposal_nms": 0.96}, [LEFT_TOO, LEFT], [2.0, 1.0]),
        ([1.0, 2.0], [LEFT, RIGHT], {"proposals": 1}, [RIGHT], [2.0]),
        ([1.0, 2.0], [LEFT, RIGHT], {"pre_nms": 1}, [RIGHT], [2.0]),
        ([-0.1, 0.1], [LEFT, RIGHT], {"min_objectness": 0.5}, [RIGHT], [pytest.approx(0.1)]),
        ([1.0, 2.0], [LEFT, RIGHT], {"min_objectness": 1.1}, [], []),
        ([1.0], [[-20.0, -9, 40, 200]], {}, [[0.0, 0, 40, 96]], [1.0]),  # cut to the image
        ([1.0, 2.0], [LEFT, [128.0, 0, 160, 80]], {}, [LEFT], [1.0]),  # nothing of it is in the image
    ],
)
def test_selection(logits, anchors, params, boxes, kept):
    assert select(logits, anchors, **params) == (boxes, kept)


@pytest.mark.parametrize(
    ("summed", "boxes", "kept"),
    [
        ([-3.0, 2.0], [RIGHT, LEFT], [2.0, -3.0]),  # QRPN does not recognise LEFT, whom RPN finds
        ([3.0, -3.0], [LEFT], [3.0]),  # nobody finds RIGHT
        ([3.0, 2.0], [LEFT, RIGHT], [3.0, 2.0]),  # QRPN adds RIGHT
    ],
)
def test_what_rpn_or_the_sum_finds_likely_stays_in_the_order_of_the_sum(summed, boxes, kept):
    assert guided([1.0, -1.0], summed, [LEFT, RIGHT], min_objectness=0.5) == (boxes, kept)


def guided(rpn_logits: list[float], summed: list[float], anchors: list[list[float]], **params) -> tuple[list, list]:
    boxes, kept = select_proposals(
        torch.tensor(summed), torch.zeros(len(summed), 4), torch.tensor(anchors).reshape(-1, 4), (96, 128),
        InferenceParams(**params), torch.tensor(rpn_logits),
    )  # fmt: skip
    return boxes.tolist(), kept.tolist()


@pytest.mark.parametrize(
    ("rpn_logits", "summed", "anchors", "params", "boxes", "kept"),
    [
        ([2.0, 1.0], [1.0, 3.0], [LEFT, LEFT_TOO], {}, [LEFT], [1.0]),  # RPN's box, though QRPN likes the other one
        ([2.0, 1.0], [1.0, 2.0], [LEFT, RIGHT], {}, [RIGHT, LEFT], [2.0, 1.0]),
        ([2.0, 1.0], [1.0, 2.0], [LEFT, RIGHT], {"proposals": 1}, [RIGHT], [2.0]),  # of too many, the sum's
        ([5.0, 1.0], [-5.0, 2.0], [LEFT, RIGHT], {"pre_nms": 1}, [LEFT], [-5.0]),  # either's best is a candidate
        ([1.0, 1.0], [0.0, 5.0], [LEFT, RIGHT], {"pre_nms": 1}, [RIGHT], [5.0]),
        ([-9.0, -9.0], [-9.5, -8.0], [LEFT, RIGHT], {"min_objectness": 0.0}, [RIGHT, LEFT], [-8.0, -9.5]),
        ([], [], [], {}, [], []),
    ],
)
def test_rpn_chooses_among_boxes_of_one_person_and_the_sum_among_people(
    rpn_logits, summed, anchors, params, boxes, kept
):
    assert guided(rpn_logits, summed, anchors, **params) == (boxes, kept)


def test_what_is_unlikely_does_not_decide_between_equal_ones():
    """Half-precision logits are often equal; what a frame shows would else not be what caches hold of it."""
    random = torch.Generator().manual_seed(1)
    corners = torch.rand(4000, 2, generator=random) * torch.tensor([60.0, 40.0])
    anchors = torch.cat([corners, corners + 30], dim=1)
    logits = torch.randint(-3, 3, (4000,), generator=random).float()
    likely = logits.sigmoid() >= 0.2

    def chosen(kept: torch.Tensor) -> torch.Tensor:
        deltas = torch.zeros(int(kept.sum()), 4)
        return select_proposals(logits[kept], deltas, anchors[kept], (96, 128), InferenceParams(proposals=40))[0]

    assert torch.equal(chosen(torch.ones_like(likely)), chosen(likely))


@torch.no_grad()
def test_somebody_whom_qrpn_does_not_recognise_is_proposed_all_the_same():
    model = small_network("qeeps")
    images, gallery_maps, query_maps, query = proposals_and_logits(model)
    sure = InferenceParams(proposals=8, min_objectness=0.45)
    plain = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, None, sure)
    assert all(len(boxes) for boxes in plain)
    model.qrpn.rpn.cls_logits.weight.zero_()
    model.qrpn.rpn.cls_logits.bias.fill_(-20.0)
    guided = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, query, sure)
    assert all(torch.equal(a, b) for a, b in zip(guided, plain, strict=True))


def test_each_anchor_is_moved_by_its_own_deltas():
    deltas = torch.tensor([[0.0, 0.1, 0, 0], [0.25, 0, 0, 0]])  # down by a tenth of 80, right by a quarter of 40
    boxes, _ = select_proposals(torch.tensor([1.0, 2.0]), deltas, torch.tensor([LEFT, RIGHT]), (96, 128), FEW)
    assert boxes.tolist() == [[70.0, 0, 110, 80], [0.0, 8, 40, 88]]
