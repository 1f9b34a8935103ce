"""Seconds per query-frame pair of the exact search, from the plain network to the shipped engine, step by step.

    python benchmarks/exact_pairs.py                              the default weights
    python benchmarks/exact_pairs.py --backbone resnet50          the paper's network, with random weights
    python benchmarks/exact_pairs.py --compile                    torch.compile as one more step

Each row adds one change to the row above it. All rows run in turn on the same pairs in one process; what counts is the
ratio. The first row is the paper's search as one would write it: float32, 300 proposals, everything for each pair.
"""

import argparse
import copy
from dataclasses import replace

import torch
from timing import example_query, interleaved, pictures, table

from qeeps_cli.device import describe, resolve_device
from qeeps_cli.model import deploy
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.model.pooling import pool
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.model.roi_head import pooled_conv5
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.weights import find_weights, load_model, read_checkpoint

PAPER = InferenceParams(min_objectness=0.0, min_person_score=0.01, proposal_nms=0.7, proposals=300)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights")
    options.add_argument("--backbone", help="random weights of this backbone instead; 300 proposals in all rows")
    options.add_argument("--device", default="auto")
    options.add_argument("--size", default="900x1500", help="height x width of the frames")
    options.add_argument("--pairs", type=int, default=4)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--compile", action="store_true")
    given = options.parse_args()
    device = resolve_device(given.device)
    model = QEEPS(ModelConfig(backbone=given.backbone)) if given.backbone else _shipped(given.weights)
    height, width = map(int, given.size.split("x"))
    frames = pictures(given.pairs, height, width)
    query, box = example_query(height, width)
    engines = steps(model, device, with_threshold=not given.backbone, compiled=given.compile)

    def run(engine: Engine, share_query: bool) -> None:
        person = QueryPerson(query, box)
        for rgb in frames:
            if not share_query:
                person.encoded.clear()
            engine.search(person, [rgb])
        if device.type == "cuda":
            torch.cuda.synchronize()

    contenders = {name: (lambda engine=engine, share=share: run(engine, share)) for name, engine, share in engines}
    seconds = {name: value / given.pairs for name, value in interleaved(contenders, given.rounds).items()}
    first, before, rows = next(iter(seconds.values())), None, []
    for name, value in seconds.items():
        step = "" if before is None else f"{before / value:.2f}×"
        rows.append([name, f"{1000 * value:.0f}", step, f"{first / value:.2f}×"])
        before = value
    seen = frames[0].shape
    print(f"{describe(device)}; {model.config.backbone}; frames of {seen[0]}×{seen[1]}; torch {torch.__version__}\n")
    print(table(["", "ms a pair", "this step", "in all"], rows))


def steps(model: QEEPS, device: torch.device, with_threshold: bool, compiled: bool) -> list[tuple[str, Engine, bool]]:
    """(name, engine, whether the query's stem is shared), from plain to shipped."""
    plain = Engine(copy.deepcopy(model).to(memory_format=torch.contiguous_format), device, PAPER, plain=True)
    rows = [("plain: float32, 300 proposals", plain, False), ("the query's stem once", plain, True)]
    params = PAPER
    if with_threshold:
        params = InferenceParams()
        rows.append(("unlikely proposals left out", plain.with_params(params), True))
    layout = _variant(plain, params, lambda copied: copied.to(memory_format=torch.channels_last))
    rows.append(("channels-last", layout, True))
    folded = _variant(layout, params, lambda copied: _folded(copied, device, torch.float32))
    rows.append(("BatchNorm folded", folded, True))
    fast = Engine(model, device, params)
    if fast.dtype != torch.float32:
        half = _variant(folded, params, lambda copied: _folded(copied, device, fast.dtype))
        half.dtype = fast.dtype
        rows.append((f"{str(fast.dtype).removeprefix('torch.')}", half, True))
    last = (
        "RoIAlign by products"
        if "18" in model.config.backbone or "34" in model.config.backbone
        else ("RoIAlign by products, conv5's first 1×1 and shortcut before it")
    )
    rows.append((f"{last}: as shipped", fast, True))
    if compiled:
        rows.append(("torch.compile of trunk and conv5", _variant(fast, params, _compile), True))
    return rows


def _shipped(weights: str | None) -> QEEPS:
    return load_model(read_checkpoint(find_weights(weights)))


def _variant(engine: Engine, params: InferenceParams, change) -> Engine:
    other = copy.copy(engine)
    other.model = change(copy.deepcopy(engine.model))
    other.params = replace(params)
    return other


def _folded(model: QEEPS, device: torch.device, dtype: torch.dtype) -> QEEPS:
    """`for_search` without its pooling: torchvision's RoIAlign, and all of conv5 after it."""
    model = deploy.for_search(model, device, dtype)
    model.roi_head.conv5 = pooled_conv5
    if model.qrpn is not None:
        model.qrpn.pool = pool
    return model


def _compile(model: QEEPS) -> QEEPS:
    model.basenet.forward = torch.compile(model.basenet.forward, dynamic=False)
    model.roi_head.layer4.forward = torch.compile(model.roi_head.layer4.forward, dynamic=True)
    return model


if __name__ == "__main__":
    main()
