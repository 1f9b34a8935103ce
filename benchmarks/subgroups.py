"""Whether people are found, and told apart, as well whoever they are and however they stand in the picture.

    python benchmarks/subgroups.py --root DIR                       a set of the renderer (examples/README.md)
    python benchmarks/subgroups.py --root DIR --annotations val.json --queries-file val_queries.json

Everybody who is well visible in one camera is searched for in all frames of the other cameras (cached mode), so that a
group has more queries than a benchmark's file gives; with --queries-file those of the file are taken instead. The
renderer says who its people are (`people` in the annotations): ancestry, sex and outfit of the avatar; sets without
that are grouped by size and crowding alone. Recall is at IoU 0.5, of everybody whom the labels do not ignore.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from timing import table

from qeeps_cli.boxes import iou
from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets import load
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.detection import find_people
from qeeps_cli.evaluation.independent import FrameIndex, index_benchmark
from qeeps_cli.evaluation.metrics import SearchScore
from qeeps_cli.evaluation.pairwise import open_query
from qeeps_cli.evaluation.protocols import score_table
from qeeps_cli.evaluation.runner import DET_THRESH
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.loading import load_engine
from qeeps_cli.searching.scoring import Scorer
from qeeps_cli.searching.tally import Tally
from qeeps_cli.types import LabelledFrame, LabelledQuery

HEIGHTS = (60, 100, 150)  # pixels of the frame as it is: the edges between groups
CROWDING = (0.02, 0.2)  # IoU of a person's box with the nearest other one
SMALLEST_QUERY = 60  # pixels of height: below, a person has little to be known by

Groups = dict[tuple[str, str], list]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, required=True)
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", help="take these queries instead of everybody")
    options.add_argument("--weights")
    options.add_argument("--device", default="auto")
    options.add_argument("--cache", type=Path, help="keep what is found in the frames here; default: nowhere")
    given = options.parse_args()
    engine, checkpoint = load_engine(given.weights, given.device)
    frames = load("coco", given.root, annotations=given.annotations, queries=given.queries_file)
    if not frames.queries:
        frames = replace(frames, queries=tuple(everybody(frames)))
    people = read_people(given.root / given.annotations)
    with Cache(given.cache, warn=print) as cache:
        index = run_frames(engine, frames, cache)
    print(f"{checkpoint.name}, sha256 {checkpoint.digest[:12]}; {frames.name}: {len(frames.queries)} queries\n")
    print(report(recalls(frames, index, people), scores(engine, frames, index, people)))


def everybody(frames: FrameSet) -> Iterator[LabelledQuery]:
    """The tallest view of each person in each camera, to be found in the frames of all other cameras."""
    tallest: dict[tuple[int, str], tuple[float, LabelledFrame, np.ndarray]] = {}
    for frame in frames.frames:
        for box, person, ignore in zip(frame.boxes, frame.person_ids, frame.ignore, strict=True):
            height = box[3] - box[1]
            if person < 0 or ignore or height < SMALLEST_QUERY:
                continue
            if height > tallest.get((person, frame.camera), (0,))[0]:
                tallest[person, frame.camera] = (height, frame, box)
    for (person, camera), (_, frame, box) in sorted(tallest.items(), key=lambda item: item[0]):
        gallery = tuple(other.name for other in frames.frames if other.camera != camera)
        if any(name in gallery for name in frames.appearances.get(person, ())):
            yield LabelledQuery(f"{person}/{camera}", frame.path, tuple(map(float, box)), int(person), gallery)


def read_people(path: Path) -> dict[int, dict[str, str]]:
    """Ancestry, sex and outfit by person_id, from the names of avatars: Asian_F_1_Casual."""
    people = json.loads(path.read_text()).get("people", [])
    traits = {}
    for person in people:
        ancestry, sex, _, outfit = person["avatar"].rsplit("_", 3)
        traits[person["person_id"]] = {"ancestry": ancestry.removeprefix("X_"), "sex": sex, "outfit": outfit}
    return traits


def run_frames(engine: Engine, frames: FrameSet, cache: Cache) -> FrameIndex:
    index, _ = index_benchmark(
        engine, frames, cache=cache, batch=1, det_thresh=DET_THRESH, confident_only=False, tally=Tally(),
        progress=lambda done, total, what: None,
    )  # fmt: skip
    return index


def recalls(frames: FrameSet, index: FrameIndex, people: dict[int, dict[str, str]]) -> Groups:
    """By group, whether each labelled person was found."""
    found: Groups = defaultdict(list)
    for frame in frames.frames:
        if frame.name not in index.table.index:
            continue
        boxes = index.table.boxes[index.rows_of(frame.name)]
        right = boxes[find_people(frame.boxes, boxes)]
        overlap = iou(frame.boxes, right) if len(right) else np.zeros((len(frame.boxes), 1))
        matched = overlap.max(axis=1, initial=0) >= 0.5
        for row in np.flatnonzero(~frame.ignore):
            for group in groups_of(frame, row, people):
                found[group].append(bool(matched[row]))
    return found


def scores(engine: Engine, frames: FrameSet, index: FrameIndex, people: dict[int, dict[str, str]]) -> Groups:
    """By group, the scores of its queries."""
    by_path = {frame.path: frame for frame in frames.frames}
    grouped: Groups = defaultdict(list)
    for query in frames.queries:
        picture, labelled = open_query(frames, query), by_path[query.path]
        embedding = engine.embed_query(QueryPerson(picture.rgb, picture.query.box))
        found = index.score(Scorer(embedding[None], engine.closed_form()), set(query.gallery))
        score = score_table(frames, query, index.table, found)
        row = int(iou(np.array([query.box]), labelled.boxes)[0].argmax())
        for group in groups_of(labelled, row, people):
            grouped[group].append(score)
    return grouped


def groups_of(frame: LabelledFrame, row: int, people: dict[int, dict[str, str]]) -> Iterator[tuple[str, str]]:
    """(kind, group) of a person in a frame."""
    yield "everybody", ""
    box = frame.boxes[row]
    yield "height", between(float(box[3] - box[1]), HEIGHTS, "{:g} px")
    others = np.delete(frame.boxes, row, axis=0)
    crowding = float(iou(box[None], others).max()) if len(others) else 0.0
    yield "overlap with the nearest", between(crowding, CROWDING, "{:g}")
    yield from people.get(int(frame.person_ids[row]), {}).items()


def between(value: float, edges: tuple[float, ...], form: str) -> str:
    """The name of the group, numbered so that names sort as the values do."""
    place = sum(value >= edge for edge in edges)
    low, high = ("" if place == 0 else edges[place - 1]), ("" if place == len(edges) else edges[place])
    name = f"below {form.format(high)}" if low == "" else f"from {form.format(low)}"
    return f"{place + 1}. {name}"


def report(recall: Groups, score: Groups) -> str:
    """A row a group, as Markdown."""
    rows = []
    for kind, group in sorted(recall.keys() | score.keys(), key=lambda key: (key[0] != "everybody", key)):
        found, own = recall.get((kind, group), []), score.get((kind, group), [])
        mean = SearchScore(tuple(own))
        rows.append([
            f"{kind} {group}".strip(),
            str(len(found)),
            f"{100 * np.mean(found):.1f}" if found else "–",
            str(len(own)),
            f"{100 * mean.mean_ap:.1f}" if own else "–",
            f"{100 * mean.top(1):.1f}" if own else "–",
        ])  # fmt: skip
    return table(["group", "people", "recall", "queries", "mAP", "top-1"], rows)


if __name__ == "__main__":
    main()
