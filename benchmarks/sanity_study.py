"""What the score says when the query is not as the cameras saw the person, and when the person is not there at all.

    python benchmarks/sanity_study.py                           the example frames, the default weights
    python benchmarks/sanity_study.py --root DIR --weights FILE a COCO-style set with queries (docs/benchmark.md)
    python benchmarks/sanity_study.py --twins DIR …             and the same frames with other clothes or people

The frames are run once (cached mode); only the queries change. A match is right as in the benchmark
(qeeps_cli/evaluation/metrics.py). --cache keeps the frames for the next time.

The same clothes should be found whatever the camera did, and other clothes should not: the rows of the camera's faults
should stay near the first row, those of other clothes should fall. Recolouring pixels also changes what stands behind
the person in the box, and leaves hair and face. Sets of render_twins.py change nothing but clothes, or the body in the
same clothes; a person whose box is elsewhere in the twin's frame is left out.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from timing import table

from qeeps_cli.boxes import iou
from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets import load
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.independent import FrameIndex, index_benchmark
from qeeps_cli.evaluation.metrics import QueryScore, SearchScore, find_match
from qeeps_cli.evaluation.pairwise import open_query
from qeeps_cli.evaluation.protocols import find_truth, score_table
from qeeps_cli.evaluation.runner import DET_THRESH
from qeeps_cli.images import read_image, resize
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.loading import load_engine
from qeeps_cli.searching.scoring import Scorer
from qeeps_cli.searching.tally import Tally
from qeeps_cli.types import Box, LabelledQuery

HEAD = 0.15  # the upper share of a person's box, which holds no clothes
GREY = 128
SAME_PLACE = 0.5  # IoU of a twin's box with the query's

Change = Callable[[np.ndarray, Box], tuple[np.ndarray, Box]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights")
    options.add_argument("--device", default="auto")
    options.add_argument("--root", type=Path, help="a COCO-style set; default: the example frames")
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", default="queries.json")
    options.add_argument("--extra", action="append", default=[], help="more labels under DIR; may be repeated")
    options.add_argument("--twins", type=Path, nargs="*", default=[], help="sets of render_twins.py")
    options.add_argument("--cache", type=Path, help="keep what is found in the frames here; default: nowhere")
    given = options.parse_args()
    engine, checkpoint = load_engine(given.weights, given.device)
    files = {"annotations": given.annotations, "queries": given.queries_file, "extra": given.extra}
    frames = load("coco", given.root, **files) if given.root else load("examples", None)
    twins = {folder.name: load("coco", folder, queries=None) for folder in given.twins}
    with Cache(given.cache, warn=print) as cache:
        study = Study.of(engine, frames, cache)
    print(f"{checkpoint.name}, sha256 {checkpoint.digest[:12]}; {frames.name}: {study.describe()}\n")
    print(report(study, twins))


# What is done to the queries. Each takes and gives a picture (H, W, 3) uint8 and the person's xyxy box in it.


def unchanged(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    return rgb, box


def turn_hue(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The hue of all below the head goes halfway round the circle; greys stay."""
    return _repaint(rgb, _clothes(box), _hue_turned), box


def invert(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The negative of all below the head: black clothes become white, blue ones yellow."""
    return _repaint(rgb, _clothes(box), lambda part: 255 - part), box


def halve(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The picture at half of its size."""
    height, width = max(1, rgb.shape[0] // 2), max(1, rgb.shape[1] // 2)
    across, down = width / rgb.shape[1], height / rgb.shape[0]
    return resize(rgb, height, width), (box[0] * across, box[1] * down, box[2] * across, box[3] * down)


def compress(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """JPEG, quality 30."""
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=30)
    return np.array(Image.open(file)), box


def darken(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """0.35 of the light, with the noise of a camera that has little of it."""
    noise = np.random.default_rng(0).normal(0, 6, rgb.shape)
    return np.clip(0.35 * rgb + noise, 0, 255).astype(np.uint8), box


def cover_lower_half(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    x1, y1, x2, y2 = box
    return _repaint(rgb, (x1, (y1 + y2) / 2, x2, y2), lambda part: np.full_like(part, GREY)), box


def cover_left_half(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    x1, y1, x2, y2 = box
    return _repaint(rgb, (x1, y1, (x1 + x2) / 2, y2), lambda part: np.full_like(part, GREY)), box


CHANGES: dict[str, Change] = {
    "unchanged": unchanged,
    "half the size": halve,
    "JPEG, quality 30": compress,
    "dark (×0.35, with noise)": darken,
    "lower half covered": cover_lower_half,
    "left half covered": cover_left_half,
    "clothes: hue turned by 180°": turn_hue,
    "clothes: negative": invert,
}


def _clothes(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return x1, y1 + HEAD * (y2 - y1), x2, y2


def _repaint(rgb: np.ndarray, region: Box, paint: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    x1, y1, x2, y2 = (max(0, round(value)) for value in region)
    rgb = rgb.copy()
    if x2 > x1 and y2 > y1:
        rgb[y1:y2, x1:x2] = paint(rgb[y1:y2, x1:x2])
    return rgb


def _hue_turned(part: np.ndarray) -> np.ndarray:
    hue, *others = Image.fromarray(part).convert("HSV").split()
    turned = hue.point(lambda value: (value + 128) % 256)
    return np.asarray(Image.merge("HSV", [turned, *others]).convert("RGB"))


# What the queries then find.


@dataclass(frozen=True)
class Outcome:
    """One query's search.

    embedding: (D,). right: scores of the person in the frames in which they were found. others: the best wrong score of
    all frames. absent: each frame's best score, of the frames without the person; 0 where nobody is.
    """

    score: QueryScore
    embedding: np.ndarray
    right: np.ndarray
    others: float
    absent: np.ndarray


@dataclass(frozen=True)
class Study:
    """Frames that were run once, and queries to search for in them."""

    engine: Engine
    frames: FrameSet
    index: FrameIndex

    @classmethod
    def of(cls, engine: Engine, frames: FrameSet, cache: Cache | None = None) -> "Study":
        """Weights without QSimNet rank as the baseline does, by cosine and people of person score ≥ 0.5 only."""
        index, _ = index_benchmark(
            engine,
            frames,
            cache=cache,
            batch=1,
            det_thresh=DET_THRESH,
            confident_only=engine.model.qsimnet is None,
            tally=Tally(),
            progress=lambda done, total, what: None,
        )
        return cls(engine, frames, index)

    def describe(self) -> str:
        score = "cosine" if self.engine.model.qsimnet is None else "QSimNet's probability"
        count = sum(len(query.gallery) for query in self.frames.queries)
        return f"{len(self.frames.queries)} queries, {len(self.index.table.frames)} frames, {count} pairs; {score}"

    def search(self, query: LabelledQuery, rgb: np.ndarray, box: Box) -> Outcome:
        embedding = self.engine.embed_query(QueryPerson(rgb, box))
        scores = self.index.score(Scorer(embedding[None], self.engine.closed_form()), set(query.gallery))
        truth = find_truth(self.frames, query)
        right, others, absent = [], [], []
        for position, name in enumerate(query.gallery):
            rows = self.index.rows_of(name)
            own, person = scores[rows], truth.get(position)
            match = None if person is None else find_match(person, self.index.table.boxes[rows], own)
            if match is not None:
                right.append(own[match])
                own = np.delete(own, match)
            others.append(own.max(initial=0))
            if person is None:
                absent.append(own.max(initial=0))
        return Outcome(
            score_table(self.frames, query, self.index.table, scores),
            embedding,
            np.array(right),
            float(max(others, default=0)),
            np.array(absent),
        )

    def changed(self, change: Change) -> list[Outcome]:
        """Every query after a change."""
        outcomes = []
        for query in self.frames.queries:
            picture = open_query(self.frames, query)
            outcomes.append(self.search(query, *change(picture.rgb, picture.query.box)))
        return outcomes

    def twins(self, others: FrameSet) -> Iterator[tuple[int, Outcome]]:
        """(number of the query, outcome) of those queries whose person stands in the same place of the same frame."""
        for number, query in enumerate(self.frames.queries):
            frame = next((f for f in self.frames.frames if f.path == query.path), None)
            box = others.appearances.get(query.person_id, {}).get(frame.name) if frame else None
            if box is not None and iou(np.array(box), np.array(query.box))[0, 0] >= SAME_PLACE:
                yield number, self.search(query, read_image(others[frame.name].path).rgb, box)


def report(study: Study, twins: dict[str, FrameSet]) -> str:
    """Both tables, as Markdown."""
    before = study.changed(unchanged)
    rows = []
    for name, change in CHANGES.items():
        rows.append(row(name, before, before if change is unchanged else study.changed(change)))
    for name, others in twins.items():
        found = dict(study.twins(others))
        same = [before[number] for number in found]
        if len(found) < len(before):
            rows.append(row("unchanged, the queries of the next row", same, same))
        rows.append(row(f"rendered: {name}", same, list(found.values())))
    header = ["query", "queries", "cosine with unchanged", "right match", "best wrong", "top-1", "mAP"]
    return table(header, rows) + "\n\n" + absence(before)


def row(name: str, before: Sequence[Outcome], after: Sequence[Outcome]) -> list[str]:
    """Means: of the right matches over all frames in which the person was found, of the best wrong one over the
    queries."""
    if not after:
        return [name, "0", *5 * ["–"]]
    cosine = np.mean([old.embedding @ new.embedding for old, new in zip(before, after, strict=True)])
    right = np.concatenate([outcome.right for outcome in after])
    score = SearchScore(tuple(outcome.score for outcome in after))
    return [
        name,
        str(len(after)),
        f"{cosine:.2f}",
        f"{right.mean():.2f}" if len(right) else "–",
        f"{np.mean([outcome.others for outcome in after]):.2f}",
        f"{100 * score.top(1):.1f}",
        f"{100 * score.mean_ap:.1f}",
    ]


def absence(outcomes: Sequence[Outcome]) -> str:
    """How scores are spread where the person is, and where they are not."""
    absent = [outcome.absent for outcome in outcomes if len(outcome.absent)]
    spreads = {
        "the right match, a frame with the person": np.concatenate([outcome.right for outcome in outcomes]),
        "the best, a frame without the person": np.concatenate(absent) if absent else np.empty(0),
        "the best of all frames without the person, a query": np.array([own.max() for own in absent]),
    }
    header = ["score of", "count", "10 %", "median", "90 %", "highest", "share ≥ 0.5"]
    return table(header, [[name, *spread(values)] for name, values in spreads.items()])


def spread(values: np.ndarray) -> list[str]:
    if not len(values):
        return ["0", *5 * ["–"]]
    points = [f"{value:.2f}" for value in np.quantile(values, [0.1, 0.5, 0.9, 1])]
    return [str(len(values)), *points, f"{100 * np.mean(values >= 0.5):.1f} %"]


if __name__ == "__main__":
    main()
