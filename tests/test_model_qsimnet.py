"""QSimNet: its closed form, its BatchNorm, and the ranking that it starts with (§4.3)."""

import pytest
import torch
from networks import randomise
from torch import Tensor
from torch.nn import functional as F

from qeeps_cli.model.qsimnet import SAME, QSimNet

DIM = 32


def embeddings(count: int, seed: int, dim: int = DIM) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def random_qsimnet(seed: int = 0) -> QSimNet:
    torch.manual_seed(seed)
    return randomise(QSimNet(DIM), seed).eval()


@torch.no_grad()
@pytest.mark.parametrize("count", [0, 1, 7])
def test_logits_are_the_papers_layers_one_after_the_other(count):
    net = random_qsimnet()
    query, gallery = embeddings(1, 1), embeddings(count, 2)
    norm = net.norm
    squared = (query - gallery) ** 2
    normal = (squared - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected = normal @ net.fc.weight.T + net.fc.bias
    logits = net(query, gallery)
    assert logits.shape == (count, 2)
    torch.testing.assert_close(logits, expected)
    scores = net.score(query, gallery)
    torch.testing.assert_close(scores, expected.softmax(1)[:, SAME])
    assert scores.shape == (count,)


@torch.no_grad()
@pytest.mark.parametrize("queries", [0, 1, 4])
def test_closed_form_equals_the_module_and_ranks_as_it_does(queries):
    net = random_qsimnet()
    query, gallery = embeddings(queries, 1), embeddings(50, 2)
    logits = net.closed_form().logits(query, gallery)
    assert logits.shape == (queries, 50)
    for i in range(queries):
        pairwise = net(query[i : i + 1], gallery)
        torch.testing.assert_close(logits[i], pairwise[:, SAME] - pairwise[:, 1 - SAME], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[i].sigmoid(), net.score(query[i : i + 1], gallery), rtol=0, atol=1e-5)
        ranked = pairwise[:, SAME] - pairwise[:, 1 - SAME]
        assert torch.equal(logits[i].argsort(), ranked.argsort())


@torch.no_grad()
def test_closed_form_holds_for_the_small_statistics_of_squared_differences():
    """Differences of unit vectors square to about 2/D each: a trained running variance is tiny, its inverse large."""
    net = random_qsimnet()
    net.norm.running_mean.fill_(2 / DIM)
    net.norm.running_var.fill_((2 / DIM) ** 2)
    query, gallery = embeddings(3, 1), embeddings(50, 2)
    pairwise = torch.stack([net(q[None], gallery) for q in query])
    expected = pairwise[..., SAME] - pairwise[..., 1 - SAME]
    torch.testing.assert_close(net.closed_form().logits(query, gallery), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_batchnorm_uses_running_statistics_in_a_search_and_the_batchs_in_training():
    net = random_qsimnet()
    query, gallery = embeddings(1, 1), embeddings(9, 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    alone = torch.cat([net(query, gallery[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(net(query, gallery), alone)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net.train()
    assert not torch.allclose(net(query, gallery), alone, atol=1e-2)
    assert not torch.equal(net.norm.running_mean, before["norm.running_mean"])


@torch.no_grad()
def test_the_first_ranking_is_the_cosines():
    assert SAME == 1  # score = softmax[1], and label 1 of the Sim loss
    net = QSimNet(256).eval()
    query, gallery = embeddings(1, 1, 256), embeddings(100, 2, 256)
    cosine = (query * gallery).sum(1)
    assert torch.equal(net.score(query, gallery).argsort(), cosine.argsort())
    assert net.score(query, query) > net.score(query, gallery).max()


@torch.no_grad()
def test_scores_are_float32_under_autocast():
    net = random_qsimnet()
    query, gallery = embeddings(1, 1), embeddings(50, 2)
    expected = net.score(query, gallery)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.score(query, gallery), expected)
        assert torch.equal(net.score(query.bfloat16(), gallery), net.score(query.bfloat16().float(), gallery))


@torch.no_grad()
def test_scores_depend_on_the_query():
    net = random_qsimnet()
    gallery = embeddings(20, 2)
    assert (net.score(embeddings(1, 1), gallery) - net.score(embeddings(1, 3), gallery)).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("spread", [0.0, 0.25, 1.0])
def test_weights_are_evened_out_around_their_mean(spread):
    module = random_qsimnet()
    before = module.closed_form().weight
    module.even_out(spread)
    after = module.closed_form().weight
    torch.testing.assert_close(after.mean(), before.mean())
    torch.testing.assert_close(after - after.mean(), spread * (before - before.mean()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_even_weights_rank_as_the_cosine_does():
    module = QSimNet(16)
    module.norm.running_var.uniform_(0.5, 1.5)
    module.fc.weight[1] -= torch.rand(16)  # the nearer, the likelier
    module.even_out(0.0)
    query, gallery = (embeddings(n, seed=n, dim=16) for n in (1, 50))
    assert torch.equal(module.eval().score(query, gallery).argsort(), (gallery @ query[0]).argsort())
