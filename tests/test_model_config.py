"""The variants of Table 1, the network's size, what stays frozen, and the configuration's own checks."""

import json
from dataclasses import replace

import pytest
import torch
from networks import pictures, small_config, small_network
from torch import nn

from qeeps_cli.errors import UsageError
from qeeps_cli.model.config import VARIANTS, InferenceParams, ModelConfig
from qeeps_cli.model.unfilled import build_unfilled
from qeeps_cli.searching.engine import Engine


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_resnet50_qeeps_has_the_papers_49_million_parameters():
    model = build_unfilled(ModelConfig(backbone="resnet50", variant="qeeps"))
    assert round(parameters(model) / 1e6, 1) == 49.3  # Table 4: 49 M
    millions = {name: round(parameters(child) / 1e6, 2) for name, child in model.named_children()}
    assert millions == {
        "basenet": 11.38, "anchors": 0, "rpn": 4.76, "qrpn": 17.64, "roi_head": 15.51, "qsimnet": 0.0,
    }  # fmt: skip
    assert parameters(model.qsimnet) == 2 * 256 + 2 * 256 + 2  # BatchNorm, FC 256 → 2
    assert parameters(model.qrpn.fc1) == 1024 * 14 * 14 * 64 + 64  # all channels and all pixels, to C/16
    blocks = 3 * [256] + 4 * [512] + 6 * [1024]  # channels of the 13 residual blocks
    assert parameters(model.basenet.qsse) == sum(2 * c * c // 8 + c // 8 + c // 8 * c + c for c in blocks)


@pytest.mark.parametrize(
    ("variant", "qsse", "qrpn", "qsimnet"),
    [
        ("oim", False, False, False),
        ("oim+qrpn", False, True, False),
        ("oim+qsimnet", False, False, True),
        ("oim+qrpn+qsimnet", False, True, True),
        ("qeeps", True, True, True),
    ],
)
def test_variants_have_the_blocks_of_table_1_and_no_others(variant, qsse, qrpn, qsimnet):
    model = build_unfilled(small_config(variant))
    names = {name.split(".")[0] if "qsse" not in name else "qsse" for name in model.state_dict()}
    expected = {"basenet", "rpn", "roi_head"}
    expected |= {name for name, has in (("qsse", qsse), ("qrpn", qrpn), ("qsimnet", qsimnet)) if has}
    assert names == expected
    assert len(VARIANTS) == 5


@pytest.mark.parametrize(
    ("backbone", "count"), [("resnet18", 6), ("resnet34", 13), ("resnet50", 13), ("resnet101", 30)]
)
def test_one_qsse_for_each_residual_block_of_conv2_to_conv4(backbone, count):
    model = build_unfilled(small_config(backbone=backbone))
    assert len(model.basenet.qsse) == len(model.basenet.blocks()) == count
    assert not any("qsse" in name for name in model.roi_head.state_dict())  # none in conv5


def test_the_stem_and_the_resnets_statistics_stay_frozen_in_training():
    model = small_network().train()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"basenet.conv1.weight", "basenet.bn1.weight", "basenet.bn1.bias"}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 1 + 6 * 2 + 2 + 5  # the stem's, two a block, two shortcuts of the trunk, conv5's
    assert not any(norm.training for norm in norms)
    assert model.training and model.qsimnet.norm.training and model.basenet.qsse.training

    before = {name: value.clone() for name, value in model.named_buffers()}
    gallery_maps, _ = model.basenet(pictures(1))
    embeddings = model.embed_boxes(gallery_maps, [torch.tensor([[0.0, 0, 32, 64], [32, 0, 64, 64]])])
    model.qsimnet(embeddings[:1], embeddings)
    changed = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert changed == {"qsimnet.norm.running_mean", "qsimnet.norm.running_var", "qsimnet.norm.num_batches_tracked"}
    assert not any(m.training for m in model.eval().modules())


def test_a_config_survives_json_and_names_what_it_does_not_know():
    config = small_config("oim+qrpn", anchor_ratios=(1.0, 2.5))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert ModelConfig.from_dict({}) == ModelConfig()
    with pytest.raises(UsageError, match="unknown model settings depth.*backbone"):
        ModelConfig.from_dict({"depth": 3})
    with pytest.raises(UsageError, match="backbone must be one of resnet18.*'vgg16'"):
        ModelConfig(backbone="vgg16")
    with pytest.raises(UsageError, match="variant must be one of oim.*'QEEPS'"):
        ModelConfig(variant="QEEPS")


def test_caches_made_before_a_setting_was_known_stay_valid():
    """The key has no word for id_stride where it is what it always was."""
    usual = ModelConfig(backbone="resnet18", roi_head="pixels")
    expected = {name: value for name, value in usual.to_dict().items() if name != "id_stride"}
    assert usual.cache_key() == expected
    engine = Engine(small_network(roi_head="pixels"), torch.device("cpu"))
    assert engine.fingerprint()["model"] == engine.model.config.cache_key()
    assert replace(usual, id_stride=16).cache_key() == expected | {"id_stride": 16}


def test_the_defaults_are_the_papers_but_for_what_decisions_declares():
    config, params = ModelConfig(), InferenceParams()
    assert (config.backbone, config.variant, config.reduction) == ("resnet50", "qeeps", 16)
    assert (config.shorter_side, config.longest_side, config.anchors_per_cell) == (600, 1000, 15)
    assert (params.proposals, params.proposal_nms, params.nms) == (300, 0.7, 0.4)
    assert (params.min_person_score, params.min_objectness) == (0.2, 0.2)  # the paper's: 0.01 and none
    assert config.roi_head == "shared"
    assert json.loads(json.dumps(params.to_dict()))["second_pass"] is True


@pytest.mark.parametrize(
    "setting",
    [{"embedding_dim": "x"}, {"pool_size": None}, {"reduction": 0}, {"embedding_dim": -1}, {"shorter_side": "900"},
     {"anchor_scales": []}, {"anchor_ratios": ["1"]}, {"stride_in_1x1": 1}, {"longest_side": True}],
)  # fmt: skip
def test_settings_of_a_wrong_type_are_named(setting):
    with pytest.raises(UsageError, match=f"{next(iter(setting))} expects something like"):
        ModelConfig.from_dict(setting)
