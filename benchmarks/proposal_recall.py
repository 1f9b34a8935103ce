"""Whether QRPN proposes the person who is asked for first: the share of frames that show them in which one of the first
k proposals covers them (IoU 0.5), by RPN alone and with QRPN's logits added.

    python benchmarks/proposal_recall.py                            the example frames, the default weights
    python benchmarks/proposal_recall.py --root DIR --annotations val.json --queries-file val_queries.json

"all": of all proposals, 300 at most. "difference": in points, the mean over the queries with its standard error; each
query counts once, however many frames show the person. "another query": the same frames and people with QRPN asked for
the next query's person instead, who is somebody else: what QRPN knows of people in general, less what it gives to that
person where they are in the frame, too.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from set_options import add_set_options, read_set
from timing import table

from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.metrics import covers
from qeeps_cli.evaluation.pairwise import open_query
from qeeps_cli.evaluation.protocols import find_truth
from qeeps_cli.images import read_image
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.loading import load_engine
from qeeps_cli.types import Box

FIRST = (1, 2, 3, 5, 10, 20)
ALL = 10**9
NOBODY = 1.1  # no person score reaches it
WAYS = ("RPN", "another query", "RPN + QRPN")


class Places(NamedTuple):
    """Of one query, in each frame that shows its person: (F,) the place of the first proposal that covers them, from 0
    on, or ALL. By RPN alone, for another query, and for this one."""

    alone: np.ndarray
    another: np.ndarray
    asked: np.ndarray


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(options)
    options.add_argument("--weights")
    options.add_argument("--device", default="auto")
    given = options.parse_args()
    frames = read_set(given)
    engine, checkpoint = load_engine(given.weights, given.device)
    if engine.model.qrpn is None:
        raise SystemExit(f"expected weights with QRPN, got the variant {engine.model.config.variant}.")
    places = find_places(engine, frames)
    pairs = sum(len(query.asked) for query in places)
    print(f"{checkpoint.name}, sha256 {checkpoint.digest[:12]}; {frames.name}: {len(places)} queries, {pairs} frames\n")
    print(report(places))


def find_places(engine: Engine, frames: FrameSet) -> list[Places]:
    """A frame is prepared once for all queries whose person it shows."""
    engine = engine.with_params(replace(engine.params, min_person_score=NOBODY))  # what is proposed is all
    people = []
    for query in frames.queries:
        picture = open_query(frames, query)
        people.append(QueryPerson(picture.rgb, picture.query.box))
    wanted: dict[str, list[tuple[int, Box]]] = {}
    for number, query in enumerate(frames.queries):
        for position, box in find_truth(frames, query).items():
            wanted.setdefault(query.gallery[position], []).append((number, box))
    others = [_somebody_else(frames, number) for number in range(len(people))]
    found: list[list[tuple[int, int, int]]] = [[] for _ in people]
    for frame in frames.frames:
        if frame.name not in wanted:
            continue
        prepared = engine.prepare([read_image(frame.path).rgb])
        alone = engine.detect(prepared, proposals=True)[0].proposals
        for number, box in wanted[frame.name]:
            guided = [engine.search(people[i], prepared, proposals=True)[0].proposals for i in (others[number], number)]
            found[number].append(tuple(_place(box, proposals) for proposals in (alone, *guided)))
    return [Places(*np.array(rows).T) for rows in found if rows]


def _somebody_else(frames: FrameSet, number: int) -> int:
    """The next query of another person."""
    queries = frames.queries
    for i in (*range(number + 1, len(queries)), *range(number)):
        if queries[i].person_id != queries[number].person_id:
            return i
    raise SystemExit("expected queries of at least two people: each is compared with being asked for another one.")


def _place(box: Box, proposals: np.ndarray) -> int:
    right = np.flatnonzero(covers(box, proposals))
    return int(right[0]) if len(right) else ALL


def report(places: Sequence[Places]) -> str:
    """A row for each k, as Markdown."""
    rows = []
    for count in (*FIRST, ALL):
        shares = 100 * np.array([[(way < count).mean() for way in query] for query in places])
        gains = shares[:, 2] - shares[:, 0]
        error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else np.nan
        rows.append([
            "all" if count == ALL else str(count),
            *(f"{mean:.1f}" for mean in shares.mean(axis=0)),
            f"{gains.mean():+.1f} ± {error:.1f}",
        ])  # fmt: skip
    return table(["first", *WAYS, "difference"], rows)


if __name__ == "__main__":
    main()
