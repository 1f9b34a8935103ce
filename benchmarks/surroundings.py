"""What the surroundings of people cost their embeddings: labelled boxes in their frames, against the same boxes alone.

    python benchmarks/surroundings.py                          the example frames, the default weights
    python benchmarks/surroundings.py --root DIR --annotations val.json --queries-file val_queries.json

conv3 sees 50 pixels beyond a box, so an embedding may know a wall as well as a coat. Each labelled person of every
--step'th frame is searched for among those of all other moments: of frames of other cameras, and of the same camera
when at least --apart frames lie between. "in the frame" pools from the whole frame, as a search does; "alone" lays the
box on grey. Detection plays no part. The closer the two, the less of a place is in the embedding.
"""

import argparse

import numpy as np
import torch
from timing import table

from qeeps_cli.datasets import load
from qeeps_cli.images import read_image
from qeeps_cli.model.preprocess import prepare_frame
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.training.crop_bank import cut
from qeeps_cli.training.crop_validation import embed_plain
from qeeps_cli.types import LabelledFrame
from qeeps_cli.weights import find_weights, load_model, read_checkpoint

CANVAS = 192, 96


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights", nargs="+", default=[None])
    options.add_argument("--root", help="a COCO-like set; default: the example frames")
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", help="count only the people of these queries")
    options.add_argument("--step", type=int, default=4)
    options.add_argument("--apart", type=int, default=4, help="in frames that are taken")
    given = options.parse_args()
    if given.root:
        frames = load("coco", given.root, annotations=given.annotations, queries=given.queries_file)
    else:
        frames = load("examples", None)
    people = {query.person_id for query in frames.queries} if given.queries_file else None
    taken = [frame for frame in frames.frames if len(frame.boxes)][:: given.step]
    rows = []
    for weights in given.weights:
        checkpoint = read_checkpoint(find_weights(weights))
        model = load_model(checkpoint).eval()
        inside = retrieval(np.concatenate([in_frame(model, frame) for frame in taken]), taken, people, given.apart)
        outside = retrieval(np.concatenate([alone(model, frame) for frame in taken]), taken, people, given.apart)
        rows.append([f"{checkpoint.name} {checkpoint.digest[:8]}", inside, outside])
    print(f"{frames.name}: {len(taken)} frames, {sum(len(frame.boxes) for frame in taken)} people\n")
    print(table(["weights", "in the frame, mAP", "alone, mAP"], rows))


@torch.no_grad()
def in_frame(model: QEEPS, frame: LabelledFrame) -> np.ndarray:
    """Embeddings (N, D) of a frame's boxes, the frame paired with itself."""
    image, factors = prepare_frame(read_image(frame.path).rgb, model.config)
    maps, _ = model.basenet(image[None])
    boxes = torch.from_numpy(frame.boxes * np.array([*factors, *factors], np.float32))
    return model.embed_boxes(maps, [boxes]).numpy()


def alone(model: QEEPS, frame: LabelledFrame) -> np.ndarray:
    """Embeddings (N, D) of the same boxes, each on grey."""
    rgb = read_image(frame.path).rgb
    return embed_plain(model, [cut(rgb, tuple(box)) for box in frame.boxes], CANVAS)


def retrieval(embeddings: np.ndarray, frames: list[LabelledFrame], people: set[int] | None, apart: int) -> str:
    """mAP, per cent, among people of other moments; and of how many queries."""
    identities = np.concatenate([frame.person_ids for frame in frames])
    counts = [len(frame.boxes) for frame in frames]
    moments = np.repeat(np.arange(len(frames)), counts)
    cameras = np.repeat([frame.camera for frame in frames], counts)
    similarity = embeddings @ embeddings.T
    precisions = []
    for i, identity in enumerate(identities):
        if identity < 0 or (people is not None and identity not in people):
            continue
        other = (cameras != cameras[i]) | (np.abs(moments - moments[i]) >= apart)
        right = (identities[other] == identity)[np.argsort(-similarity[i][other], kind="stable")]
        if right.any():
            places = np.flatnonzero(right)
            precisions.append(float(np.mean(np.arange(1, len(places) + 1) / (places + 1))))
    return f"{100 * np.mean(precisions):.1f} ({len(precisions)} queries)" if precisions else "nobody is seen twice"


if __name__ == "__main__":
    main()
