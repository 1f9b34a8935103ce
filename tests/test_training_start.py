"""How a run starts: the weights it fills the network with, the optimizer's groups, the learning rate."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from training_sets import MODEL, tiny_stage

from qeeps_cli.errors import DataError, WeightsError
from qeeps_cli.model.config import VARIANTS
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.qsimnet import INITIAL_SLOPE, QSimNet
from qeeps_cli.training.initialise import (
    GUIDED,
    fill,
    has_query_guidance,
    initialise,
    regress_id_net,
    start_qsimnet,
    terms_of,
    whiten_id_net,
)
from qeeps_cli.training.trainer import learning_rate_factor, make_optimizer
from qeeps_cli.weights import save_checkpoint

OIM = replace(MODEL, variant="oim")


def network(config, seed=0):
    torch.manual_seed(seed)
    return QEEPS(config).eval()


def trained(config, seed):
    """A network whose every tensor differs from any other's start, with QSSE far from its initial 1/2."""
    model = network(config, seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand_like(tensor) if name.endswith("running_var") else 0.02 * torch.randn_like(tensor)
                tensor.add_(noise)
    return model


def resnet_file(path, backbone="resnet18", without=()):
    torch.manual_seed(5)
    resnet = getattr(torchvision.models, backbone)(weights=None).eval()
    for name, tensor in resnet.state_dict().items():
        if "running" in name or ".bn" in name:
            tensor.uniform_(0.5, 1.5) if tensor.is_floating_point() else None
    save_file({k: v for k, v in resnet.state_dict().items() if not k.startswith(without)}, path)
    return resnet


@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_from_torchvision_names(tmp_path, variant):
    """The trunk computes what torchvision's does, also where fresh QSSE blocks halve its residuals."""
    resnet = resnet_file(tmp_path / "resnet18.safetensors")
    model = network(replace(MODEL, variant=variant), seed=1)
    initialise(model, tmp_path / "resnet18.safetensors")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        expected = resnet.layer3(resnet.layer2(resnet.layer1(x)))
        found, _ = model.basenet(images)
        torch.testing.assert_close(found.conv4, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.roi_head.layer4(expected), resnet.layer4(expected))


def test_from_torchvision_names_without_conv5(tmp_path):
    resnet_file(tmp_path / "trunk.safetensors", without=("layer4.", "fc."))
    model = network(OIM)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    initialise(model, tmp_path / "trunk.safetensors")
    kept = {name.split(".")[0] for name, tensor in model.state_dict().items() if torch.equal(tensor, fresh[name])}
    assert kept == {"rpn", "roi_head", "basenet"}  # of basenet only the unused counters of BatchNorm
    assert not torch.equal(model.basenet.layer3[0].conv1.weight, fresh["basenet.layer3.0.conv1.weight"])


@pytest.mark.parametrize("half", [False, True])
def test_from_a_checkpoint_of_the_same_variant(tmp_path, half):
    source = trained(MODEL, seed=2)
    save_checkpoint(tmp_path / "a.safetensors", source, {}, half=half)
    model = network(MODEL, seed=3)
    initialise(model, tmp_path / "a.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, source.state_dict()[name], rtol=1e-3 * half, atol=1e-4 * half)
        assert tensor.dtype == source.state_dict()[name].dtype


@pytest.mark.parametrize("variant", ["oim+qrpn", "oim+qsimnet", "qeeps"])
def test_query_guidance_is_added_to_a_trained_oim(tmp_path, variant):
    """The baseline's trunk, RoI head and RPN go on computing the same; the blocks that it lacks start fresh."""
    source = trained(OIM, seed=2)
    save_checkpoint(tmp_path / "oim.safetensors", source, {}, half=False)
    model, fresh = (network(replace(MODEL, variant=variant), seed=4) for _ in range(2))
    initialise(model, tmp_path / "oim.safetensors")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = source.basenet(images)[0], model.basenet(images)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        paired, _ = model.basenet(images, model.basenet.stem(torch.randn(2, 3, 64, 64)))
        torch.testing.assert_close(paired, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.rpn(expected.conv4)[0], source.rpn(expected.conv4)[0])
    for name, tensor in model.state_dict().items():
        if name.startswith(("qrpn", "qsimnet")) or "qsse" in name:
            assert torch.equal(tensor, fresh.state_dict()[name])


def test_query_guidance_is_taken_off_again(tmp_path):
    """The residuals were doubled when QSSE's initial 1/2 came; without QSSE they must not stay so."""
    source = network(OIM, seed=2)
    guided, plain = network(MODEL, seed=3), network(OIM, seed=4)
    fill(guided, source.state_dict(), "an oim")
    fill(plain, guided.state_dict(), "a qeeps")
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


@pytest.mark.parametrize("form", ["torchvision", "qeeps"])
@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ("resnet34", "resnet18", "not expected basenet.layer1.2"),  # has all that ours needs, and more
        ("resnet18", "resnet34", "missing basenet.layer1.2"),
        ("resnet50", "resnet18", "shape of basenet.layer"),
    ],
)
def test_another_backbone_is_refused(tmp_path, form, theirs, ours, named):
    path = tmp_path / f"{theirs}.safetensors"
    if form == "torchvision":
        resnet_file(path, theirs)
    else:
        save_checkpoint(path, network(replace(MODEL, backbone=theirs)), {})
    model = network(replace(MODEL, backbone=ours))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=f"does not fit the backbone {ours}") as error:
        initialise(model, path)
    assert named in str(error.value) and str(path) in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("theirs", "ours"), [("pixels", "shared"), ("fine", "shared"), ("separate", "shared")])
def test_a_head_that_does_not_fit_is_named(theirs, ours):
    source = network(replace(MODEL, roi_head=theirs)).state_dict()
    with pytest.raises(WeightsError, match=f'the source has the RoI head "{theirs}", .* Write roi_head = "{theirs}"'):
        fill(network(replace(MODEL, roi_head=ours)), source, "the source")


@pytest.mark.parametrize(("card", "terms"), [({}, None), ({"terms": "research only"}, "research only")])
def test_the_terms_of_a_checkpoint(tmp_path, card, terms):
    save_checkpoint(tmp_path / "start.safetensors", network(OIM), card)
    assert terms_of(tmp_path / "start.safetensors") == terms


def test_resnet_weights_state_no_terms(tmp_path):
    resnet_file(tmp_path / "resnet.safetensors")
    assert terms_of(tmp_path / "resnet.safetensors") is None


def test_id_net_starts_with_people_apart():
    """Pooled features are positive and alike; whitened, everybody is as near to everybody as chance has it."""
    torch.manual_seed(0)
    features = 5 + torch.randn(300, 8) @ torch.randn(8, 512) + 0.1 * torch.randn(300, 512)
    model = network(OIM)

    def mean_cosine():
        with torch.no_grad():
            cosines = model.roi_head.embed(features) @ model.roi_head.embed(features).T
        return float((cosines.sum() - len(features)) / (len(features) * (len(features) - 1)))

    before = mean_cosine()
    whiten_id_net(model, features)
    assert before > 0.5 and abs(mean_cosine()) < 0.02
    weight = model.roi_head.id_net.weight
    assert float(weight.detach().std()) == pytest.approx(512**-0.5, rel=0.01)  # the usual size


def test_id_net_starts_where_the_teacher_is():
    """Features of people whom the regression has not seen give the teacher's targets, too."""
    torch.manual_seed(0)
    features = 5 + torch.randn(600, 8) @ torch.randn(8, 512) + 0.1 * torch.randn(600, 512)
    targets = nn.functional.normalize((features - 5) @ torch.randn(512, OIM.embedding_dim), dim=1)
    model = network(OIM)
    regress_id_net(model, features[:500], targets[:500])
    with torch.no_grad():
        cosines = (model.roi_head.embed(features[500:]) * targets[500:]).sum(dim=1)
    assert cosines.mean() > 0.95
    assert float(model.roi_head.id_net.weight.detach().std()) == pytest.approx(512**-0.5, rel=0.01)  # the usual size


@pytest.mark.parametrize(("count", "spread"), [(1, 1.0), (5, 0.0), (5, 1.0)])
@pytest.mark.parametrize("taught", [False, True])
def test_id_net_starts_finite_from_few_crops(count, spread, taught):
    model = network(OIM)
    features = 3 + spread * torch.randn(count, 512)
    if taught:
        regress_id_net(model, features, nn.functional.normalize(torch.randn(count, OIM.embedding_dim), dim=1))
    else:
        whiten_id_net(model, features)
    assert all(bool(parameter.isfinite().all()) for parameter in model.roi_head.id_net.parameters())


@pytest.mark.parametrize("content", [None, b"", b"no safetensors"])
def test_a_start_that_is_no_safetensors_file(tmp_path, content):
    path = tmp_path / "start.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot start from .*start.safetensors"):
        initialise(network(OIM), path)


def groups_of(model, **changes):
    """Parameter name to (lr, weight decay) of its group; each parameter is in one group only."""
    optimizer = make_optimizer(model, tiny_stage(lr=0.01, head_lr=5.0, weight_decay=0.1, **changes))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in optimizer.param_groups for p in g["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_optimizer_groups(optimizer):
    model = network(MODEL)
    groups = groups_of(model, optimizer=optimizer)
    assert set(dict(model.named_parameters())) - set(groups) == {
        "basenet.conv1.weight",
        "basenet.bn1.weight",
        "basenet.bn1.bias",
    }
    heads = ("rpn.", "qrpn.", "roi_head.cls_net", "roi_head.reg_net", "roi_head.id_net", "basenet.qsse")
    for name, parameter in model.named_parameters():
        if name in groups:
            lr, decay = groups[name]
            assert lr == pytest.approx(0.05 if name.startswith(heads) else 0.01), name
            assert decay == (0.1 if parameter.ndim > 1 else 0.0), name
    examples = {
        "basenet.layer1.0.conv1.weight": (0.01, 0.1),
        "basenet.layer1.0.bn1.weight": (0.01, 0.0),
        "roi_head.layer4.0.conv1.weight": (0.01, 0.1),
        "roi_head.id_net.weight": (0.05, 0.1),
        "basenet.qsse.0.fc2.bias": (0.05, 0.0),
        "qrpn.rpn.conv.weight": (0.05, 0.1),
        "qsimnet.norm.weight": (0.01, 0.0),  # starts as the best metric so far, and keeps near it
    }
    assert {name: pytest.approx(groups[name]) for name in examples} == examples


def test_the_trunk_has_a_rate_of_its_own():
    groups = groups_of(network(MODEL), optimizer="adamw", trunk_lr=0.5)
    examples = {
        "basenet.layer3.1.conv2.weight": 0.005,
        "basenet.qsse.0.fc1.weight": 0.05,  # new: a head
        "roi_head.layer4.1.conv2.weight": 0.01,
    }
    assert {name: groups[name][0] for name in examples} == pytest.approx(examples)


@pytest.mark.parametrize("guidance_only", [False, True])
def test_qsse_may_have_a_higher_rate_than_other_heads(guidance_only):
    groups = groups_of(network(MODEL), optimizer="adamw", qsse_lr=4.0, guidance_only=guidance_only)
    examples = {"basenet.qsse.0.fc1.weight": 0.2, "qrpn.rpn.conv.weight": 0.05, "qsimnet.norm.weight": 0.01}
    assert {name: groups[name][0] for name in examples} == pytest.approx(examples)


def test_a_rate_of_0_freezes_the_trunk():
    model = network(MODEL)
    groups = groups_of(model, optimizer="adamw", trunk_lr=0.0)
    trunk = {name for name, _ in model.named_parameters() if name.startswith("basenet.")}
    assert trunk and not trunk & set(groups)
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == trunk


def test_guidance_alone_is_trained_whatever_the_rate_of_the_trunk():
    model = network(MODEL)
    for trunk_lr in (1.0, 0.0):
        groups = groups_of(network(MODEL), optimizer="adamw", trunk_lr=trunk_lr, guidance_only=True)
        assert set(groups) == {name for name, _ in model.named_parameters() if name.startswith(GUIDED)}
        assert groups["basenet.qsse.0.fc1.weight"][0] == pytest.approx(0.05)


def test_what_is_trained_beside_the_model_has_the_rate_of_heads():
    beside = torch.nn.Parameter(torch.zeros(3, 4))
    optimizer = make_optimizer(network(OIM), tiny_stage(lr=0.01, head_lr=5.0, weight_decay=0.1), [beside])
    groups = [group for group in optimizer.param_groups if any(p is beside for p in group["params"])]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(pytest.approx(0.05), 0.0)]


@pytest.mark.parametrize(
    ("variant", "all_of"),
    [
        ("qeeps", set(VARIANTS)),
        ("oim+qrpn+qsimnet", set(VARIANTS) - {"qeeps"}),
        ("oim+qrpn", {"oim", "oim+qrpn"}),
        ("oim", {"oim"}),
    ],
)
def test_whether_a_checkpoint_has_the_query_guidance_of_a_variant(tmp_path, variant, all_of):
    save_checkpoint(tmp_path / "a.safetensors", network(replace(MODEL, variant=variant)), {})
    found = {v for v in VARIANTS if has_query_guidance(tmp_path / "a.safetensors", replace(MODEL, variant=v))}
    assert found == all_of


def test_the_optimizer_is_the_recipes():
    model = network(OIM)
    assert isinstance(make_optimizer(model, tiny_stage(optimizer="adamw")), torch.optim.AdamW)
    sgd = make_optimizer(model, tiny_stage(optimizer="sgd"))
    assert isinstance(sgd, torch.optim.SGD) and {group["momentum"] for group in sgd.param_groups} == {0.9}
    with pytest.raises(DataError, match="lion"):
        make_optimizer(model, tiny_stage(optimizer="lion"))


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.1),  # warm-up over 10 steps
        (4, 0.5),
        (9, 1.0),
        (10, 1.0),  # then a cosine over the other 100
        (35, 0.02 + 0.98 * (0.5 + math.sqrt(2) / 4)),
        (60, 0.51),
        (85, 0.02 + 0.98 * (0.5 - math.sqrt(2) / 4)),
        (110, 0.02),
    ],
)
def test_learning_rate(step, factor):
    config = tiny_stage(steps=110, warmup=10, final_lr=0.02)
    assert learning_rate_factor(step, config) == pytest.approx(factor)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 9), (100, 0)])
def test_learning_rate_of_short_stages(steps, warmup):
    factors = [learning_rate_factor(step, tiny_stage(steps=steps, warmup=warmup)) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] == (1.0 if warmup < 2 else 1 / warmup)


def test_training_mode_keeps_batchnorm_statistics_frozen():
    model = network(MODEL).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    assert model.qsimnet.norm.training


def people_who_differ_most_in_few_dimensions(dim, identities=40):
    """Unit embeddings (2 · identities, dim), two of each identity, and their labels."""
    random = np.random.default_rng(3)
    spread = np.linspace(1.0, 0.05, dim)
    means = random.normal(size=(identities, dim)) * spread
    rows = np.repeat(means, 2, axis=0) + 0.3 * spread * random.normal(size=(2 * identities, dim))
    embeddings = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()
    return embeddings, torch.arange(identities).repeat_interleave(2)


def test_qsimnet_starts_with_the_ranking_of_the_cosine():
    """BatchNorm alone would divide away what tells people apart."""
    embeddings, labels = people_who_differ_most_in_few_dimensions(MODEL.embedding_dim)
    model = network(MODEL)
    assert model.qsimnet.is_new
    start_qsimnet(model, embeddings, labels)
    assert not model.qsimnet.is_new
    similarity = (embeddings[:1] * embeddings[1:]).sum(dim=1)
    scores = model.similarity(embeddings[:1], embeddings[1:])
    assert torch.equal(scores.argsort(stable=True), similarity.argsort(stable=True))
    weight = model.qsimnet.closed_form().weight
    torch.testing.assert_close(weight, weight.mean().expand_as(weight), rtol=1e-4, atol=0.0)
    model.qsimnet.fc.weight.data = QSimNet(MODEL.embedding_dim).fc.weight.data  # as behind BatchNorm without it
    whitened = model.qsimnet.closed_form().weight
    assert whitened.max() / whitened.min() < 0.1  # both negative


def test_qsimnet_starts_with_scores_that_mean_something():
    embeddings, labels = people_who_differ_most_in_few_dimensions(MODEL.embedding_dim)
    model = network(MODEL)
    start_qsimnet(model, embeddings, labels)
    same = model.similarity(embeddings[0::2], embeddings[1::2])
    others = model.similarity(embeddings[0:-2:2], embeddings[2::2])
    assert same.median() > 0.5 > 0.1 > others.median()


def test_qsimnet_starts_as_a_distance_where_nobody_was_seen_twice():
    embeddings, _ = people_who_differ_most_in_few_dimensions(MODEL.embedding_dim)
    for count, new in ((6, False), (1, True)):
        model = network(MODEL)
        start_qsimnet(model, embeddings[:count], torch.arange(count))
        assert model.qsimnet.is_new == new
        assert all(tensor.isfinite().all() for tensor in model.qsimnet.state_dict().values())


def test_qsimnet_starts_as_a_distance_where_embeddings_tell_nobody_apart():
    """As those of an untrained network, for which no slope fits."""
    kept = []
    for seed in range(8):
        embeddings = torch.randn(40, MODEL.embedding_dim, generator=torch.Generator().manual_seed(seed))
        model = network(MODEL)
        start_qsimnet(model, nn.functional.normalize(embeddings), torch.arange(20).repeat_interleave(2))
        weight = model.qsimnet.closed_form().weight
        assert (weight < 0).all()
        kept.append(bool(torch.isclose(weight, torch.tensor(-INITIAL_SLOPE)).all()))
    assert any(kept)
