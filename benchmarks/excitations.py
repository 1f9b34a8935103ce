"""How far QSSE has come: its excitations s (Eq. 1) on example frames, and how much another query changes them.

    python benchmarks/excitations.py                    the default weights
    python benchmarks/excitations.py --weights FILE --frames 8 --queries 4

s starts at 1/2 in every channel (docs/decisions.md). A block that has learnt something spreads over its channels; one
that the query guides differs between a frame paired with itself and the same frame paired with a query. The last
column says what of it reaches the embeddings: the lowest cosine of a person's two embeddings, over all frames.
"""

import argparse

import numpy as np
import torch
from timing import table
from torch import Tensor

from qeeps_cli.datasets import load
from qeeps_cli.images import read_image
from qeeps_cli.model.preprocess import prepare_frame, prepare_query
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.weights import find_weights, load_model, read_checkpoint


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights")
    options.add_argument("--frames", type=int, default=4)
    options.add_argument("--queries", type=int, default=3)
    given = options.parse_args()
    checkpoint = read_checkpoint(find_weights(given.weights))
    model = load_model(checkpoint)
    if model.basenet.qsse is None:
        raise SystemExit(f"expected weights with QSSE, got the variant {model.config.variant}.")
    print(f"{checkpoint.name}, sha256 {checkpoint.digest[:12]}: {given.frames} frames, {given.queries} queries\n")
    print(report(model, given.frames, given.queries))


@torch.no_grad()
def report(model: QEEPS, frames: int, queries: int) -> str:
    examples = load("examples", None)
    step = max(1, len(examples.frames) // frames)
    seen: list[list[Tensor]] = []  # by pair and block, (C,)
    changes, cosines = np.zeros(len(model.basenet.qsse)), []
    for frame in examples.frames[::step][:frames]:
        image, factors = prepare_frame(read_image(frame.path).rgb, model.config)
        boxes = torch.from_numpy(frame.boxes * np.array([*factors, *factors], np.float32))
        alone, embeddings = excitations(model, image, None, boxes)
        seen.append(alone)
        for query in examples.queries[:queries]:
            placed = prepare_query(read_image(query.path).rgb, query.box, tuple(image.shape[-2:]), model.config)
            paired, guided = excitations(model, image, placed.image, boxes)
            seen.append(paired)
            differences = [float((a - b).abs().max()) for a, b in zip(alone, paired, strict=True)]
            changes = np.maximum(changes, differences)
            cosines.append(float((embeddings * guided).sum(dim=1).min()))
    rows = []
    for block, change in enumerate(changes):
        s = torch.stack([pair[block] for pair in seen])
        rows.append([str(block + 1), f"{s.mean():.3f}", f"{s.std():.3f}", f"{change:.3f}", ""])
    rows[-1][-1] = f"{min(cosines):.4f}"
    return table(["block", "mean s", "spread", "most that a query changes", "cosine of embeddings"], rows)


def excitations(
    model: QEEPS, image: Tensor, query: Tensor | None, boxes: Tensor
) -> tuple[list[Tensor], Tensor]:
    """s of each block, and the embeddings of boxes, of a frame (3, H, W) paired with itself or with a query."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, s: found.append(s.flatten())) for block in model.basenet.qsse]
    maps, _ = model.basenet(image[None], None if query is None else model.basenet.stem(query[None]))
    for hook in hooks:
        hook.remove()
    return found, model.embed_boxes(maps, [boxes])


if __name__ == "__main__":
    main()
