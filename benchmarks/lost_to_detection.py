"""What a search loses to detection: the same ranking of what was found, of labelled boxes, and of mixtures.

    python benchmarks/lost_to_detection.py                          the example frames, the default weights
    python benchmarks/lost_to_detection.py --root DIR --annotations val.json --queries-file val_queries.json

Every query of a benchmark is searched for among

- what the network finds in the frames (cached mode);
- that without the boxes that overlap no labelled one by 0.5: no false alarms (second boxes of somebody stay);
- that with the labelled box in the place of each that overlaps one by 0.5: boxes that fit (twice the same, where two
  overlapped it);
- that with the labelled boxes of those who were missed: nobody is lost;
- the labelled boxes alone, those that the labels ignore among them.

What the last row lacks to 100 is the embedding's; what the first lacks to the last is detection's. Everything is
computed in float32, operation by operation, so that the first row may differ by some tenths from `qeeps benchmark`.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from set_options import add_set_options, read_set
from timing import table

from qeeps_cli.boxes import iou
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.metrics import SearchScore
from qeeps_cli.evaluation.pairwise import open_query
from qeeps_cli.evaluation.protocols import score_queries
from qeeps_cli.images import read_image
from qeeps_cli.model.preprocess import prepare_frame
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.types import LabelledFrame, LabelledQuery
from qeeps_cli.weights import find_weights, load_model, read_checkpoint

FITS = 0.5  # IoU


class People(NamedTuple):
    """Of one frame: boxes (N, 4) xyxy pixels of it, embeddings (N, D)."""

    boxes: np.ndarray
    embeddings: np.ndarray

    def pick(self, rows: np.ndarray) -> "People":
        return People(self.boxes[rows], self.embeddings[rows])

    def and_also(self, others: "People") -> "People":
        return People(*map(np.concatenate, zip(self, others, strict=True)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights", nargs="+", default=[None])
    add_set_options(options)
    given = options.parse_args()
    frames = read_set(given)
    rows = []
    for weights in given.weights:
        checkpoint = read_checkpoint(find_weights(weights))
        engine = Engine(load_model(checkpoint), torch.device("cpu"), plain=True)
        queries = embed_queries(engine, frames)
        seen = {frame.name: mixtures(*look(engine, frame)) for frame in frames.frames}
        for name in next(iter(seen.values())):
            score = search(engine, frames, queries, {frame: among[name] for frame, among in seen.items()})
            found = sum(query.count_tp for query in score.queries) / sum(query.count_gt for query in score.queries)
            percent = (f"{100 * value:.1f}" for value in (score.mean_ap, score.top(1), found))
            rows.append([f"{checkpoint.name} {checkpoint.digest[:8]}", name, *percent])
    print(f"{frames.name}: {len(frames.queries)} queries, {len(frames)} frames\n")
    print(table(["weights", "searched among", "mAP", "top-1", "person found"], rows))


def embed_queries(engine: Engine, frames: FrameSet) -> dict[str, np.ndarray]:
    """The embedding (D,) of each query's person, by the query's name."""
    pictures = ((query.name, open_query(frames, query)) for query in frames.queries)
    return {name: engine.embed_query(QueryPerson(p.rgb, p.query.box)) for name, p in pictures}


def search(
    engine: Engine, frames: FrameSet, queries: dict[str, np.ndarray], people: dict[str, People]
) -> SearchScore:
    """All queries, by their names and embeddings, among the people of each frame, by its name."""

    def answers(query: LabelledQuery) -> Iterator[tuple]:
        for frame in dict.fromkeys(query.gallery):
            yield frame, people[frame].boxes, engine.score(queries[query.name], people[frame].embeddings)

    return SearchScore(tuple(score_queries(frames, answers)))


@torch.inference_mode()
def look(engine: Engine, frame: LabelledFrame) -> tuple[People, People]:
    """Who is found in a frame, and who is labelled."""
    rgb = read_image(frame.path).rgb
    found = engine.detect([rgb])[0]
    image, factors = prepare_frame(rgb, engine.model.config)
    boxes = torch.from_numpy(frame.boxes.astype(np.float32) * np.array([*factors, *factors], np.float32))
    labelled = found.embeddings[:0]
    if len(boxes):
        labelled = engine.model.embed_boxes(engine.model.own_maps(image[None]), [boxes]).numpy()
    return People(found.boxes, found.embeddings), People(frame.boxes, labelled)


def mixtures(found: People, labelled: People) -> dict[str, People]:
    """What is searched among, by its name in the table."""
    overlaps = iou(found.boxes, labelled.boxes)
    fits = (overlaps >= FITS).any(axis=1)
    missed = ~(overlaps >= FITS).any(axis=0)
    fitted = found.pick(~fits)
    if fits.any():
        fitted = fitted.and_also(labelled.pick(overlaps[fits].argmax(axis=1)))
    return {
        "what is found": found,
        "without wrong boxes": found.pick(fits),
        "with boxes that fit": fitted,
        "with those who were missed": found.and_also(labelled.pick(missed)),
        "labelled boxes": labelled,
    }


if __name__ == "__main__":
    main()
