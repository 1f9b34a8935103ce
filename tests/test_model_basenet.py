"""The Siamese trunk and QSSE against torchvision's ResNet and against the paper's Eq. 1 and 2."""

import numpy as np
import pytest
import torch
import torchvision
from networks import pictures, randomise, small_config, small_network
from torch import Tensor, nn

from qeeps_cli.errors import WeightsError
from qeeps_cli.model.basenet import BaseNet, FeatureMaps
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsse import QSSE, squeeze
from qeeps_cli.model.unfilled import build_unfilled
from qeeps_cli.training.initialise import fill


def random_trunk(backbone: str = "resnet18", variant: str = "qeeps", **changes) -> BaseNet:
    torch.manual_seed(0)
    return randomise(BaseNet(small_config(variant, backbone, **changes)), seed=1).eval()


@torch.no_grad()
def excite_with(trunk: BaseNet, s: list[Tensor]) -> None:
    """Fix the excitations (C,) of every block, whatever the images."""
    for block, wanted in zip(trunk.qsse, s, strict=True):
        block.fc2.weight.zero_()
        block.fc2.bias.copy_(wanted.logit() if wanted.max() < 1 else torch.full_like(wanted, 100.0))


def plain_resnet(trunk: BaseNet, backbone: str) -> nn.Module:
    """torchvision's ResNet with the trunk's weights."""
    resnet = getattr(torchvision.models, backbone)().eval()
    weights = {name: value for name, value in trunk.state_dict().items() if "qsse" not in name}
    left = resnet.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith(("layer4", "fc")) for name in left.missing_keys)
    return resnet


@torch.no_grad()
def maps(resnet: nn.Module, images: Tensor) -> FeatureMaps:
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    conv3 = resnet.layer2(resnet.layer1(x))
    return FeatureMaps(None, conv3, resnet.layer3(conv3))


def equal(found: FeatureMaps, expected: FeatureMaps) -> bool:
    return torch.equal(found.conv3, expected.conv3) and torch.equal(found.conv4, expected.conv4)


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 256), ("resnet50", 1024)])
def test_with_s_of_1_both_streams_are_torchvisions_resnet_bit_for_bit(backbone, channels):
    trunk = random_trunk(backbone)
    assert trunk.out_channels == channels
    excite_with(trunk, [torch.ones(block.fc2.out_features) for block in trunk.qsse])
    resnet = plain_resnet(trunk, backbone)
    size = (96, 128) if backbone == "resnet18" else (64, 80)
    gallery, query = pictures(2, seed=1, size=size), pictures(2, seed=2, size=size)
    with torch.no_grad():
        gallery_maps, query_maps = trunk(gallery, trunk.stem(query))
        alone, alone_again = trunk(gallery)
    expected = maps(resnet, gallery)
    assert expected.conv3.shape == (2, channels // 2, size[0] // 8, size[1] // 8)
    assert expected.conv4.shape == (2, channels, size[0] // 16, size[1] // 16)
    assert expected.conv3.std() > 0.1 and expected.conv4.std() > 0.1
    assert equal(gallery_maps, expected)
    assert equal(query_maps, maps(resnet, query))
    assert equal(alone, expected) and alone_again is alone


def test_without_qsse_the_trunk_is_torchvisions_and_the_query_map_keeps_its_batch():
    trunk = random_trunk(variant="oim+qrpn")
    resnet = plain_resnet(trunk, "resnet18")
    gallery, query = pictures(3, seed=1), pictures(1, seed=2)
    with torch.no_grad():
        gallery_maps, query_maps = trunk(gallery, trunk.stem(query))
    assert equal(gallery_maps, maps(resnet, gallery))
    assert equal(query_maps, maps(resnet, query))


def test_stride_in_the_first_1x1_gives_maps_of_the_same_size():
    trunk = random_trunk("resnet50", "oim", stride_in_1x1=True)
    resnet = plain_resnet(trunk, "resnet50")
    image = pictures(1, size=(64, 80))
    with torch.no_grad():
        gallery_maps, _ = trunk(image)
    usual = maps(resnet, image)
    for found, other in ((gallery_maps.conv3, usual.conv3), (gallery_maps.conv4, usual.conv4)):
        assert found.shape == other.shape and not torch.allclose(found, other)
    for layer in (resnet.layer2, resnet.layer3):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    assert equal(gallery_maps, maps(resnet, image))


def test_the_same_s_re_weights_both_residual_branches():
    """Eq. 2: s ⊙ U is what a ResNet gives whose blocks end in an affine map multiplied by s; the skip is untouched."""
    trunk = random_trunk()
    s = [torch.rand(block.fc2.out_features) * 0.8 + 0.1 for block in trunk.qsse]
    excite_with(trunk, s)
    resnet = plain_resnet(trunk, "resnet18")
    with torch.no_grad():
        for block, weights in zip([*resnet.layer1, *resnet.layer2, *resnet.layer3], s, strict=True):
            block.bn2.weight.mul_(weights)
            block.bn2.bias.mul_(weights)
        gallery, query = pictures(1, seed=1), pictures(1, seed=2)
        gallery_maps, query_maps = trunk(gallery, trunk.stem(query))
    torch.testing.assert_close(gallery_maps, maps(resnet, gallery), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(query_maps, maps(resnet, query), rtol=1e-4, atol=1e-4)


def test_excitation_is_equation_1():
    torch.manual_seed(3)
    block = randomise(QSSE(channels=32, reduction=16), seed=3)
    assert block.fc1.weight.shape == (64 // 16, 64) and block.fc2.weight.shape == (32, 64 // 16)
    z_query, z_gallery = torch.randn(5, 32), torch.randn(5, 32)
    with torch.no_grad():
        s = block(z_query, z_gallery)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in block.parameters())
    z = np.concatenate([z_query.numpy(), z_gallery.numpy()], axis=1)
    expected = 1 / (1 + np.exp(-(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)))
    assert s.shape == (5, 32, 1, 1)
    np.testing.assert_allclose(s[:, :, 0, 0].numpy(), expected, rtol=1e-5)


def test_squeeze_averages_in_float32():
    residual = torch.randn(2, 4, 30, 40).bfloat16()
    z = squeeze(residual)
    assert z.dtype == torch.float32
    np.testing.assert_allclose(z.numpy(), residual.double().numpy().mean((2, 3)), atol=1e-6)


def test_squeeze_sees_query_and_gallery_in_this_order():
    trunk = random_trunk()
    seen = []
    trunk.qsse[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    block = trunk.layer1[0]
    gallery, query = pictures(2, seed=1), pictures(1, seed=2)

    def residual(images: Tensor) -> Tensor:
        x = trunk.stem(images).x
        return block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))).mean((2, 3))

    with torch.no_grad():
        trunk(gallery, trunk.stem(query))
        trunk(gallery)
        of_gallery, of_query = residual(gallery), residual(query)
    (z_query, z_gallery), (self_query, self_gallery) = seen
    torch.testing.assert_close(z_gallery, of_gallery)
    torch.testing.assert_close(z_query, of_query.expand(2, -1))
    assert self_query is self_gallery  # without a query an image is its own: z_q = z_g
    torch.testing.assert_close(self_gallery, of_gallery)


def test_another_query_changes_every_blocks_excitation():
    trunk = random_trunk()
    excitations: list[Tensor] = []
    for block in trunk.qsse:
        block.register_forward_hook(lambda module, inputs, output: excitations.append(output))
    gallery = pictures(1, seed=1)
    with torch.no_grad():
        found = [trunk(gallery, trunk.stem(pictures(1, seed=seed)))[0] for seed in (2, 3, 2)]
    first, second, again = excitations[:6], excitations[6:12], excitations[12:]
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(0 < s.min() and s.max() < 1 for s in first)
    assert not torch.allclose(found[0].conv4, found[1].conv4, atol=1e-2) and equal(found[0], found[2])


def test_an_image_paired_with_itself_needs_no_query():
    trunk = random_trunk()
    images = pictures(2)
    with torch.no_grad():
        alone, _ = trunk(images)
        gallery_maps, query_maps = trunk(images, trunk.stem(images))
    torch.testing.assert_close(gallery_maps, alone)
    torch.testing.assert_close(query_maps, alone)


@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_conv3_alone_is_the_same_map(variant):
    trunk = random_trunk(variant=variant)
    gallery, query = pictures(2, seed=1), pictures(2, seed=2)
    with torch.no_grad():
        for paired in (None, trunk.stem(query)):
            for alone, both in zip(trunk(gallery, paired, conv4=False), trunk(gallery, paired), strict=True):
                assert alone.conv4 is None and torch.equal(alone.conv3, both.conv3)


def test_fresh_qsse_blocks_keep_the_features_of_the_trunk_that_they_join():
    oim = small_network("oim", seed=4)
    torch.manual_seed(5)
    model = QEEPS(small_config("qeeps")).eval()
    fill(model, oim.state_dict(), "oim")
    image, query = pictures(1, seed=1), pictures(1, seed=2)
    with torch.no_grad():
        expected, _ = oim.basenet(image)
        gallery_maps, query_maps = model.basenet(image, model.basenet.stem(query))
        expected_query, _ = oim.basenet(query)
    torch.testing.assert_close(gallery_maps, expected)
    torch.testing.assert_close(query_maps, expected_query)

    with torch.no_grad():  # without the correction the residuals would be halved
        for block in model.basenet.blocks():
            block.bn2.weight.div_(2)
            block.bn2.bias.div_(2)
        halved, _ = model.basenet(image)
    assert not torch.allclose(halved.conv4, expected.conv4, atol=0.1)


def test_a_trunk_that_has_qsse_is_filled_as_it_is():
    trained = small_network("qeeps", seed=6)
    torch.manual_seed(7)
    model = QEEPS(small_config("qeeps")).eval()
    fill(model, trained.state_dict(), "qeeps")
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_trunk_of_another_backbone_is_refused_by_name():
    oim = small_network("oim")
    model = build_unfilled(small_config("qeeps", "resnet34"))
    with pytest.raises(WeightsError, match="oim18 does not fit the backbone resnet34.*basenet.layer1.2.conv1.weight"):
        fill(model, oim.state_dict(), "oim18")
