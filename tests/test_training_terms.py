"""L of Eq. 3: the sum of its seven terms, each of which trains the blocks that it should and no others."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_sets import (
    MODEL,
    batches_of,
    crops_source,
    frames_source,
    tiny_recipe,
    tiny_stage,
    write_crops,
    write_scene,
)

from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.model.config import ROI_HEADS
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.config import PAPER_LOSSES
from qeeps_cli.training.crop_bank import load_crops
from qeeps_cli.training.embed_stage import EmbedStage, crop_pairs, mirrored
from qeeps_cli.training.oim import OIMLoss
from qeeps_cli.training.oim_stage import OIMStage
from qeeps_cli.training.qeeps_stage import QEEPSStage
from qeeps_cli.training.run import first_embeddings, train
from qeeps_cli.weights import FORMAT, read_checkpoint, save_checkpoint

AUXILIARIES = {"contrastive": 0.5, "teacher": 0.5, "sim_crops": 0.5, "qrpn_people": 0.5}

# Blocks by the prefix of their parameters. QSSE sits in BaseNet's residual blocks, so every term passes through it.
BASENET = ("basenet.layer", "basenet.qsse")
CONV5 = ("roi_head.layer4",)
IDENTIFICATION = (*BASENET, *CONV5, "roi_head.id_net")
REACHES = {
    "cls": (*BASENET, *CONV5, "roi_head.cls_net"),
    "reg": (*BASENET, *CONV5, "roi_head.reg_net"),
    "rpn_cls": (*BASENET, "rpn.conv", "rpn.cls_logits"),
    "rpn_reg": (*BASENET, "rpn.conv", "rpn.bbox_pred"),
    "oim": IDENTIFICATION,
    "qrpn": (*BASENET, "qrpn"),
    "qrpn_people": (*BASENET, "qrpn"),
    "sim": (*IDENTIFICATION, "qsimnet"),
    "contrastive": IDENTIFICATION,
    "teacher": IDENTIFICATION,
    "sim_crops": (*IDENTIFICATION, "qsimnet"),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terms")
    return [frames_source(write_scene(folder / "scene")), crops_source(write_crops(folder / "crops"))]


def build(sources, stage_name, variant=MODEL.variant, **changes):
    """A stage as a run builds it, and its network: random weights, QSSE past its start, where FC1 has no gradient."""
    config = tiny_stage(**changes)
    population, frames, crops = batches_of(sources, config)
    torch.manual_seed(0)
    model = QEEPS(replace(MODEL, variant=variant if stage_name == "qeeps" else "oim"))
    for block in model.basenet.qsse or []:
        nn.init.normal_(block.fc2.weight, std=0.05)
    if stage_name == "embed":
        return EmbedStage(config, crops, seed=1), model
    oim = OIMLoss(population.num_identities, MODEL.embedding_dim, scale=config.oim_scale)
    oim.update(*first_embeddings(model, population, load_crops(population.people), config.canvas))
    stage = (OIMStage if stage_name == "oim" else QEEPSStage)(config, frames, crops, oim, seed=1)
    return stage, model.train()


def give_targets(batch):
    """A teacher's targets for everybody, so that its term is not zero."""
    torch.manual_seed(0)
    for part in [*batch["people"], *([batch["crops"]] if batch["crops"] else [])]:
        targets = part["targets"] if isinstance(part, dict) else part.targets
        targets.copy_(nn.functional.normalize(torch.randn_like(targets), dim=1))


@pytest.fixture(scope="module")
def pair_losses(sources):
    """The terms of one step on pairs, and their network. Without autocast, so that a zero gradient is zero."""
    size = (288, 384)  # views that show other people, too
    stage, model = build(sources, "qeeps", self_pairs=0.0, absent=0.0, size=size, losses=AUXILIARIES)
    batch = stage.batch(0)
    give_targets(batch)
    return stage.losses(model, batch), model


def test_the_terms_of_a_pair(pair_losses):
    losses, _ = pair_losses
    assert set(losses) == set(PAPER_LOSSES) | set(AUXILIARIES)
    assert len(PAPER_LOSSES) == 7
    for name, loss in losses.items():
        assert loss.shape == () and float(loss.detach()) > 0, name


@pytest.mark.parametrize("term", REACHES)
def test_a_term_reaches_its_blocks_and_no_others(pair_losses, term):
    losses, model = pair_losses
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    gradients = torch.autograd.grad(losses[term], parameters, retain_graph=True, allow_unused=True)
    reached = {name for name, g in zip(names, gradients, strict=True) if g is not None and bool(g.any())}
    assert reached == {name for name in names if name.startswith(REACHES[term])}
    assert all(bool(g.isfinite().all()) for g in gradients if g is not None)


@pytest.mark.parametrize(
    ("variant", "query_terms"),
    [
        ("oim+qrpn+qsimnet", {"qrpn", "sim", "oim"}),
        ("qeeps", set(PAPER_LOSSES)),  # QSSE re-weights the gallery's features by the query's: every term sees both
    ],
)
def test_which_terms_see_the_query(sources, variant, query_terms):
    stage, model = build(sources, "qeeps", variant, self_pairs=0.0, absent=0.0, identities=0)
    batch = stage.batch(0)
    shown = {key: batch[key].float().requires_grad_() for key in ("query_images", "images")}  # bytes have no gradient
    images = list(shown.values())
    for name, loss in stage.losses(model, batch | shown).items():
        query, gallery = torch.autograd.grad(loss, images, retain_graph=True, allow_unused=True)
        assert (query is not None and bool(query.any())) == (name in query_terms), name
        assert bool(gallery.any()), name


def test_the_first_layers_are_frozen(pair_losses):
    _, model = pair_losses
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"basenet.conv1.weight", "basenet.bn1.weight", "basenet.bn1.bias"}


@pytest.mark.parametrize(
    ("stage_name", "changes", "terms"),
    [
        ("embed", {}, {"contrastive", "teacher"}),
        ("oim", {}, {"cls", "reg", "rpn_cls", "rpn_reg", "oim"}),
        ("oim", {"identities": 0}, {"cls", "reg", "rpn_cls", "rpn_reg", "oim"}),
        ("oim", {"losses": {"contrastive": 0.1}}, {"cls", "reg", "rpn_cls", "rpn_reg", "oim", "contrastive"}),
        ("qeeps", {"self_pairs": 0.0, "identities": 0}, set(PAPER_LOSSES)),
        ("qeeps", {"self_pairs": 0.0, "absent": 1.0}, {*PAPER_LOSSES, "sim_crops"}),
        ("qeeps", {"self_pairs": 0.0, "losses": {"qrpn_people": 1.0}}, {*PAPER_LOSSES, "sim_crops", "qrpn_people"}),
        # paired with themselves, as the cached search pairs frames: there is no query for QRPN
        ("qeeps", {"self_pairs": 1.0}, {*PAPER_LOSSES, "sim_crops"} - {"qrpn"}),
    ],
)
def test_the_terms_of_each_stage(sources, stage_name, changes, terms):
    stage, model = build(
        sources, stage_name, **{"losses": {"contrastive": 1.0} if stage_name == "embed" else {}} | changes
    )
    losses = stage.losses(model, stage.batch(0))
    assert set(losses) == terms
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_self_paired_images_do_not_see_each_other(sources):
    """The gallery's terms of a self-paired step are the same whatever the query image shows."""
    stage, model = build(sources, "qeeps", self_pairs=1.0, identities=0)
    batch = stage.batch(0)
    detector = []
    for query_images in (batch["query_images"], torch.zeros_like(batch["query_images"])):
        torch.manual_seed(0)
        losses = stage.losses(model, batch | {"query_images": query_images})
        detector.append([float(losses[name].detach()) for name in ("cls", "reg", "rpn_cls", "rpn_reg")])
    assert detector[0] == detector[1]
    stage, model = build(sources, "qeeps", self_pairs=0.0, identities=0)
    batch = stage.batch(0)
    torch.manual_seed(0)
    one = stage.losses(model, batch)
    torch.manual_seed(0)
    other = stage.losses(model, batch | {"query_images": torch.zeros_like(batch["query_images"])})
    assert all(float(one[name].detach()) != float(other[name].detach()) for name in ("cls", "rpn_cls", "qrpn"))


@pytest.mark.parametrize("variant", ["oim", "qeeps"])
def test_the_embedding_alone_classifies_and_scores_pairs_if_asked(sources, tmp_path, variant):
    """From a query-guided checkpoint the stage goes on with that network; its trunk stays as it is."""
    save_checkpoint(tmp_path / "start.safetensors", QEEPS(replace(MODEL, variant=variant)), {}, half=False)
    weights = {"contrastive": 1.0, "classify": 0.5, "sim_crops": 0.5}
    recipe = tiny_recipe(sources, {"embed": tiny_stage(steps=2, trunk_lr=0.0, losses=weights)})
    recipe = replace(recipe, init=tmp_path / "start.safetensors")
    steps = []
    train(recipe, tmp_path / "run", torch.device("cpu"), steps.append, lambda line: None)
    terms = {"contrastive", "teacher", "classify"} | ({"sim_crops"} if variant == "qeeps" else set())
    assert [set(progress.losses) for progress in steps] == [terms, terms]
    before, after = load_file(tmp_path / "start.safetensors"), load_file(tmp_path / "run" / "embed.safetensors")
    assert before.keys() == after.keys()
    moved = {n for n in before if not torch.allclose(before[n].float(), after[n].float(), rtol=1e-3, atol=1e-5)}
    assert moved and all(name.startswith(("roi_head.layer4", "roi_head.id_net", "qsimnet")) for name in moved)


@pytest.mark.parametrize("variant", ["oim+qrpn", "oim+qrpn+qsimnet", "qeeps"])
def test_the_guidance_is_trained_alone_if_asked(sources, tmp_path, variant):
    """Also in steps that have nothing for QRPN, which pairs alone train."""
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, QEEPS(replace(MODEL, variant=variant)), {}, half=False)
    losses = {"oim": 0.0, "contrastive": 1.0, "sim_crops": 1.0}
    stage = tiny_stage(steps=6, self_pairs=0.5, guidance_only=True, losses=losses)
    recipe = tiny_recipe(sources, {"qeeps": stage}, init=start, model=replace(MODEL, variant=variant))
    steps = []
    trained = load_file(train(recipe, tmp_path / "run", torch.device("cpu"), steps.append, lambda line: None))
    assert len({"qrpn" in progress.losses for progress in steps}) == 2 and "oim" not in steps[0].losses
    before = load_file(start)
    assert before.keys() == trained.keys()
    moved = {name for name in before if not torch.equal(before[name].half(), trained[name].half())}
    blocks = {name.split(".")[0] for name in moved if not name.startswith("basenet.")}
    assert blocks == {"qrpn", "qsimnet"} & {name.split(".")[0] for name in before}
    trunk = {name for name in moved if name.startswith("basenet.")}
    assert all(name.startswith("basenet.qsse.") for name in trunk) and bool(trunk) == (variant == "qeeps")


def test_guidance_alone_needs_a_network_to_guide(sources, tmp_path):
    start = tmp_path / "start.safetensors"
    tensors = {name: tensor for name, tensor in QEEPS(MODEL).state_dict().items() if "id_net" not in name}
    save_file(tensors, start, metadata={"format": FORMAT})
    recipe = tiny_recipe(sources, {"qeeps": tiny_stage(guidance_only=True)}, init=start)
    with pytest.raises(DataError, match="guidance_only needs a trained network.*start.safetensors has no ID Net"):
        train(recipe, tmp_path / "run", torch.device("cpu"), lambda step: None, lambda line: None)


@pytest.mark.parametrize("roi_head", ROI_HEADS)
def test_canvases_that_come_again_are_kept(sources, roi_head):
    """As feature maps, from which the losses are the same, bit for bit, as from the pictures of a resumed run."""
    config = tiny_stage(trunk_lr=0.0, repeat=3, losses={"contrastive": 1.0})
    _, _, crops = batches_of(sources, config)
    model = QEEPS(replace(MODEL, roi_head=roi_head))
    before, resumed = (EmbedStage(config, crops, seed=1) for _ in range(2))
    for step in range(3):
        before.losses(model, before.batch(step))
    seen = []
    for step in (3, 4, 5, 6):
        kept, fresh = before.batch(step), resumed.batch(step)
        assert "images" not in kept
        others = [before.batch(step + 1), before.batch(step + 3)]  # in the same blocks, or they would leave holes
        assert all({_block(value) for value in _tensors(other)} == {*map(_block, _tensors(kept))} for other in others)
        losses = [stage.losses(model, batch) for stage, batch in ((before, kept), (resumed, fresh))]
        assert losses[0]["contrastive"].equal(losses[1]["contrastive"])
        assert torch.equal(kept["targets"].nan_to_num(9), fresh["targets"].nan_to_num(9))
        gradient = torch.autograd.grad(losses[0]["contrastive"], model.roi_head.id_net.weight)[0]
        assert gradient.any()
        seen.append(float(losses[0]["contrastive"].detach()))
    assert len(set(seen[:3])) == 3
    assert (seen[0] == seen[3]) is (roi_head != "pixels")  # whose pictures come mirrored every other time
    with pytest.raises(UsageError, match=r"repeat = 3 .*trunk_lr = 0\.0"):
        EmbedStage(replace(config, trunk_lr=1.0), crops, seed=1)


def _tensors(batch):
    return [value for value in (*batch.values(), *batch["maps"]) if isinstance(value, torch.Tensor)]


def _block(tensor):
    return tensor.untyped_storage().data_ptr()


def test_mirrored_people_stay_in_their_boxes():
    images, boxes = torch.zeros(2, 3, 8, 10), torch.tensor([[1.0, 2, 4, 7], [5, 0, 10, 3]])
    for image, box in zip(images, boxes.int().tolist(), strict=True):
        image[:, box[1] : box[3], box[0] : box[2]] = torch.arange(1.0, box[2] - box[0] + 1)
    shown, moved = mirrored(images, boxes)
    assert moved.tolist() == [[6, 2, 9, 7], [0, 0, 5, 3]]
    for before, after, box, other in zip(images, shown, boxes.int().tolist(), moved.int().tolist(), strict=True):
        person = before[:, box[1] : box[3], box[0] : box[2]]
        assert after[:, other[1] : other[3], other[0] : other[2]].equal(person.flip(2)) and after.sum() == person.sum()


def test_someone_unknown_is_nobody_else():
    first, second, same = crop_pairs(torch.tensor([4, -1, 4, -1]))
    assert list(zip(first.tolist(), second.tolist(), same.tolist(), strict=True)) == [
        (0, 1, 0), (0, 2, 1), (0, 3, 0), (1, 2, 0), (1, 3, 0), (2, 3, 0),
    ]  # fmt: skip


def test_what_a_start_brings_is_said_and_its_terms_go_on(sources, tmp_path):
    """Unless the recipe states others."""
    start = QEEPS(replace(MODEL, roi_head="pixels"))
    save_checkpoint(tmp_path / "start.safetensors", start, {"terms": "research only"})
    stage = tiny_stage(steps=1, trunk_lr=0.0, losses={"contrastive": 1.0})
    found = {}
    for head, stride, card in (("pixels", 32, {}), ("pixels", 16, {}), ("fine", 32, {"terms": "mine"})):
        said = []
        recipe = tiny_recipe(sources, {"embed": stage}, init=tmp_path / "start.safetensors", card=card)
        recipe = replace(recipe, model=replace(MODEL, roi_head=head, id_stride=stride))
        path = train(recipe, tmp_path / f"{head}{stride}", torch.device("cpu"), lambda step: None, said.append)
        notes = [any(note in line for line in said) for note in ("ID Net starts anew", "16 here and 32 in start.safet")]
        found[head, stride] = read_checkpoint(path).card["terms"], *notes
    inherited = "Trained from start.safetensors, whose terms are: research only"
    assert found["pixels", 32] == (inherited, False, False) and found["pixels", 16] == (inherited, False, True)
    assert found["fine", 32] == ("mine", True, False)


def test_a_share_of_the_start_is_kept(sources, tmp_path):
    """In the checkpoint, not in the run: it goes on from what was trained."""
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, QEEPS(MODEL), {}, half=False)
    stage = tiny_stage(steps=2, trunk_lr=0.0, losses={"contrastive": 1.0})
    found = {}
    for share in (0.0, 0.25):
        recipe = tiny_recipe(sources, {"embed": stage}, init=start, keep_of_init=share)
        model_path = train(recipe, tmp_path / str(share), torch.device("cpu"), lambda step: None, lambda line: None)
        found[share] = load_file(model_path)
    began = load_file(start)
    moved = [n for n, t in began.items() if not torch.allclose(found[0.0][n].float(), t.float(), rtol=1e-3, atol=1e-5)]
    assert any("id_net" in name for name in moved)
    for name, trained in found[0.0].items():
        expected = torch.lerp(trained.float(), began[name].float(), 0.25)
        torch.testing.assert_close(found[0.25][name].float(), expected, rtol=2e-3, atol=1e-4)
    states = [torch.load(tmp_path / str(share) / "state.pt", weights_only=True)["model"] for share in found]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("weights", [{}, {"oim": 0.25, "sim": 3.0, "reg": 0.0, "contrastive": 2.0}])
def test_the_total_is_the_weighted_sum(sources, tmp_path, weights):
    """As trained, under autocast: all λ are 1 and the auxiliary terms off (§4.4), unless the recipe weighs them."""
    steps = []
    stage = tiny_stage(steps=2, self_pairs=0.0, losses=weights)
    train(tiny_recipe(sources, {"qeeps": stage}), tmp_path, torch.device("cpu"), steps.append, lambda line: None)
    assert len(steps) == 2
    for progress in steps:
        assert set(progress.losses) >= set(PAPER_LOSSES)
        expected = sum(weights.get(name, float(name in PAPER_LOSSES)) * v for name, v in progress.losses.items())
        assert progress.total == pytest.approx(expected, rel=1e-5)
