"""What the surroundings of people cost their embeddings: labelled boxes in their frames, against the same boxes alone.

    python benchmarks/surroundings.py                          the example frames, the default weights
    python benchmarks/surroundings.py --root DIR --annotations val.json --queries-file val_queries.json

conv3 sees 50 pixels beyond a box, so an embedding may know a wall as well as a coat. Of each camera every --step'th
frame is taken, and each labelled person in it searched for among those of the other cameras, and of the same one at
least --apart frames away. "in the frame" pools from the whole frame, as a search does; "alone" from a frame that is
grey but for the box, at the same scale. Detection plays no part. The closer the two, the less of a place is in the
embedding.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from timing import table

from qeeps_cli.datasets import load
from qeeps_cli.evaluation.metrics import average_precision
from qeeps_cli.images import read_image
from qeeps_cli.model.preprocess import prepare_frame
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.types import LabelledFrame
from qeeps_cli.weights import find_weights, load_model, read_checkpoint

SEEN = 64  # pixels round a box that conv3 sees, and a few more


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights", nargs="+", default=[None])
    options.add_argument("--root", help="a COCO-like set; default: the example frames")
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", help="count only the people of these queries")
    options.add_argument("--step", type=int, default=4)
    options.add_argument("--apart", type=int, default=16, help="in frames of one camera")
    given = options.parse_args()
    if given.root:
        frames = load("coco", given.root, annotations=given.annotations, queries=given.queries_file)
    else:
        frames = load("examples", None)
    people = {query.person_id for query in frames.queries} if given.queries_file else None
    of_camera: dict[str, Iterator[int]] = defaultdict(count)
    moments = [next(of_camera[frame.camera]) for frame in frames.frames]
    numbered = zip(frames.frames, moments, strict=True)
    taken = [(f, moment) for f, moment in numbered if moment % given.step == 0 and (~f.ignore).any()]
    rows = []
    for weights in given.weights:
        checkpoint = read_checkpoint(find_weights(weights))
        model = load_model(checkpoint)
        views = zip(*(embed(model, frame) for frame, _ in taken), strict=True)
        found = [retrieval(np.concatenate(view), taken, people, given.apart) for view in views]
        rows.append([f"{checkpoint.name} {checkpoint.digest[:8]}", *found])
    print(f"{frames.name}: {len(taken)} frames\n")
    print(table(["weights", "in the frame, mAP", "alone, mAP"], rows))


@torch.no_grad()
def embed(model: QEEPS, frame: LabelledFrame) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) of a frame's boxes that count: in the frame, which is paired with itself, and alone."""
    image, factors = prepare_frame(read_image(frame.path).rgb, model.config)
    boxes = torch.from_numpy(frame.boxes[~frame.ignore] * np.array([*factors, *factors], np.float32))
    maps, _ = model.basenet(image[None])
    alone = []
    for box in boxes:
        x1, y1 = (max(0, int(v - SEEN) // 16 * 16) for v in box[:2])  # where a cell of the whole frame begins, too
        x2, y2 = (int(v + SEEN) for v in box[2:])
        rows, columns = (slice(int(box[i].floor()), int(box[i + 2].ceil())) for i in (1, 0))
        grey = torch.zeros_like(image)  # the mean colour
        grey[:, rows, columns] = image[:, rows, columns]
        window, _ = model.basenet(grey[None, :, y1:y2, x1:x2])
        alone.append(model.embed_boxes(window, [(box - torch.tensor([x1, y1, x1, y1]))[None]]))
    return model.embed_boxes(maps, [boxes]).numpy(), torch.cat(alone).numpy()


def retrieval(
    embeddings: np.ndarray, frames: list[tuple[LabelledFrame, int]], people: set[int] | None, apart: int
) -> str:
    """mAP, per cent, among people of other cameras and moments; and of how many queries."""
    identities = np.concatenate([frame.person_ids[~frame.ignore] for frame, _ in frames])
    counts = [int((~frame.ignore).sum()) for frame, _ in frames]
    moments = np.repeat([moment for _, moment in frames], counts)
    cameras = np.repeat([frame.camera for frame, _ in frames], counts)
    similarity = embeddings @ embeddings.T
    precisions = []
    for i, identity in enumerate(identities):
        if identity < 0 or (people is not None and identity not in people):
            continue
        other = (cameras != cameras[i]) | (np.abs(moments - moments[i]) >= apart)
        right = identities[other] == identity
        if right.any():
            precisions.append(average_precision(right, similarity[i][other]))
    return f"{100 * np.mean(precisions):.1f} ({len(precisions)} queries)" if precisions else "nobody is seen twice"


if __name__ == "__main__":
    main()
