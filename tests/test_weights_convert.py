"""Torch checkpoints become ours, and nothing in them is run (docs/reliability.md, row 15)."""

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from networks import small_config, small_network

from qeeps_cli.checkpoints.convert import convert, guess_settings, read_torch
from qeeps_cli.errors import OutputError, UsageError, WeightsError
from qeeps_cli.model.config import ROI_HEADS, VARIANTS, ModelConfig
from qeeps_cli.model.unfilled import build_unfilled
from qeeps_cli.weights import load_model, read_checkpoint

SMALL = {"pool_size": 4, "max_rpn_channels": 32}  # what small_config has and no shape that is looked at tells


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return small_network("qeeps").state_dict()


@pytest.fixture
def saved(tmp_path):
    def saved(value, name: str = "net.pth") -> Path:
        torch.save(value, tmp_path / name)
        return tmp_path / name

    return saved


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "net.safetensors"


def prefixed(state, prefix):
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in state.items())


LAYOUTS = {
    "plain": lambda s: s,
    "model": lambda s: {"model": s, "optimizer": {"lr": 0.1}, "epoch": 3},
    "state_dict": lambda s: {"state_dict": prefixed(s, "model."), "hyper_parameters": {}},
    "parallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: {"net": prefixed(s, "module._orig_mod.")},
    "config": lambda s: {"model": s, "config": small_config().to_dict()},
    "half": lambda s: {"model": {n: t.half() if t.is_floating_point() else t for n, t in s.items()}},
    "without counters": lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(saved, target, state, layout):
    made = convert(saved(LAYOUTS[layout](state)), target, settings=SMALL if layout != "config" else None)
    assert made == read_checkpoint(target) and made.config == small_config()
    again = load_model(made).state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        assert torch.equal(again[name], tensor.half().float() if layout == "half" else tensor), name


def test_the_card_says_where_they_come_from(saved, target, state):
    made = convert(saved({"model": prefixed(state, "module.")}), target, settings=SMALL, terms="research only")
    assert made.card["terms"] == "research only"
    assert made.card["converted"]["from"] == "net.pth" and made.card["converted"]["layout"] == "'model' → module.*"
    again = convert(saved(state), target, settings=SMALL, overwrite=True)
    assert "not told" in again.card["terms"]


def test_half_precision_halves_the_file(saved, target, state):
    source = saved(state)
    convert(source, target, settings=SMALL)
    full = target.stat().st_size
    convert(source, target, settings=SMALL, half=True, overwrite=True)
    assert target.stat().st_size < 0.55 * full


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_variant_and_backbone_are_seen_in_the_names(variant, backbone):
    config = ModelConfig(backbone=backbone, variant=variant, roi_head="separate")
    assert ModelConfig(**guess_settings(build_unfilled(config).state_dict())) == config


@pytest.mark.parametrize("roi_head", ROI_HEADS)
def test_the_roi_head_is_seen_in_the_names(roi_head):
    config = ModelConfig(backbone="resnet18", roi_head=roi_head)
    assert ModelConfig(**guess_settings(build_unfilled(config).state_dict())) == config


def refused(source: Path, target: Path, **options) -> str:
    with pytest.raises(WeightsError) as caught:
        convert(source, target, **options)
    assert not os.listdir(target.parent)
    return str(caught.value)


def test_what_does_not_fit_is_named(saved, target, state):
    wrong = dict(state)
    del wrong["qrpn.fc2.bias"]
    wrong["rpn.conv.weight"] = torch.zeros(3, 3)
    wrong["mask.weight"] = torch.zeros(2)
    wrong["roi_head.id_net.bias"] = torch.full((32,), torch.nan)
    wrong["roi_head.cls_net.bias"] = torch.zeros(2, dtype=torch.int64)
    message = refused(saved(wrong), target, settings=SMALL)
    for line in (
        "does not fit qeeps on resnet18",
        "missing: qrpn.fc2.bias (256,)",
        "not expected: mask.weight (2,)",
        "shape of rpn.conv.weight: expected (32, 256, 3, 3), got (3, 3)",
        "type of roi_head.cls_net.bias: expected float32, got int64",
        "not finite: roi_head.id_net.bias (32 of 32",
    ):
        assert line in message


def test_many_misfits_are_counted(saved, target, state):
    message = refused(saved(state), target, settings=SMALL | {"backbone": "resnet101"})
    assert "does not fit qeeps on resnet101" in message and "\n  and " in message and message.count("\n") < 40


def test_values_that_float16_cannot_hold(saved, target, state):
    large = state | {"roi_head.id_net.bias": torch.full((32,), 1e5)}
    assert "too large for --fp16: roi_head.id_net.bias (up to 1e+05)" in refused(
        saved(large), target, settings=SMALL, half=True
    )
    assert convert(saved(large), target, settings=SMALL).path == target


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_backbone_alone_is_refused_with_what_it_is_good_for(saved, target, prefix):
    import torchvision

    resnet = prefixed(torchvision.models.resnet18().state_dict(), prefix)
    assert "a ResNet as torchvision names it" in refused(saved({"state_dict": resnet}), target)


@pytest.mark.parametrize("value", [{}, [], 3, torch.zeros(2), {"epoch": 3}, {"model": {}}, {"state_dict": {"a": 1}}])
def test_other_contents(saved, target, value):
    assert "holds no state dict" in refused(saved(value), target)


def test_tensors_with_others_among_them(saved, target):
    mixed = {"a": torch.zeros(1), "version": 3, "sparse": torch.eye(2).to_sparse()}
    message = refused(saved(mixed), target)
    assert "not a plain tensor: version (int)" in message and "sparse" in message


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x02.", b"\xff" * 2048])
def test_other_files(tmp_path, target, content):
    (tmp_path / "x.pth").write_bytes(content)
    assert str(tmp_path / "x.pth") in refused(tmp_path / "x.pth", target)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated_files(saved, target, state, kept):
    source = saved(state)
    source.write_bytes(source.read_bytes()[: int(kept * source.stat().st_size)])
    assert "is not a whole file of torch.save" in refused(source, target)


def test_absent_files_and_safetensors(tmp_path, target):
    assert "there is no checkpoint" in refused(tmp_path / "x.pth", target)
    (tmp_path / "x.safetensors").touch()
    assert "is a safetensors file" in refused(tmp_path / "x.safetensors", target)


class Payload:
    """What pickle runs when it loads this leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_run(tmp_path, target, state, zipped):
    source, harm = tmp_path / "evil.pth", tmp_path / "harm"
    torch.save({"model": state, "extra": Payload(harm)}, source, _use_new_zipfile_serialization=zipped)
    message = refused(source, target)
    assert "is refused: it names posix.mkdir" in message and "weights_only" not in message
    assert not harm.exists()
    torch.load(source, weights_only=False)
    assert harm.exists()  # what was refused was live


def test_a_whole_module_is_refused(saved, target):
    assert "is refused" in refused(saved(torch.nn.Linear(1, 1)), target)


def test_the_target_is_looked_at_first(saved, target, state):
    source = saved(state)
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="--overwrite"):
        convert(source, target)
    with pytest.raises(WeightsError):
        convert(source.with_name("gone.pth"), target, overwrite=True)
    assert target.read_bytes() == b"old"
    with pytest.raises(UsageError, match=".safetensors"):
        convert(source, target.with_suffix(".pth"))
    convert(source, target, settings=SMALL, overwrite=True)
    assert target.stat().st_size > 1000 and os.listdir(target.parent) == [target.name]


def test_a_mapping_that_holds_itself(saved, target):
    loop = {"x": torch.zeros(1)}
    loop["model"] = loop
    with pytest.raises(WeightsError, match="no plain state dict"):
        convert(saved(loop), target)


def test_tensors_that_share_memory(saved, target, state):
    floating = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    by_shape = {tensor.shape: tensor for tensor in floating.values()}
    shared = {name: by_shape[tensor.shape] for name, tensor in floating.items()}
    made = convert(saved(state | shared), target, settings=SMALL)
    again = load_model(made).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in shared.items())


@pytest.mark.parametrize("settings", [{"depth": 3}, {"backbone": "vgg"}, {"variant": 1}])
def test_unknown_settings(saved, target, state, settings):
    with pytest.raises(UsageError):
        convert(saved(state), target, settings=settings)


def test_a_training_runs_state_has_its_network(saved, state):
    import json

    recipe = json.dumps({"model": small_config(shorter_side=128).to_dict()})
    found = read_torch(saved({"recipe": recipe, "model": state, "stage": "qeeps"}))
    assert found.config["shorter_side"] == 128 and found.layout == "'model'"
