"""RoI pooling, ClsIdenNet and box deltas."""

import math

import pytest
import torch
from networks import random_maps, randomise, small_config
from torchvision.models.detection._utils import BoxCoder

from qeeps_cli.model.box_coding import ROI_CODER, RPN_CODER, decode, encode
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.pooling import pool
from qeeps_cli.model.roi_head import PERSON, ClsIdenNet, RoIOutput

ROI = torch.tensor([[0.0, 0.0, 100.0, 200.0]])


@pytest.mark.parametrize(
    ("coder", "deltas", "box"),
    [
        (RPN_CODER, [0.0, 0.0, 0.0, 0.0], [0.0, 0, 100, 200]),
        (RPN_CODER, [0.1, 0.05, math.log(2), 0.0], [-40.0, 10, 160, 210]),
        (ROI_CODER, [1.0, 0.5, 5 * math.log(2), 0.0], [-40.0, 10, 160, 210]),
        (ROI_CODER, [0.0, -1.0, 0.0, 5 * math.log(0.5)], [0.0, 30, 100, 130]),
    ],
)
def test_deltas_move_the_centre_by_sides_and_scale_by_exponentials(coder, deltas, box):
    deltas, box = torch.tensor([deltas]), torch.tensor([box])
    torch.testing.assert_close(decode(coder, deltas, ROI), box, rtol=0, atol=1e-4)
    torch.testing.assert_close(encode(coder, box, ROI), deltas, rtol=0, atol=1e-5)


def test_boxes_are_decoded_in_float32_and_absurd_deltas_stay_finite():
    deltas = torch.tensor([[0.1, 0.0, 100.0, 0.0]]).bfloat16()
    boxes = decode(RPN_CODER, deltas, ROI)
    assert boxes.dtype == torch.float32 and boxes.isfinite().all()
    assert decode(RPN_CODER, torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert isinstance(ROI_CODER, BoxCoder)


def ramp(width: int, offset: float = 0.0) -> torch.Tensor:
    """A map whose value is the column less an offset, so that a pooled value says where it was taken."""
    return (torch.arange(float(width)) - offset).expand(1, 1, 8, width).contiguous()


def test_pooling_is_aligned_to_the_pixels_centres():
    # The middle of pixels 32..96 is 64, which is 64/16 − ½ in columns; bins of a quarter of 4 columns lie 1 apart.
    pooled = pool(ramp(12), [torch.tensor([[32.0, 32.0, 96.0, 96.0]])], 4)
    assert pooled.shape == (1, 1, 4, 4)
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([2.0, 3.0, 4.0, 5.0]))


@pytest.mark.parametrize("autocast", [False, True])
def test_pooling_is_in_float32_even_of_a_bfloat16_map(autocast):
    """In bfloat16 the coordinates 1001.3 and 1041.3 would be 1000 and 1040, a pixel and a third away."""
    features = ramp(70, offset=62).bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pooled = pool(features, [torch.tensor([[1001.3, 32.0, 1041.3, 96.0]])], 14)
    assert pooled.dtype == torch.bfloat16
    assert float(pooled.float().mean()) == pytest.approx(1021.3 / 16 - 0.5 - 62, abs=0.01)


def test_pooling_takes_each_list_from_its_own_image():
    features = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8), torch.full((1, 8, 8), 2.0)])
    box = torch.tensor([[16.0, 16.0, 48.0, 48.0]])
    pooled = pool(features, [box[:0], box, box.repeat(2, 1)], 2)
    assert pooled.shape == (3, 1, 2, 2)
    assert pooled.mean((1, 2, 3)).tolist() == [1.0, 2.0, 2.0]


def random_head(**changes) -> ClsIdenNet:
    torch.manual_seed(0)
    return randomise(ClsIdenNet(small_config(**changes)), seed=0).eval()


@torch.no_grad()
@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (2, 5)])
def test_head_gives_a_row_for_each_roi_and_unit_embeddings(counts):
    head = random_head()
    rois = [torch.tensor([[8.0 * i, 0, 8.0 * i + 40, 80] for i in range(n)]).reshape(-1, 4) for n in counts]
    output = head(random_maps(2), rois)
    total = sum(counts)
    assert output.class_logits.shape == (total, 2)
    assert output.deltas.shape == (total, 2, 4)
    assert output.embeddings.shape == (total, 32)
    assert output.person_scores.shape == (total,)
    assert output.refined(torch.cat(rois)).shape == (total, 4)
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(total))


@torch.no_grad()
def test_the_papers_head_pools_14x14_for_conv5_and_embeds_in_256():
    torch.manual_seed(0)
    head = ClsIdenNet(ModelConfig(backbone="resnet18")).eval()
    seen = []
    head.layer4.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output.shape)))
    output = head(random_maps(1), [ROI / 2])
    assert seen == [((1, 256, 14, 14), (1, 512, 7, 7))]
    assert output.embeddings.shape == (1, 256)
    assert output.class_logits.abs().max() < 1 and output.deltas.abs().max() < 0.1  # heads start near zero


@torch.no_grad()
def test_outputs_are_float32_under_autocast():
    head = random_head()
    with torch.autocast("cpu", torch.bfloat16):
        output = head(random_maps(1, torch.bfloat16), [ROI / 2])
    assert all(tensor.dtype == torch.float32 for tensor in output)
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(1))


def test_the_persons_class_gives_the_score_and_the_deltas():
    garbage = torch.tensor([3.0, 3.0, 3.0, 3.0])
    persons = torch.tensor([1.0, 0.5, 5 * math.log(2), 0.0])
    deltas = torch.stack([garbage, persons])[None]
    output = RoIOutput(torch.tensor([[0.0, math.log(3)]]), deltas, torch.zeros(1, 32))
    assert PERSON == 1
    assert float(output.person_scores) == pytest.approx(0.75)
    torch.testing.assert_close(output.refined(ROI), torch.tensor([[-40.0, 10, 160, 210]]), rtol=0, atol=1e-4)
