"""Linear discriminant analysis of ID Net, against scipy's generalised eigenproblem and on a set of two cameras."""

import numpy as np
import pytest
import scipy.linalg
import torch
from training_sets import MODEL, crops_source, no_targets, tiny_recipe, tiny_stage, write_crops

from qeeps_cli.device import autocast
from qeeps_cli.errors import DataError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.crop_bank import load_crops
from qeeps_cli.training.crop_batches import CropBatches
from qeeps_cli.training.discriminant import CROPS_EACH, discriminant, fold_discriminant
from qeeps_cli.training.embed_stage import embed_crops
from qeeps_cli.training.population import gather
from qeeps_cli.training.run import train
from qeeps_cli.weights import load_model, read_checkpoint

DIM = MODEL.embedding_dim


def scattered(people=60, each=5, dim=DIM, seed=0):
    """Unit rows of people who differ in the first half of the directions, and spread widely in the last one."""
    rng = np.random.default_rng(seed)
    means = np.where(np.arange(dim) < dim // 2, rng.normal(0, 1, (people, dim)), 0)
    spread = np.where(np.arange(dim) == dim - 1, 4.0, 0.3)
    counts = [each + person % 3 for person in range(people)]  # not all alike
    labels = np.repeat(np.arange(people), counts)
    rows = means[labels] + spread * rng.normal(0, 1, (len(labels), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(rows), torch.from_numpy(labels)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 3.0])
def test_against_the_generalised_eigenproblem(shrinkage):
    rows, labels = scattered()
    groups = [rows[labels == label].numpy() for label in range(60)]
    within = np.mean([np.cov(group.T) for group in groups], axis=0)
    between = np.cov(np.array([group.mean(axis=0) for group in groups]).T, bias=True)
    between -= np.mean([1 / len(group) for group in groups]) * within
    within += shrinkage * np.trace(within) / DIM * np.eye(DIM)
    ratios = scipy.linalg.eigh(between, within, eigvals_only=True).clip(min=0)
    matrix = discriminant(rows.float(), labels, shrinkage).numpy()
    share = np.diag(ratios / (1 + ratios))
    assert matrix @ within @ matrix.T == pytest.approx(share, abs=1e-4)
    assert matrix @ between @ matrix.T == pytest.approx(np.diag(ratios) @ share, abs=1e-3)


def test_the_same_from_few_rows_of_a_person_as_from_many():
    """What their means vary by chance is no difference between people."""
    generator = torch.Generator().manual_seed(5)
    people = torch.randn(4_000, 1, 3, generator=generator, dtype=torch.double) * torch.tensor([1.0, 0.5, 0.0])
    rows = people + torch.randn(4_000, 32, 3, generator=generator, dtype=torch.double)
    labels = torch.arange(4_000)
    many, few = (
        discriminant(rows[:, :each].flatten(0, 1), labels.repeat_interleave(each), 0.0) for each in (32, 2)
    )
    metrics = [matrix.T @ matrix for matrix in (many, few)]
    torch.testing.assert_close(*metrics, atol=0.05, rtol=0)
    assert metrics[0].diagonal().tolist() == pytest.approx([1 / 2, 1 / 5, 0], abs=0.03)


def nearest_is_the_same(rows, labels):
    rows = rows / rows.norm(dim=1, keepdim=True)
    similarity = (rows @ rows.T).fill_diagonal_(-2)
    return (labels[similarity.argmax(dim=1)] == labels).double().mean()


def test_other_people_are_told_apart_better():
    matrix = discriminant(*scattered(), shrinkage=1.0)
    rows, labels = scattered(seed=1)
    assert nearest_is_the_same(rows, labels) < 0.8 < 0.9 < nearest_is_the_same(rows @ matrix.T, labels)


def test_crops_that_do_not_vary():
    """One crop each, and all of one person: nothing can be learnt, and nothing breaks."""
    assert discriminant(torch.eye(DIM), torch.arange(DIM), 3.0).isfinite().all()
    assert discriminant(torch.ones(4, DIM) / DIM**0.5, torch.zeros(4), 3.0).isfinite().all()


def crop_batches(sources):
    population = gather(sources)
    return CropBatches(population, load_crops(population.people), no_targets(population), tiny_stage())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return QEEPS(MODEL).eval()


def test_id_net_gives_the_turned_embeddings(tmp_path, model):
    """Of those whom two cameras saw: the second set's people have no say."""
    two, one = write_crops(tmp_path / "two", identities=20), write_crops(tmp_path / "one", cameras="A")
    batches = crop_batches([crops_source(two), crops_source(one)])
    people = batches.across_cameras()
    assert people == list(range(20))
    drawn = list(batches.canvases_of(people, np.random.default_rng(3), CROPS_EACH))
    labels = torch.cat([batch["labels"] for batch in drawn])
    assert labels.unique(return_counts=True)[1].tolist() == [CROPS_EACH] * 20
    with torch.no_grad(), autocast(torch.device("cpu")):  # as `fold_discriminant` sees them
        before = torch.cat([embed_crops(model, batch["images"], batch["boxes"]) for batch in drawn])
        size = float(model.roi_head.id_net.weight.norm())
        fold_discriminant(model, batches, 1.0, np.random.default_rng(3))
        after = torch.cat([embed_crops(model, batch["images"], batch["boxes"]) for batch in drawn])
    expected = before.double() @ discriminant(before, labels, 1.0).T
    torch.testing.assert_close(after.double(), expected / expected.norm(dim=1, keepdim=True), atol=1e-3, rtol=0)
    assert model.roi_head.id_net.weight.norm().item() == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize(("identities", "cameras"), [(DIM, "AB"), (20, "A")])
def test_too_few_people_are_refused(tmp_path, model, identities, cameras):
    """Fewer than there are directions would leave directions that nobody has."""
    batches = crop_batches([crops_source(write_crops(tmp_path / "set", identities=identities, cameras=cameras))])
    before = model.roi_head.id_net.weight.clone()
    with pytest.raises(DataError, match=f"{DIM} directions.*two cameras saw.* has {DIM if cameras == 'AB' else 0}"):
        fold_discriminant(model, batches, 3.0, np.random.default_rng(3))
    assert model.roi_head.id_net.weight.equal(before)


def test_an_embedding_that_tells_nobody_apart_is_refused(tmp_path, model):
    """There is no direction to turn it to."""
    batches = crop_batches([crops_source(write_crops(tmp_path / "set", identities=20))])
    with torch.no_grad():
        model.roi_head.id_net.weight.zero_()
        model.roi_head.id_net.bias.fill_(1.0)
    with pytest.raises(DataError, match="tells people apart.* Train it first"):
        fold_discriminant(model, batches, 3.0, np.random.default_rng(3))
    assert not model.roi_head.id_net.weight.any()


def test_a_stage_of_nothing_else(tmp_path):
    """steps = 0: ID Net is turned, all else is what the run started with; the holdout is measured again."""
    source = crops_source(write_crops(tmp_path / "crops", identities=20), holdout=2)
    lines = []

    def run(out, **changes):
        stages = {"embed": tiny_stage(losses={"contrastive": 1.0}, **changes)}
        recipe = tiny_recipe(
            [source], stages, seed=4, **({"init": tmp_path / "a/embed.safetensors"} if out != "a" else {})
        )
        return train(recipe, tmp_path / out, torch.device("cpu"), lambda progress: None, lines.append)

    first, second = (load_model(read_checkpoint(path)) for path in (run("a"), run("b", steps=0, discriminant=1.0)))
    other = {k for k, tensor in second.state_dict().items() if not tensor.equal(first.state_dict()[k])}
    assert other == {"roi_head.id_net.weight", "roi_head.id_net.bias"}
    assert any("with the discriminant: crop_mAP" in line for line in lines)
