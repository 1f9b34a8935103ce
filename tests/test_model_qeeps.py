"""The assembled network: batches, empty frames, the query's influence, and numbers that are not numbers."""

from dataclasses import replace

import pytest
import torch
from networks import FEW, SIZE, person_boxes, pictures, small_network
from torch import Tensor

from qeeps_cli.errors import NotANumberError
from qeeps_cli.model.config import VARIANTS, InferenceParams
from qeeps_cli.model.qeeps import QEEPS, Found, QueryInput

ONE_PASS = replace(FEW, second_pass=False)
PASSES = pytest.mark.parametrize("second_pass", [True, False])
DIM = 32


@pytest.fixture(scope="module")
def networks() -> dict[str, QEEPS]:
    return {variant: small_network(variant) for variant in VARIANTS}


@pytest.fixture
def qeeps(networks) -> QEEPS:
    return networks["qeeps"]


@torch.no_grad()
def encode(model: QEEPS, count: int = 1, seed: int = 7) -> QueryInput:
    return model.encode_query(pictures(count, seed=seed), person_boxes(count))


def one_of(query: QueryInput, index: int) -> QueryInput:
    row = slice(index, index + 1)
    return QueryInput(query.stem.pick(row), query.boxes[row])


def assert_same(one: Found, other: Found) -> None:
    for name, a, b in zip(Found._fields, one, other, strict=True):
        tolerance = 1e-3 if name == "boxes" else 1e-5
        torch.testing.assert_close(a, b, rtol=1e-4, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def assert_empty(found: Found) -> None:
    assert [tuple(tensor.shape) for tensor in found[:-1]] == [(0, 4), (0,), (0,), (0, DIM)]


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_found_people_are_in_the_image_in_descending_score(networks, variant):
    model = networks[variant]
    for query in (None, encode(model)):
        for found in model(pictures(2), query, FEW):
            count = len(found.boxes)
            assert 0 < count <= FEW.proposals
            assert [tuple(t.shape) for t in found[:-1]] == [(count, 4), (count,), (count,), (count, DIM)]
            assert all(t.dtype == torch.float32 and not t.requires_grad for t in found)
            assert (found.scores.diff() <= 0).all()
            assert (found.boxes >= 0).all()
            assert (found.boxes[:, 2] <= SIZE[1]).all() and (found.boxes[:, 3] <= SIZE[0]).all()
            assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all()
            torch.testing.assert_close(found.embeddings.norm(dim=1), torch.ones(count))
            if query is None:
                assert torch.equal(found.scores, found.person_scores)


@PASSES
@pytest.mark.parametrize("variant", ["oim", "oim+qrpn+qsimnet", "qeeps"])
@pytest.mark.parametrize("queries", [0, 1, 3])
def test_a_batch_equals_its_singles(networks, variant, queries, second_pass):
    """0: without a query; 1: one query for the whole batch; 3: each image has its own."""
    model, params = networks[variant], replace(FEW, second_pass=second_pass)
    images = pictures(3, seed=3)
    query = encode(model, queries) if queries else None
    for i, found in enumerate(model(images, query, params)):
        own = query if queries < 2 else one_of(query, i)
        assert_same(found, model(images[i : i + 1], own, params)[0])


@torch.no_grad()
def test_the_querys_embedding_is_that_of_its_own_pair(qeeps):
    """With QSSE the query's features depend on the gallery image that it is paired with."""
    images, query = pictures(3, seed=3), encode(qeeps)
    _, query_maps = qeeps.basenet(images, query.stem)
    embeddings = qeeps.query_embedding(query_maps, query)
    assert embeddings.shape == (3, DIM)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-4
    for i in range(3):
        _, own_map = qeeps.basenet(images[i : i + 1], query.stem)
        torch.testing.assert_close(qeeps.query_embedding(own_map, query), embeddings[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_another_query_changes_the_scores_and_with_qrpn_the_proposals(networks, variant):
    model, images = networks[variant], pictures(1, seed=3)

    @torch.no_grad()
    def search(query: QueryInput) -> tuple[Tensor, Found]:
        gallery_maps, query_maps = model.basenet(images, query.stem)
        proposals = model.proposals(tuple(images.shape[-2:]), gallery_maps, query_maps, query, FEW)
        return proposals[0], model(images, query, FEW)[0]

    one, other, again = (search(encode(model, seed=seed)) for seed in (7, 8, 7))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1].scores, again[1].scores)
    assert torch.equal(one[0], other[0]) == (variant in ("oim", "oim+qsimnet"))
    assert one[1].scores.shape != other[1].scores.shape or (one[1].scores - other[1].scores).abs().max() > 1e-4


@torch.no_grad()
def test_the_querys_box_matters_and_not_only_its_image(qeeps):
    image, query = pictures(1, seed=3), encode(qeeps)
    elsewhere = query._replace(boxes=torch.tensor([[80.0, 20.0, 120.0, 90.0]]))
    one, other = (qeeps(image, q, FEW)[0] for q in (query, elsewhere))
    assert one.scores.shape != other.scores.shape or (one.scores - other.scores).abs().max() > 1e-4


@torch.no_grad()
def test_without_qsimnet_the_score_is_the_cosine(networks):
    model = networks["oim"]
    image, query = pictures(1, seed=3), encode(model)
    query_embedding = model.query_embedding(model.basenet(image, query.stem)[1], query)
    found = model(image, query, FEW)[0]
    torch.testing.assert_close(found.scores, (found.embeddings @ query_embedding.T)[:, 0])


@torch.no_grad()
def test_an_image_finds_the_box_that_it_was_asked_for(networks):
    """A query taken from the frame itself: the box's own embedding is the best match there can be."""
    model = networks["oim"]
    image = pictures(1, seed=3)
    found = model(image, None, FEW)[0]
    query = model.encode_query(image, found.boxes[2:3])
    again = model(image, query, FEW)[0]
    torch.testing.assert_close(again.boxes[0], found.boxes[2], rtol=0, atol=1e-2)
    assert float(again.scores[0]) == pytest.approx(1, abs=1e-4)


@PASSES
@pytest.mark.parametrize("queried", [True, False])
@pytest.mark.parametrize(
    "nothing", [{"min_objectness": 1.1}, {"min_person_score": 1.1}, {"proposals": 0}], ids=lambda n: next(iter(n))
)
def test_frames_in_which_nothing_survives_are_empty(networks, nothing, queried, second_pass):
    params = replace(FEW, second_pass=second_pass, **nothing)
    for variant in ("oim", "qeeps"):
        query = encode(networks[variant]) if queried else None
        for images in (pictures(1), pictures(3)):
            found = networks[variant](images, query, params)
            assert len(found) == len(images)
            for one in found:
                assert_empty(one)


def test_an_empty_frame_is_empty_in_bfloat16_and_channels_last_too(qeeps):
    images = pictures(2).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        for found in qeeps(images, encode(qeeps), replace(FEW, min_objectness=1.1)):
            assert_empty(found)


@torch.no_grad()
@PASSES
@pytest.mark.parametrize("queried", [True, False])
@pytest.mark.parametrize("threshold", ["min_objectness", "min_person_score"])
def test_an_empty_frame_leaves_its_neighbours_as_they_are(qeeps, threshold, queried, second_pass):
    params = replace(FEW, second_pass=second_pass)
    images = pictures(2, seed=3)
    query = encode(qeeps) if queried else None
    best = _best(qeeps, images, query, params, threshold)
    order = best.argsort()
    assert best[order[1]] - best[order[0]] > 1e-4
    params = replace(params, **{threshold: float(best.mean())})
    blank, rich = images[order[0]], images[order[1]]
    expected = qeeps(rich[None], query, params)[0]
    assert len(expected.boxes) > 0
    for batch, empty in (([blank, rich, blank], (0, 2)), ([rich, blank], (1,))):
        for i, found in enumerate(qeeps(torch.stack(batch), query, params)):
            assert_empty(found) if i in empty else assert_same(found, expected)


def _best(model: QEEPS, images: Tensor, query: QueryInput | None, params: InferenceParams, threshold: str) -> Tensor:
    """(B,) the highest value of each image that the threshold is compared with."""
    if threshold == "min_person_score":
        everyone = replace(params, nms=1.0)
        return torch.stack([found.person_scores.max() for found in model(images, query, everyone)])
    gallery_maps, query_maps = model.basenet(images, None if query is None else query.stem)
    logits, _ = model.rpn(gallery_maps.conv4)
    if query is not None:
        logits = logits + model.qrpn(gallery_maps.conv4, query_maps.conv4, query.boxes)
    return logits.sigmoid().amax(dim=1)


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (90, 2), (33, 47)])
def test_frames_of_any_shape_run(qeeps, size):
    query = qeeps.encode_query(pictures(1, size=size), torch.tensor([[0.0, 0.0, size[1], size[0]]]))
    for found in qeeps(pictures(2, seed=3, size=size), query, FEW):
        assert found.scores.isfinite().all()


@torch.no_grad()
def test_the_second_pass_pools_again_on_the_refined_boxes(qeeps):
    image, query = pictures(1, seed=3), encode(qeeps)
    first, second = qeeps(image, query, ONE_PASS)[0], qeeps(image, query, FEW)[0]
    order = [int((first.boxes == box).all(dim=1).nonzero()) for box in second.boxes]
    assert sorted(order) == list(range(len(first.boxes)))  # the same people, perhaps in another order
    assert torch.equal(first.person_scores[order], second.person_scores)
    gallery_maps, query_maps = qeeps.basenet(image, query.stem)
    embeddings = qeeps.embed_boxes(gallery_maps, [second.boxes])
    torch.testing.assert_close(second.embeddings, embeddings)
    assert (first.embeddings[order] - embeddings).abs().max() > 1e-4
    scores = qeeps.similarity(qeeps.query_embedding(query_maps, query), embeddings)
    torch.testing.assert_close(second.scores, scores)


@torch.no_grad()
def test_bfloat16_keeps_boxes_and_scores_in_float32(qeeps):
    image = pictures(1, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = qeeps(image, encode(qeeps), FEW)[0]
    assert len(found.boxes) > 0
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in found)


@pytest.mark.parametrize(
    "damaged",
    [
        "basenet.layer2.0.conv1.weight",
        "rpn.bbox_pred.bias",
        "qrpn.fc2.bias",
        "roi_head.cls_net.bias",
        "roi_head.reg_net.bias",
        "roi_head.id_net.bias",
    ],
)
def test_values_that_are_not_numbers_are_an_error_not_an_empty_frame(qeeps, damaged):
    parameter = qeeps.get_parameter(damaged).data
    intact = parameter.clone()
    parameter.fill_(float("nan"))
    try:
        with pytest.raises(NotANumberError, match="not numbers.*weights may be damaged"):
            qeeps(pictures(1), encode(qeeps), FEW)
    finally:
        parameter.copy_(intact)
