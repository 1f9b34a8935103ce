"""Pixel heads: identification looks at the picture itself, with a ResNet of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import FEW, person_boxes, pictures, random_maps, randomise, small_config, small_network

from qeeps_cli.errors import UsageError
from qeeps_cli.model.basenet import FeatureMaps
from qeeps_cli.model.config import ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsse import INITIAL_EXCITATION
from qeeps_cli.model.roi_head import PIXELS_AT_ONCE, PixelHeads, build_roi_head
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.training.initialise import fill

BOX = torch.tensor([[8.0, 4.0, 48.0, 84.0]])


def random_head() -> PixelHeads:
    torch.manual_seed(0)
    return randomise(PixelHeads(small_config()), seed=0).eval()


def seen_by(head: PixelHeads, images: torch.Tensor, rois: list[torch.Tensor]) -> torch.Tensor:
    """What id_conv1 is shown of the RoIs."""
    seen = []
    head.id_conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    head.features(FeatureMaps(images, None, None), rois)
    return torch.cat(seen)


@torch.no_grad()
def test_identification_is_a_resnet_on_192x96_pixels_and_averages_three_stripes():
    torch.manual_seed(0)
    head = build_roi_head(ModelConfig(backbone="resnet18", roi_head="pixels")).eval()
    seen = []
    for layer in (head.id_conv1, head.id_layer3, head.id_layer4):
        layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output)))
    features = head.features(random_maps(1), [BOX])
    assert [tuple(shape) for shape, _ in seen] == [(1, 3, 192, 96), (1, 128, 24, 12), (1, 256, 12, 6)]
    cells, stripes = seen[2][1], features.reshape(512, 3)  # of each channel from the topmost down
    for i in range(3):
        torch.testing.assert_close(stripes[:, i], cells[0, :, 2 * i : 2 * i + 2].mean(dim=(1, 2)))


@pytest.mark.parametrize("roi_head", ["fine", "pixels"])
@pytest.mark.parametrize(("backbone", "stride_in_1x1"), [("resnet18", False), ("resnet50", False), ("resnet50", True)])
@torch.no_grad()
def test_conv5_at_a_stride_of_16_keeps_conv4s_cells(roi_head, backbone, stride_in_1x1):
    """Each of three stripes is then four rows of cells; nothing of detection changes, and names and shapes do not."""
    changes = {"backbone": backbone, "stride_in_1x1": stride_in_1x1, "roi_head": roi_head}
    model, usual = small_network(**changes, id_stride=16), small_network(**changes)
    head, maps = model.roi_head, random_maps(1)
    seen = []
    head.id_layer4.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
    maps = maps._replace(conv3=torch.rand(1, head.id_layer3[0].conv1.in_channels, 12, 16))
    stripes = head.features(maps, [BOX]).reshape(-1, 3)  # of each channel from the topmost down
    before, cells = seen
    assert before.shape[2:] == cells.shape[2:] == (12, 6) and 3 * cells.shape[1] == head.id_net.in_features
    for i in range(3):
        torch.testing.assert_close(stripes[:, i], cells[0, :, 4 * i : 4 * i + 4].mean(dim=(1, 2)))
    usual.load_state_dict(model.state_dict())  # the same names and shapes
    for own, other in zip(model(pictures(1), None, FEW), usual(pictures(1), None, FEW), strict=True):
        assert own.boxes.equal(other.boxes) and len(own.boxes) and not own.embeddings.allclose(other.embeddings)


@pytest.mark.parametrize(
    ("roi_head", "stride", "named"),
    [("pixels", 8, "32 or 16, got 8"), ("separate", 16, "fine and pixels, got 'separate'"), ("pixels", "16", "16'")],
)
def test_a_stride_that_a_head_cannot_have_is_refused(roi_head, stride, named):
    with pytest.raises(UsageError, match=named):
        ModelConfig(roi_head=roi_head, id_stride=stride)


@torch.no_grad()
def test_a_person_of_192x96_pixels_is_seen_as_they_are():
    image = pictures(1, size=(256, 256))
    box = torch.tensor([[40.0, 24.0, 136.0, 216.0]])
    torch.testing.assert_close(seen_by(random_head(), image, [box]), image[:, :, 24:216, 40:136], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_large_person_is_averaged_and_not_thinned_out():
    """Of stripes one pixel wide, every other pixel alone would show one colour."""
    image = torch.ones(1, 3, 768, 384)
    image[..., ::2] = -1
    seen = seen_by(random_head(), image, [torch.tensor([[0.0, 0.0, 384.0, 768.0]])])
    torch.testing.assert_close(seen, torch.zeros(1, 3, 192, 96), rtol=0, atol=1e-5)


@torch.no_grad()
def test_nothing_round_the_box_is_seen():
    head, image = random_head(), pictures(1)
    blank = torch.zeros_like(image)
    x1, y1, x2, y2 = (int(v) for v in BOX[0])
    blank[..., y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = image[..., y1 - 1 : y2 + 1, x1 - 1 : x2 + 1]
    found = [head.embed(head.features(FeatureMaps(i, None, None), [BOX])) for i in (image, blank)]
    torch.testing.assert_close(found[0], found[1])


def test_identification_learns_alone_and_detection_looks_at_conv4():
    head = PixelHeads(small_config())
    maps = FeatureMaps(*(m.requires_grad_() for m in random_maps(1)))
    head(maps, [BOX]).embeddings[:, 0].sum().backward()
    assert maps.conv3.grad is None and maps.conv4.grad is None
    assert head.layer4[0].conv1.weight.grad is None and head.id_conv1.weight.grad.any()
    output = head.detect(maps, [BOX])
    (output.class_logits[:, 0].sum() + output.deltas.sum()).backward()
    assert maps.conv3.grad is None and maps.conv4.grad is not None


@torch.no_grad()
def test_a_crowd_is_looked_at_in_parts_and_gives_what_each_alone_gives():
    head, maps = random_head(), random_maps(1)
    crowd = torch.cat([BOX + i % 16 for i in range(PIXELS_AT_ONCE + 3)])
    together = head.features(maps, [crowd])
    assert len(together) == PIXELS_AT_ONCE + 3
    for i in (0, PIXELS_AT_ONCE - 1, PIXELS_AT_ONCE, PIXELS_AT_ONCE + 2):
        torch.testing.assert_close(head.features(maps, [crowd[i : i + 1]]), together[i : i + 1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_query_is_looked_at_in_the_mirror_too():
    """Half of what it is, half of what its mirror image is, which therefore is the same query; the gallery's people are
    looked at once."""
    head, image = random_head(), pictures(1)
    crowd = torch.cat([BOX + i % 16 for i in range(PIXELS_AT_ONCE + 3)])
    mirrored = torch.stack([128 - crowd[:, 2], crowd[:, 1], 128 - crowd[:, 0], crowd[:, 3]], dim=1)
    here, there = FeatureMaps(image, None, None), FeatureMaps(image.flip(3), None, None)
    plain, turned = head.features(here, [crowd]), head.features(there, [mirrored])
    assert not plain.allclose(turned, rtol=1e-3)
    torch.testing.assert_close(head.query_features(here, [crowd]), (plain + turned) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head.query_features(there, [mirrored]), (plain + turned) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("roi_head", ["shared", "pixels"])
def test_exact_and_cached_search_embed_a_query_alike(roi_head):
    """In a frame as large as its own picture: what of the network needs a frame changes nothing here."""
    engine = Engine(small_network("oim", 5, roi_head=roi_head), torch.device("cpu"), replace(FEW, min_objectness=0.0))
    rgb = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    query = QueryPerson(rgb, (100.0, 40.0, 300.0, 560.0))
    embedding = engine.embed_query(query)
    [found] = engine.search(query, [rgb])
    [cached] = engine.detect([rgb])
    order = np.argsort(-engine.score(embedding, cached.embeddings), kind="stable")
    assert len(found.scores) > 1 and found.boxes == pytest.approx(cached.boxes[order], abs=0.5)
    assert found.scores == pytest.approx(engine.score(embedding, cached.embeddings)[order], abs=1e-4)


def test_a_query_is_looked_at_once_for_all_frames_of_a_size(monkeypatch):
    """No frame changes what identification sees of it; another size of frames scales it anew."""
    engine = Engine(small_network("oim", 5, roi_head="pixels"), torch.device("cpu"), replace(FEW, min_objectness=0.0))
    head, looks = engine.model.roi_head, []
    look = head.query_features
    monkeypatch.setattr(head, "query_features", lambda maps, rois: looks.append(len(rois)) or look(maps, rois))
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (600, width, 3), np.uint8) for width in (800, 800, 900)]
    query = QueryPerson(frames[0], (100.0, 40.0, 300.0, 560.0))
    for frame, expected in zip(frames, (1, 1, 2), strict=True):
        engine.search(query, [frame])
        assert looks == [1] * expected


@torch.no_grad()
def test_one_query_embeds_alike_beside_any_number_of_gallery_images():
    model = small_network(roi_head="pixels")
    query = model.encode_query(pictures(1, seed=7), person_boxes(1))
    alone, _ = model.basenet(pictures(1, seed=7))
    expected = model.embed_queries(alone, [query.boxes])
    for count in (1, 3):
        _, query_maps = model.basenet(pictures(count), query.stem)
        assert len(query_maps.conv4) == count and len(query_maps.images) == 1  # what QSSE does not touch is seen once
        torch.testing.assert_close(model.query_embedding(query_maps, query), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_fine_heads_start_pixel_ones(variant):
    fine = small_network(variant, roi_head="fine")
    model = QEEPS(small_config(variant, roi_head="pixels"))
    loaded = fill(model, fine.state_dict(), "the test")
    own = model.state_dict()
    assert loaded >= {name for name in own if name.startswith("roi_head.") and "num_batches_tracked" not in name}
    for name, tensor in fine.state_dict().items():
        assert torch.equal(own[name], tensor), name
    for part in ("conv1", "bn1", "layer1", "layer2"):
        for name, tensor in getattr(fine.basenet, part).state_dict().items():
            halved = variant == "qeeps" and name.endswith(("bn2.weight", "bn2.bias"))  # what QSSE did on average
            expected = tensor * INITIAL_EXCITATION if halved else tensor
            assert torch.equal(own[f"roi_head.id_{part}.{name}"], expected), name


def test_pixel_heads_go_on_as_they_are():
    model = small_network("qeeps", roi_head="pixels")
    again = QEEPS(small_config("qeeps", roi_head="pixels"))
    fill(again, model.state_dict(), "the test")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_pixel_heads_start_others_but_for_what_reads_them():
    model = QEEPS(small_config("qeeps", roi_head="fine"))
    loaded = fill(model, small_network("qeeps", roi_head="pixels").state_dict(), "the test")
    assert "roi_head.id_layer3.0.conv1.weight" in loaded and "rpn.conv.weight" in loaded
    assert not any(name.startswith(("roi_head.id_net.", "qsimnet.")) for name in loaded)


@torch.no_grad()
def test_a_person_of_the_usual_size_is_known_as_before():
    """Pixel heads that start from fine ones are the same network where RoIAlign has nothing to scale."""
    fine = small_network("oim", roi_head="fine")
    pixels = QEEPS(small_config("oim", roi_head="pixels")).eval()
    fill(pixels, fine.state_dict(), "the test")
    image = pictures(1, size=(192, 96))
    whole = [torch.tensor([[0.0, 0.0, 96.0, 192.0]])]
    before, after = (model.embed_boxes(model.basenet(image)[0], whole) for model in (fine, pixels))
    assert (before * after).sum() > 0.998  # RoIAlign averages neighbouring cells of conv3
    another = pixels.embed_boxes(pixels.basenet(pictures(1, seed=1, size=(192, 96)))[0], whole)
    assert (before * another).sum() < 0.998
