"""Table 1 of the paper on one's own data: what QRPN, QSimNet and QSSE add to the baseline.

    python benchmarks/ablation.py --recipe RECIPE.toml --sets SETS.toml --out DIR --seeds 1 2 3 [--unguided-start]

For each seed, the stages of the recipe before `qeeps` are trained once (they have no query guidance), and every
variant then trains the stage `qeeps` from that checkpoint, on the same steps of the same data; for `oim` these are more
steps of the baseline. With `guidance_only` in the recipe all but the guidance stays as it is: the baseline is what the
others start from, without whatever guidance it has, and QRPN or QSimNet alone is taken from the network trained with
both. They share no weights; trained alone, QSimNet would see RoIs of RPN's choice alone, and gradients would be clipped
by another norm. --unguided-start takes the guidance out of the recipe's init, a trained network, so that the blocks of
all variants begin anew, as the paper's do. SETS.toml lists what to evaluate on, --data-root is what paths in both files
are relative to:

    [[set]]
    name = "val"
    kind = "coco"                          # or prw, prw-mini, cuhk-sysu; further keys are options of its reader
    root = "my_val"
    annotations = "val.json"
    queries = "val_queries.json"

`oim` is ranked by the baseline's protocol (cosine, people of person score ≥ --det-thresh), the others by --mode. QRPN
acts in the exact mode only; in the others, its rows show what training with it did to the rest. Without QSimNet there
is only the cosine to score cached detections with, and the baseline's protocol stands in. --mode oim ranks all rows by
it.

"against oim" is what the same queries gain over the baseline of the same seed, with the standard error over queries.

The same command goes on where it stopped: finished runs are skipped, begun ones resumed, evaluated ones read from
DIR/seedN/VARIANT/*.json. `--no-train` makes the table of what is there.
"""

import argparse
import json
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import torch
from timing import table

from qeeps_cli.cache.pairs import PAIR_COMPUTATION
from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.listed import read_sets
from qeeps_cli.device import resolve_device
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.evaluation.protocols import limit
from qeeps_cli.evaluation.runner import DET_THRESH, MODES, BenchmarkOptions, run_benchmark
from qeeps_cli.model.config import VARIANTS, InferenceParams, ModelConfig
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.searching.engine import COMPUTATION
from qeeps_cli.searching.loading import batch_size, load_engine
from qeeps_cli.training.config import TrainConfig, read_recipe
from qeeps_cli.training.initialise import initialise, terms_of
from qeeps_cli.training.run import train
from qeeps_cli.training.run_state import STATE, load_state
from qeeps_cli.training.trainer import Interrupted, Progress
from qeeps_cli.weights import read_checkpoint, save_checkpoint

GUIDED = "qeeps"  # the stage in which the variants differ
MEASURES = ("mAP", "top1", "max_recall")
START = "start"  # folder of the stages before it
BOTH = "oim+qrpn+qsimnet"
PARTS = ("oim+qrpn", "oim+qsimnet")  # of BOTH


@dataclass(frozen=True)
class Evaluation:
    """How to rank, and how much of a set to run. mode: one of MODES, or "oim"."""

    mode: str = "cached"
    det_thresh: float = DET_THRESH
    queries: int | None = None
    frames: int | None = None
    params: InferenceParams = InferenceParams()

    def options(self, variant: str, batch: int) -> BenchmarkOptions:
        has_qsimnet = VARIANTS[variant][2]
        baseline = variant == "oim" or self.mode == "oim" or (self.mode != "exact" and not has_qsimnet)
        ranking = {"method": "oim"} if baseline else {"mode": self.mode}
        return BenchmarkOptions(**ranking, det_thresh=self.det_thresh, batch=batch)

    def name(self, variant: str) -> str:
        """Of the ranking, for tables and files."""
        options = self.options(variant, 1)
        return "cosine" if options.method == "oim" else options.mode


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipe", type=Path, required=True)
    options.add_argument("--sets", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--data-root", type=Path)
    options.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options.add_argument("--seeds", type=int, nargs="+", default=[1])
    options.add_argument("--device", default="auto")
    options.add_argument("--workers", type=int, help="processes that prepare steps; default as in qeeps train")
    options.add_argument("--mode", choices=[*MODES, "oim"], default=Evaluation.mode)
    options.add_argument("--det-thresh", type=float, default=DET_THRESH)
    options.add_argument("--min-person-score", type=float, default=InferenceParams.min_person_score)
    options.add_argument("--queries", type=int, help="only the first ones of each set")
    options.add_argument("--frames", type=int, help="only so many a query")
    options.add_argument("--unguided-start", action="store_true", help="take the guidance out of the recipe's init")
    options.add_argument("--no-train", action="store_true")
    given = options.parse_args()
    params = InferenceParams(min_person_score=given.min_person_score)
    how = Evaluation(given.mode, given.det_thresh, given.queries, given.frames, params)
    recipe = read_recipe(given.recipe, given.data_root)
    sets = {listed.name: listed.frames for listed in read_sets(given.sets, given.data_root)}
    if given.unguided_start and not given.no_train:
        recipe = replace(recipe, init=unguided(recipe, given.out))
    rows = []
    for seed in given.seeds:
        if not given.no_train:
            train_all(recipe, seed, given.variants, given.out, resolve_device(given.device), given.workers)
        rows += evaluate_all(given.out, seed, given.variants, sets, how, given.device)
    print(summary(rows))


def train_all(
    recipe: TrainConfig, seed: int, variants: Iterable[str], out: Path, device: torch.device, workers: int | None = None
) -> None:
    """Raises UsageError for a recipe without the stage that matters."""
    if GUIDED not in recipe.stages:
        raise UsageError(f"expected a recipe with [stages.{GUIDED}], in which the variants differ.")
    before = {name: stage for name, stage in recipe.stages.items() if name != GUIDED}
    recipe = replace(recipe, seed=seed)
    init = recipe.init
    if before:
        plain = replace(recipe.model, variant="oim")
        init = train_once(replace(recipe, model=plain, stages=before), folder(out, seed, START), device, workers)

    def train_variant(variant: str, start: Path | None) -> Path:
        model = replace(recipe.model, variant=variant)
        own = replace(recipe, model=model, init=start, stages={GUIDED: recipe.stages[GUIDED]})
        return train_once(own, folder(out, seed, variant), device, workers)

    if not recipe.stages[GUIDED].guidance_only:
        for variant in variants:
            train_variant(variant, init)
        return
    baseline = write_part(recipe.model, "oim", init, folder(out, seed, "oim"))
    if set(variants) & {*PARTS, BOTH}:
        both = train_variant(BOTH, baseline)
        for part in PARTS:
            write_part(recipe.model, part, both, folder(out, seed, part))
    if "qeeps" in variants:
        train_variant("qeeps", baseline)


def unguided(recipe: TrainConfig, out: Path) -> Path:
    """The recipe's init without its guidance, as a checkpoint in `out`. Raises UsageError where there is no init."""
    if recipe.init is None:
        raise UsageError(
            "--unguided-start takes the guidance out of the recipe's init: name a trained checkpoint there, got None."
        )
    return write_part(recipe.model, "oim", recipe.init, out / START)


def write_part(config: ModelConfig, variant: str, source: Path, out: Path) -> Path:
    """A checkpoint of what of `source` the variant has.

    Raises DataError where `out` holds a run of its own, and UsageError where the source is no network whose ID Net the
    model can take over: heads would be drawn anew each time.
    """
    if (out / STATE).is_file():
        raise DataError(f"{out} holds a run that was trained by itself, not a part of {source}. Give another --out.")
    model = QEEPS(replace(config, variant=variant))
    if not initialise(model, source):
        raise UsageError(f"the recipe's init has no trained ID Net: name a trained checkpoint there, got {source}.")
    out.mkdir(parents=True, exist_ok=True)
    terms = terms_of(source)
    card = {"part_of": f"{source.parent.name}/{source.name}"} | ({"terms": terms} if terms else {})
    save_checkpoint(out / f"{GUIDED}.safetensors", model, card)
    return out / f"{GUIDED}.safetensors"


def train_once(recipe: TrainConfig, out: Path, device: torch.device, workers: int | None = None) -> Path:
    """The checkpoint of a run: a new one, the rest of a begun one, or a finished one as it is.

    Raises DataError where the folder holds a run of another recipe; Interrupted after Ctrl-C, with the state saved.
    """
    checkpoint = out / f"{list(recipe.stages)[-1]}.safetensors"
    state = load_state(out, recipe)
    if state and set(recipe.stages) <= set(state["done"]):
        return checkpoint

    def report(progress: Progress) -> None:
        if progress.step % 100 == 0 or progress.step == progress.steps:
            say(f"{out}: {progress.stage} {progress.step}/{progress.steps}, loss {progress.total:.3f}")

    stop = Event()
    before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    try:
        return train(recipe, out, device, report, lambda text: say(f"{out}: {text}"), stop, workers)
    finally:
        signal.signal(signal.SIGINT, before)


def evaluate_all(
    out: Path, seed: int, variants: Iterable[str], sets: dict[str, FrameSet], how: Evaluation, device: str
) -> list[dict[str, Any]]:
    """A result for each variant that has a checkpoint, and each set."""
    rows = []
    for variant in variants:
        weights = folder(out, seed, variant) / f"{GUIDED}.safetensors"
        if not weights.is_file():
            say(f"{weights} is not there; left out")
            continue
        for name, frames in sets.items():
            rows.append({"seed": seed, "variant": variant, "set": name, **evaluate(weights, frames, name, how, device)})
    return rows


def evaluate(weights: Path, frames: FrameSet, name: str, how: Evaluation, device: str) -> dict[str, Any]:
    """Scores between 0 and 1. Kept beside the weights, and read from there if the same was measured before."""
    checkpoint = read_checkpoint(weights)
    variant = checkpoint.config.variant
    measured = {
        "weights": checkpoint.digest,
        "computation": [COMPUTATION, PAIR_COMPUTATION],
        "ranking": how.name(variant),
        "det_thresh": how.det_thresh,
        "parameters": how.params.to_dict(),
        "queries": how.queries,
        "frames": how.frames,
    }
    path = weights.with_name(f"{name}-{how.name(variant)}.json")
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if kept.get("measured") == measured:
        return kept
    frames = limit(frames, how.queries, how.frames)
    say(f"{path}: {len(frames.queries)} queries")
    engine, _ = load_engine(weights, device, how.params)
    options = how.options(variant, batch_size(engine, None))
    with Cache(weights.with_name("cache.qeeps"), warn=say) as cache:
        result = run_benchmark(engine, frames, options, cache=cache)
    document = {
        "measured": measured,
        "search": result.search.to_json(),
        "per_query": [query.to_json() for query in result.search.queries],
        "detection": result.detection.to_json() if result.detection else None,
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1))
    temporary.replace(path)
    return document


def folder(out: Path, seed: int, name: str) -> Path:
    return out / f"seed{seed}" / name


def summary(results: Sequence[dict[str, Any]]) -> str:
    """A Markdown table for each set: mean ± standard deviation over the seeds, and what `gain` says, in per cent."""
    groups: dict[str, dict[tuple[str, str], list[dict]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result["set"]][result["variant"], result["measured"]["ranking"]].append(result)
    header = ["network", "ranking", "seeds", "mAP", "against oim", "top-1", "max recall"]
    parts = []
    for name, variants in groups.items():
        baseline = [each for (variant, _), found in variants.items() if variant == "oim" for each in found]
        rows = []
        for (variant, ranking), found in variants.items():
            mean_ap, top1, recall = (mean([each["search"][key] for each in found]) for key in MEASURES)
            against = "" if variant == "oim" else gain(found, baseline)
            rows.append([variant, ranking, str(len(found)), mean_ap, against, top1, recall])
        queries = next(iter(variants.values()))[0]["search"]["queries"]
        parts.append(f"{name}, {queries} queries\n\n{table(header, rows)}")
    return "\n\n".join(parts)


def gain(found: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> str:
    """What queries gain in `ap` over the baseline of the same seed, in per cent: mean ± standard error over queries.

    Seeds are averaged query by query first: how hard a query is cancels, and so does what seeds do to it in part. "–"
    where no seed has both.
    """
    before = {each["seed"]: _average_precisions(each) for each in baseline}
    differences: dict[str, list[float]] = defaultdict(list)
    for each in found:
        for query, ap in _average_precisions(each).items():
            if query in before.get(each["seed"], {}):
                differences[query].append(100 * (ap - before[each["seed"]][query]))
    means = [statistics.mean(values) for values in differences.values()]
    if not means:
        return "–"
    error = f" ± {statistics.stdev(means) / len(means) ** 0.5:.1f}" if len(means) > 1 else ""
    return f"{statistics.mean(means):+.1f}{error}"


def _average_precisions(result: dict[str, Any]) -> dict[str, float]:
    return {query["query"]: query["ap"] for query in result["per_query"]}


def mean(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):.1f}" + (f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else "")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Interrupted as stopped:
        say(f"saved at step {stopped.step} of stage {stopped.stage}; the same command goes on from there")
        sys.exit(130)
