"""The network for searching gives what the trained network gives: BatchNorm folded, pooled by products, conv5 early."""

from dataclasses import replace

import pytest
import torch
from networks import FEW, SIZE, person_boxes, pictures, random_maps, small_network
from torch import Tensor, nn
from torchvision.ops import box_iou

from qeeps_cli.evaluation.flops import count_operations
from qeeps_cli.model.basenet import FINE_STRIDE, STRIDE
from qeeps_cli.model.config import ROI_HEADS, VARIANTS
from qeeps_cli.model.deploy import for_search
from qeeps_cli.model.pooling import pool, pool_by_products
from qeeps_cli.model.qeeps import QEEPS, Found

CPU = torch.device("cpu")
ALL = replace(FEW, proposals=20, min_objectness=0.0)


def rois(count: int, seed: int = 0) -> Tensor:
    """Boxes of all sizes in and a little outside of an image of SIZE."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=generator) * torch.tensor([SIZE[1], SIZE[0]] * 2)
    low, high = torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])
    return torch.cat([low - 4, high + 5], dim=1)


@pytest.mark.parametrize("counts", [(0,), (1,), (7, 0, 3)])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("size", "stride"), [(14, STRIDE), ((24, 12), FINE_STRIDE)])
def test_pooling_by_products_is_roi_align(counts, every, size, stride):
    generator = torch.Generator().manual_seed(1)
    feature_map = torch.randn(len(counts), 5, SIZE[0] // stride, SIZE[1] // stride, generator=generator)
    boxes = [rois(count, seed) for seed, count in enumerate(counts)]
    expected = pool(feature_map, boxes, size, stride)[:, :, ::every, ::every]
    found = pool_by_products(feature_map, boxes, size, stride, every)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_many_rois_are_pooled_in_parts(monkeypatch):
    feature_map, boxes = torch.randn(1, 5, 6, 8), [rois(9)]
    at_once = pool_by_products(feature_map, boxes, 7)
    monkeypatch.setattr("qeeps_cli.model.pooling._CHUNK", 2 * 7 * 8 * 5)
    torch.testing.assert_close(pool_by_products(feature_map, boxes, 7), at_once)


def test_coordinates_keep_their_precision_on_a_bfloat16_map():
    ramp = torch.arange(64.0).repeat(4, 1)[None, None].to(torch.bfloat16)  # whole numbers below 256 are exact
    box = torch.tensor([[803.0, 8.0, 809.0, 40.0]])
    assert pool_by_products(ramp, [box], 2).float().mean().item() == pytest.approx(806 / STRIDE - 0.5, abs=0.2)


@pytest.mark.parametrize("roi_head", ROI_HEADS)
@pytest.mark.parametrize("variant", ["oim", "oim+qrpn", "qeeps"])
def test_the_network_for_searching_finds_the_same(variant, roi_head):
    seed = {"oim": 5, "oim+qrpn": 6 if roi_head == "pixels" else 0, "qeeps": 0}[variant]  # which find enough people
    model = small_network(variant, seed, roi_head=roi_head)
    fast = for_search(model, CPU, torch.float32)
    for query in (False, True):
        for expected, found in zip(search(model, query), search(fast, query), strict=True):
            assert len(expected.boxes) > 3
            assert_near(expected, found)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
@pytest.mark.parametrize(("roi_head", "id_stride"), [*((head, 32) for head in ROI_HEADS), ("fine", 16), ("pixels", 16)])
@torch.inference_mode()
def test_maps_and_heads_are_the_same(backbone, stride_in_1x1, roi_head, id_stride):
    model = small_network(backbone=backbone, stride_in_1x1=stride_in_1x1, roi_head=roi_head, id_stride=id_stride)
    fast = for_search(model, CPU, torch.float32)
    query = model.basenet.stem(pictures(1, seed=7))
    maps = model.basenet(pictures(2), query)
    for found, expected in zip(fast.basenet(pictures(2), fast.basenet.stem(pictures(1, seed=7))), maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    boxes = [rois(5).clamp(min=0, max=SIZE[0]), rois(3, seed=1).clamp(min=0, max=SIZE[0])]
    for found, expected in zip(fast.roi_head(maps[0], boxes), model.roi_head(maps[0], boxes), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def search(model: QEEPS, with_query: bool) -> list[Found]:
    with torch.inference_mode():
        query = model.encode_query(pictures(1, seed=7), person_boxes(1)) if with_query else None
        return model(pictures(2), query, ALL)


def assert_near(expected: Found, found: Found) -> None:
    """The same people; those that tie within rounding may have changed places."""
    iou, row = box_iou(expected.boxes, found.boxes).max(dim=1)
    assert len(expected.boxes) == len(found.boxes) and iou.min() > 0.99
    torch.testing.assert_close(found.person_scores[row], expected.person_scores, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores[row], expected.scores, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.embeddings[row], expected.embeddings, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("variant", "roi_head"),
    [*((variant, "shared") for variant in VARIANTS), *(("qeeps", head) for head in ROI_HEADS[1:])],
)
def test_the_copy_has_no_batchnorm_left_and_the_original_stays(variant, roi_head):
    model = small_network(variant, roi_head=roi_head)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = for_search(model, CPU, torch.bfloat16)
    assert not [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {module.weight.dtype for module in fast.modules() if isinstance(module, nn.Conv2d)} == {torch.bfloat16}
    assert {module.weight.dtype for module in fast.modules() if isinstance(module, nn.Linear)} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_copy_of_a_copy_is_the_same_again():
    once = for_search(small_network(backbone="resnet50"), CPU, torch.float32)
    twice = for_search(once, CPU, torch.float32)
    for one, other in zip(search(once, True), search(twice, True), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("roi_head", ROI_HEADS)
@torch.inference_mode()
def test_the_first_1x1_convolutions_of_conv5_run_once_a_map(roi_head):
    """On 8 RoIs of 4 × 4 cells they would cost more than on the 48 cells of the map."""
    model = small_network(backbone="resnet50", roi_head=roi_head)
    fast = for_search(model, CPU, torch.float32)
    maps, boxes = random_maps(1, conv4=1024), [rois(8).clamp(min=0, max=SIZE[0])]
    plain, own = (count_operations(lambda net=net: net.roi_head(maps, boxes))[1] for net in (model, fast))
    # with the stride in the 3×3, the 1×1 to 512 channels runs on all 4 × 4 cells and the shortcut to 2048 on 2 × 2
    on_rois = 8 * 2 * 1024 * (16 * 512 + 4 * 2048)
    on_map = 48 * 2 * 1024 * (512 + 2048)
    detection = 8 * 2 * 1024 * (49 * 512 + 16 * 2048)  # pools to 7 × 7, its shortcut to 4 × 4
    if roi_head == "separate":
        on_rois += detection
        on_map *= 2
    elif roi_head != "shared":  # identification does not look at this map
        on_rois = detection
    assert plain - own == on_rois - on_map


@pytest.mark.parametrize("roi_head", ROI_HEADS)
@torch.inference_mode()
def test_people_are_known_again_in_bfloat16(roi_head):
    model, boxes = small_network(roi_head=roi_head), [person_boxes(3), person_boxes(2)]
    fast = for_search(model, CPU, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = fast.embed_boxes(fast.own_maps(pictures(2)), boxes)
    expected = model.embed_boxes(model.own_maps(pictures(2)), boxes)
    assert (found * expected).sum(dim=1).min() > 0.999


def test_bfloat16_stays_near_float32():
    model = small_network()
    with torch.autocast("cpu", torch.bfloat16):
        found = search(for_search(model, CPU, torch.bfloat16), True)
    for expected, one in zip(search(model, True), found, strict=True):
        iou, row = box_iou(expected.boxes, one.boxes).max(dim=1)
        near = iou > 0.9
        assert near.float().mean() > 0.6  # NMS among random proposals turns on small differences
        torch.testing.assert_close(one.scores[row][near], expected.scores[near], rtol=0, atol=0.1)
