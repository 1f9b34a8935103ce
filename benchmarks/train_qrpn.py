"""Can QRPN learn whom it is asked for? New QRPNs beside a network that stays as it is, by the paper's loss alone and
with the auxiliary one, which contrasts the people of a frame.

    python benchmarks/train_qrpn.py --recipe RECIPE.toml --data-root DATA --out DIR --seeds 1 2 3

RECIPE.toml names a network with QRPN as init, sets of frames, and [stages.qeeps], of which size, images, lr, head_lr,
warmup, final_lr, clip_norm, weight_decay and steps count. Because the network stays as it is, the conv4 maps of --pairs
gallery views (half a megabyte a view of 384×640) and what FC1 reads of as many query people are computed once and kept;
a gallery view as its own pair's query guides QSSE, which is an approximation for other queries. A step then shows
`images` gallery views, each with --queries queries: of people who are in it, by any view of them, some of the very
frame, and the last one of anybody. All seeds and losses see the same views.

Writes DIR/LOSS-SEED.safetensors, the network with that QRPN, for benchmarks/proposal_recall.py and qeeps benchmark, and
prints how often QRPN's logits place the person asked for before another person of the same view (AUC, per cent; chance
is 50): of --held-out pairs of training views, and of as many of the recipe's [validation] set, which show the person in
another frame, each with the standard error over the pairs.
"""

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from timing import table
from torch import Tensor

from qeeps_cli.device import autocast, resolve_device
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.model.preprocess import normalise
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.rpn import QRPN
from qeeps_cli.training.config import DataSource, StageConfig, TrainConfig, read_recipe
from qeeps_cli.training.detector_losses import People
from qeeps_cli.training.frame_batches import FrameBatches
from qeeps_cli.training.pair_batches import draw_pairs
from qeeps_cli.training.population import gather
from qeeps_cli.training.qeeps_stage import logits_of_people, qrpn_losses
from qeeps_cli.training.stage import step_rng
from qeeps_cli.training.trainer import learning_rate_factor, to_device
from qeeps_cli.weights import load_model, read_checkpoint, save_checkpoint

LOSSES = {"paper": {"qrpn": 1.0}, "people": {"qrpn": 1.0, "qrpn_people": 1.0}}
AT_ONCE = 16  # views whose maps are computed, or looked at without learning, together


@dataclass(frozen=True)
class Views:
    """What a frozen network makes of pairs of views. maps: (N, C, H, W) of the gallery views. queries: (N, C·S·S) of
    the query people, as FC1 reads them. labels: (N,) of these. people: of the gallery views."""

    maps: Tensor
    queries: Tensor
    labels: np.ndarray
    people: list[People]

    def asked(self, view: int, label: int) -> Tensor:
        """(1, 4) box of a person in a gallery view; (0, 4) where they are not in it."""
        return self.people[view].boxes[self.people[view].labels == label][:1]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipe", type=Path, required=True)
    options.add_argument("--data-root", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[1])
    options.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    options.add_argument("--pairs", type=int, default=3200)
    options.add_argument("--queries", type=int, default=4)
    options.add_argument("--held-out", type=int, default=320)
    options.add_argument("--device", default="auto")
    given = options.parse_args()
    recipe = read_recipe(given.recipe, given.data_root)
    if recipe.init is None or recipe.validation is None or "qeeps" not in recipe.stages:
        raise UsageError("expected a recipe with init, [validation] and [stages.qeeps].")
    if given.pairs < recipe.stages["qeeps"].images:
        raise UsageError(f"expected --pairs of at least images = {recipe.stages['qeeps'].images}, got {given.pairs}.")
    device = resolve_device(given.device)
    checkpoint = read_checkpoint(recipe.init)
    model = load_model(checkpoint).to(device)
    if model.qrpn is None:
        raise UsageError(f"expected a network with QRPN as init, got the variant {model.config.variant}.")
    seen = look(model, recipe, recipe.data, given.pairs)
    held_out = look(model, recipe, (recipe.validation,), given.held_out)
    given.out.mkdir(parents=True, exist_ok=True)
    config, rows = recipe.stages["qeeps"], []
    for name in given.losses:
        for seed in given.seeds:
            losses = train(model, seen, replace(config, losses=LOSSES[name]), seed, given.queries)
            save_checkpoint(given.out / f"{name}-{seed}.safetensors", model, {**checkpoint.card, "qrpn": name})
            shares = (share_before(model, views, given.held_out) for views in (seen, held_out))
            rows.append([name, str(seed), losses, *(f"{mean:.1f} ± {error:.1f}" for mean, error in shares)])
            print(*rows[-1], flush=True)
    print()
    print(table(["losses", "seed", "at the end", "training views", "held-out views"], rows))


@torch.no_grad()
def look(model: QEEPS, recipe: TrainConfig, sources: tuple[DataSource, ...], count: int) -> Views:
    """`count` pairs of views, all of which show the person."""
    population = gather(sources)
    config = replace(recipe.stages["qeeps"], images=AT_ONCE)
    targets = np.full((len(population.people), model.config.embedding_dim), np.nan, np.float32)
    frames = FrameBatches(population, targets, config)
    device = next(model.parameters()).device
    maps, queries, labels, people = [], [], [], []
    model.eval()
    for step in range(-(-count // AT_ONCE)):
        pairs, batch = draw_pairs(frames, AT_ONCE, 0.0, step_rng(recipe.seed, "views", step))
        shown = to_device(batch, device)
        with autocast(device):
            stem = model.basenet.stem(normalise(shown["query_images"]))
            gallery, query = model.basenet(normalise(shown["images"]), stem)
            pooled = model.qrpn.pooled(query.conv4, shown["query_boxes"])
        maps.append(gallery.conv4.half().cpu())
        queries.append(pooled.half().cpu())
        labels += [pair.label for pair in pairs]
        people += batch["people"]
    return Views(torch.cat(maps)[:count], torch.cat(queries)[:count], np.array(labels[:count]), people[:count])


def train(model: QEEPS, views: Views, config: StageConfig, seed: int, queries: int) -> str:
    """Give the model a QRPN that begins anew and learns; its losses, means of the last 50 steps."""
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    model.qrpn = QRPN(views.maps.shape[1], model.config).to(device)
    rate = config.lr * config.head_lr
    optimizer = torch.optim.AdamW(model.qrpn.parameters(), lr=rate, weight_decay=config.weight_decay)
    anchors = model.anchors(views.maps[:1].to(device))
    shown_by = defaultdict(list)  # the query views of each person
    for view, label in enumerate(views.labels.tolist()):
        shown_by[label].append(view)
    last: dict[str, list[float]] = defaultdict(list)
    for step in range(config.steps):
        rng = step_rng(seed, "qrpn", step)
        gallery, labels = [], []
        for view in rng.choice(len(views.maps), config.images, replace=False):
            inside = [label for label in views.people[view].labels.tolist() if label in shown_by]
            some = [int(label) for label in rng.permutation(inside)[: queries - 1]]
            labels += [*some, int(views.labels[rng.integers(len(views.labels))])]
            gallery += [int(view)] * (len(some) + 1)
        asking = [int(rng.choice(shown_by[label])) for label in labels]
        logits = logits_of(model, views, gallery, asking)
        boxes = [views.asked(view, label).to(device) for view, label in zip(gallery, labels, strict=True)]
        people = to_device({"people": [views.people[view] for view in gallery]}, device)["people"]
        losses = qrpn_losses(logits, anchors, boxes, people, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * learning_rate_factor(step, config)
        optimizer.zero_grad()
        sum(config.weight_of(name) * loss for name, loss in losses.items()).backward()
        torch.nn.utils.clip_grad_norm_(model.qrpn.parameters(), config.clip_norm)
        optimizer.step()
        for name, loss in losses.items():
            last[name].append(float(loss.detach()))
    return ", ".join(f"{name} {np.mean(values[-50:]):.3f}" for name, values in last.items())


def logits_of(model: QEEPS, views: Views, gallery: list[int], asking: list[int]) -> Tensor:
    """QRPN's logits (B, N) of gallery views, each for a query."""
    device = next(model.parameters()).device
    with autocast(device):
        excitation = model.qrpn.excitation_of(views.queries[asking].to(device).float())
        return model.qrpn.rpn(views.maps[gallery].to(device).to(excitation.dtype) * excitation)[0]


@torch.no_grad()
def share_before(model: QEEPS, views: Views, pairs: int) -> tuple[float, float]:
    """Per cent of the others of a view whom the person asked for is placed before: the mean over those of the first
    pairs that show others, too, and its standard error. Raises DataError where none does."""
    anchors = model.anchors(views.maps[:1].to(next(model.parameters()).device))
    shares = []
    chosen = list(range(min(pairs, len(views.maps))))
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen[start : start + AT_ONCE]
        for view, logits in zip(some, logits_of(model, views, some, some).cpu(), strict=True):
            people, label = views.people[view], int(views.labels[view])
            is_asked = people.labels == label
            if not is_asked.any() or is_asked.all():
                continue
            scores = logits_of_people(logits, anchors.cpu(), people.boxes)
            own, others = scores[is_asked][0], scores[~is_asked]
            before = (own > others).float() + 0.5 * (own == others).float()
            shares.append(100 * float(before.mean()))
    if not shares:
        raise DataError("no view shows the person asked for beside somebody else: give --held-out more pairs.")
    return float(np.mean(shares)), float(np.std(shares, ddof=1)) / len(shares) ** 0.5


if __name__ == "__main__":
    main()
