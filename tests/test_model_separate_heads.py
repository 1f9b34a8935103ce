"""Separate heads: a conv5 each for detection and identification, and embeddings of refined boxes only."""

from dataclasses import replace

import pytest
import torch
from networks import FEW, person_boxes, pictures, random_maps, randomise, small_config, small_network
from torchvision.ops import box_iou

from qeeps_cli.errors import UsageError
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS, Found
from qeeps_cli.model.roi_head import ClsIdenNet, SeparateHeads, build_roi_head
from qeeps_cli.training.initialise import fill

BOX = torch.tensor([[0.0, 0.0, 50.0, 100.0]])


@pytest.fixture(scope="module")
def network() -> QEEPS:
    return small_network(roi_head="separate")


@torch.no_grad()
def search(network: QEEPS, with_query: bool = True, **changes) -> Found:
    query = network.encode_query(pictures(1, seed=7), person_boxes(1)) if with_query else None
    return network(pictures(1, seed=3), query, replace(FEW, proposals=20, min_objectness=0.0, **changes))[0]


@torch.no_grad()
@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (2, 5)])
def test_the_head_gives_a_row_for_each_roi(counts):
    torch.manual_seed(0)
    head = randomise(SeparateHeads(small_config()), seed=0).eval()
    rois = [torch.tensor([[8.0 * i, 0, 8.0 * i + 40, 80] for i in range(n)]).reshape(-1, 4) for n in counts]
    maps = random_maps(2)
    output, detected = head(maps, rois), head.detect(maps, rois)
    total = sum(counts)
    assert output.class_logits.shape == (total, 2) and output.deltas.shape == (total, 2, 4)
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(total))
    assert detected.embeddings is None
    assert torch.equal(detected.class_logits, output.class_logits) and torch.equal(detected.deltas, output.deltas)


@torch.no_grad()
def test_detection_pools_7x7_and_identification_14x14_into_a_conv5_of_its_own():
    torch.manual_seed(0)
    head = build_roi_head(ModelConfig(backbone="resnet18", roi_head="separate")).eval()
    seen = []
    for layer in (head.layer4, head.id_layer4):
        layer.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0].shape[2:])))
    output = head(random_maps(1), [BOX])
    pooled = {module is head.id_layer4: tuple(size) for module, size in seen}
    assert pooled == {False: (7, 7), True: (14, 14)}
    assert output.class_logits.abs().max() < 1 and output.deltas.abs().max() < 0.2  # heads start near zero


@torch.no_grad()
def test_regnet_sees_where_in_the_roi_something_is():
    """The same content mirrored has the same average, but moves the box elsewhere."""
    torch.manual_seed(0)
    separate = randomise(SeparateHeads(small_config()), seed=0).eval()
    cells = torch.randn(1, 512, 4, 4)
    there, mirrored = (separate._detected(c.flatten(1)).deltas for c in (cells, cells.flip(3)))
    assert (there - mirrored).abs().max() > 0.1


def test_identification_does_not_reach_the_detectors_conv5_nor_detection_the_other():
    head = SeparateHeads(small_config())
    output = head(random_maps(1), [BOX])
    output.embeddings[:, 0].sum().backward()
    assert head.layer4[0].conv1.weight.grad is None and head.id_layer4[0].conv1.weight.grad is not None
    head.zero_grad()
    output = head.detect(random_maps(1), [BOX])
    (output.class_logits[:, 0].sum() + output.deltas.sum()).backward()
    assert head.layer4[0].conv1.weight.grad is not None and head.id_layer4[0].conv1.weight.grad is None


@torch.no_grad()
@pytest.mark.parametrize("second_pass", [True, False])
def test_embeddings_and_scores_are_those_of_the_boxes_found(network, second_pass):
    found = search(network, second_pass=second_pass)
    assert len(found.boxes) > 3
    query = network.encode_query(pictures(1, seed=7), person_boxes(1))
    gallery_maps, query_maps = network.basenet(pictures(1, seed=3), query.stem)
    embeddings = network.embed_boxes(gallery_maps, [found.boxes])
    torch.testing.assert_close(found.embeddings, embeddings)
    scores = network.similarity(network.query_embedding(query_maps, query), embeddings)
    torch.testing.assert_close(found.scores, scores)
    assert (found.scores.diff() <= 0).all()


def test_people_overlap_by_no_more_than_nms_allows(network):
    boxes = search(network).boxes
    overlap = box_iou(boxes, boxes).fill_diagonal_(0)
    assert float(overlap.max()) <= FEW.nms
    alone = search(network, with_query=False)
    assert len(alone.boxes) > 3 and torch.equal(alone.scores, alone.person_scores)


def test_nobody_is_no_error(network):
    for with_query in (True, False):
        found = search(network, with_query, min_person_score=1.0)
        assert found.boxes.shape == (0, 4) and found.embeddings.shape == (0, 32)


def test_a_shared_head_starts_both_and_separate_heads_go_on_as_they_are():
    torch.manual_seed(1)
    shared = QEEPS(small_config("oim"))
    model = QEEPS(small_config("oim", roi_head="separate"))
    fill(model, shared.state_dict(), "the test")
    head = model.roi_head
    for name, tensor in shared.roi_head.layer4.state_dict().items():
        assert torch.equal(head.layer4.state_dict()[name], tensor)
        assert torch.equal(head.id_layer4.state_dict()[name], tensor)
    assert torch.equal(head.id_net.weight, shared.roi_head.id_net.weight)
    again = QEEPS(small_config("qeeps", roi_head="separate"))
    with torch.no_grad():
        head.id_layer4[0].conv1.weight.add_(1)
    fill(again, model.state_dict(), "the test")
    assert torch.equal(again.roi_head.id_layer4[0].conv1.weight, head.id_layer4[0].conv1.weight)
    assert torch.equal(again.roi_head.reg_net.weight, head.reg_net.weight)


def test_the_papers_head_is_the_default_and_others_are_refused():
    assert type(build_roi_head(small_config())) is ClsIdenNet
    assert isinstance(build_roi_head(small_config(roi_head="separate")), SeparateHeads)
    with pytest.raises(UsageError, match="shared, separate, fine"):
        small_config(roi_head="both")
