"""Fine heads: identification pools conv3's map and has a conv4 and a conv5 of its own."""

import pytest
import torch
from networks import SIZE, person_boxes, pictures, random_maps, randomise, small_config, small_network

from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsse import INITIAL_EXCITATION
from qeeps_cli.model.roi_head import FineHeads, PixelHeads, build_roi_head
from qeeps_cli.training.initialise import fill

BOX = torch.tensor([[0.0, 0.0, 50.0, 90.0]])


def random_head(kind: type[FineHeads] = FineHeads) -> FineHeads:
    torch.manual_seed(0)
    return randomise(kind(small_config()), seed=0).eval()


@torch.no_grad()
@pytest.mark.parametrize("counts", [(0, 0), (3, 0), (2, 5)])
@pytest.mark.parametrize("kind", [FineHeads, PixelHeads])
def test_the_head_gives_a_row_for_each_roi(counts, kind):
    head = random_head(kind)
    rois = [torch.tensor([[8.0 * i, 0, 8.0 * i + 40, 80] for i in range(n)]).reshape(-1, 4) for n in counts]
    maps = random_maps(2)
    output, total = head(maps, rois), sum(counts)
    assert output.class_logits.shape == (total, 2) and output.deltas.shape == (total, 2, 4)
    assert head.features(maps, rois).shape == (total, 3 * 512)
    torch.testing.assert_close(output.embeddings.norm(dim=1), torch.ones(total))


@torch.no_grad()
def test_identification_pools_24x12_cells_of_conv3_and_averages_three_stripes():
    torch.manual_seed(0)
    head = build_roi_head(ModelConfig(backbone="resnet18", roi_head="fine")).eval()
    seen = []
    for layer in (head.id_layer3, head.id_layer4):
        layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output)))
    features = head.features(random_maps(1), [BOX])
    assert [tuple(shape) for shape, _ in seen] == [(1, 128, 24, 12), (1, 256, 12, 6)]
    cells = seen[1][1]
    assert cells.shape == (1, 512, 6, 3)
    stripes = features.reshape(512, 3)  # of each channel from the topmost down
    for i in range(3):
        torch.testing.assert_close(stripes[:, i], cells[0, :, 2 * i : 2 * i + 2].mean(dim=(1, 2)))


@torch.no_grad()
def test_where_a_colour_is_worn_tells_people_apart():
    """A map upside down has the same average, but other stripes."""
    head = random_head()
    upright = random_maps(1)
    whole = torch.tensor([[0.0, 0.0, SIZE[1], SIZE[0]]])
    turned = upright._replace(conv3=upright.conv3.flip(2))
    embeddings = [head(maps, [whole]).embeddings for maps in (upright, turned)]
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.05


def test_identification_looks_at_conv3_alone_and_detection_at_conv4_alone():
    head = FineHeads(small_config())
    maps = FeatureMaps(*(m.requires_grad_() for m in random_maps(1)))
    head(maps, [BOX]).embeddings[:, 0].sum().backward()
    assert maps.conv3.grad is not None and maps.conv4.grad is None
    assert head.layer4[0].conv1.weight.grad is None and head.id_layer3[0].conv1.weight.grad is not None
    maps.conv3.grad = None
    output = head.detect(maps, [BOX])
    (output.class_logits[:, 0].sum() + output.deltas.sum()).backward()
    assert maps.conv3.grad is None and maps.conv4.grad is not None


@torch.no_grad()
def test_the_query_guides_the_embedding_through_conv3():
    model = small_network(roi_head="fine")
    image = pictures(1, seed=3)
    embeddings = []
    for seed in (7, 8):
        query = model.encode_query(pictures(1, seed=seed), person_boxes(1))
        gallery_maps, _ = model.basenet(image, query.stem)
        embeddings.append(model.embed_boxes(gallery_maps, [BOX]))
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3


def test_separate_heads_start_fine_ones():
    torch.manual_seed(1)
    separate = small_network("qeeps", roi_head="separate")
    model = QEEPS(small_config("qeeps", roi_head="fine"))
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = fill(model, separate.state_dict(), "the test")
    own = model.state_dict()
    for name, tensor in separate.basenet.layer3.state_dict().items():
        halved = name.endswith(("bn2.weight", "bn2.bias"))  # what QSSE did on average
        expected = tensor * INITIAL_EXCITATION if halved else tensor
        assert torch.equal(own[f"roi_head.id_layer3.{name}"], expected), name
    for name, tensor in separate.state_dict().items():
        if name.startswith(("roi_head.id_net.", "qsimnet.")):  # another input; and what compares its output
            assert torch.equal(own[name], fresh[name]) and name not in loaded
        else:
            assert torch.equal(own[name], tensor), name


def test_fine_heads_go_on_as_they_are():
    model = small_network("qeeps", roi_head="fine")
    again = QEEPS(small_config("qeeps", roi_head="fine"))
    fill(again, model.state_dict(), "the test")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_a_batch_gives_what_single_images_give():
    model = small_network("oim", roi_head="fine")
    maps, _ = model.basenet(pictures(2))
    both = model.embed_boxes(maps, [BOX, BOX + 8])
    alone, _ = model.basenet(pictures(2)[1:])
    torch.testing.assert_close(model.embed_boxes(alone, [BOX + 8]), both[1:], rtol=1e-4, atol=1e-5)
