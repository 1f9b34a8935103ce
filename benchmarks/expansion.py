"""Ways to let a query's best matches speak for others, on a labelled set: what each does to the ranking and to scores.

    python benchmarks/expansion.py                          the example frames, the default weights
    python benchmarks/expansion.py --root DIR --annotations val.json --queries-file val_queries.json --extra more.json

All rank cached people, and ask the best matches outside the query's own picture. "embeddings": the query's and that of
its best match, averaged, are the new query (Chum et al., ICCV 2007, as re-identification has it). "scores": half of
a score is the query's, half s(q, w) · s(w, x), the mean over one, two or three witnesses w; one is `--expand`. "from
0.5": the same, where the best match scores at least that.

"absent": the highest score in the frames without the person, by that way, as if there were no others: mean over the
queries, and how many reach 0.5. "right": of each frame's best detection from 0.5 on, how many are the person.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from timing import table

from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets import load
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.independent import FrameIndex, index_benchmark
from qeeps_cli.evaluation.metrics import SearchScore
from qeeps_cli.evaluation.pairwise import open_query
from qeeps_cli.evaluation.protocols import find_truth, score_table
from qeeps_cli.searching.engine import QueryPerson
from qeeps_cli.searching.loading import load_engine
from qeeps_cli.searching.scoring import Scorer
from qeeps_cli.searching.tally import Tally

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of a query (D,) and people (n, D): (n,)
Way = Callable[[Scores, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
EVERYTHING = 10**9


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", help="a COCO-like set; default: the example frames")
    options.add_argument("--annotations", default="annotations.json")
    options.add_argument("--queries-file", default="queries.json")
    options.add_argument("--extra", nargs="*", default=[])
    options.add_argument("--weights")
    options.add_argument("--cache", type=Path, help="keeps what the network found")
    given = options.parse_args()
    frames = load("examples", None)
    if given.root:
        files = {"annotations": given.annotations, "queries": given.queries_file, "extra": given.extra}
        frames = load("coco", given.root, **files)
    engine, checkpoint = load_engine(given.weights, "cpu")
    form = engine.closed_form()
    with Cache(given.cache, warn=print) as cache:
        how = {"batch": 1, "det_thresh": 0.5, "confident_only": False}
        index, _ = index_benchmark(engine, frames, cache=cache, **how, tally=Tally(), progress=lambda *done: None)

    def scores(query: np.ndarray, people: np.ndarray) -> np.ndarray:
        return Scorer(query[None], form).scores(0, people).astype(np.float64)

    pictures = [open_query(frames, query) for query in frames.queries]
    queries = [engine.embed_query(QueryPerson(picture.rgb, picture.query.box)) for picture in pictures]
    print(f"{frames.name}: {len(queries)} queries; {checkpoint.name} {checkpoint.digest[:8]}\n")
    rows = [[name, *measure(way, scores, frames, index, queries)] for name, way in WAYS.items()]
    print(table(["way", "mAP", "top-1", "absent", "absent ≥ 0.5", "right from 0.5 on"], rows))


def plain(scores: Scores, query: np.ndarray, people: np.ndarray, others: np.ndarray) -> np.ndarray:
    return scores(query, people)


def embeddings(scores: Scores, query: np.ndarray, people: np.ndarray, others: np.ndarray) -> np.ndarray:
    mean = query + people[_best(scores(query, people), others, 1)[0]].astype(np.float64)
    return scores(mean / np.linalg.norm(mean), people)


@dataclass(frozen=True)
class ByScores:
    """witnesses: how many are asked. lowest: what they have to score."""

    witnesses: int
    lowest: float = 0.0

    def __call__(self, scores: Scores, query: np.ndarray, people: np.ndarray, others: np.ndarray) -> np.ndarray:
        own = scores(query, people)
        asked = [row for row in _best(own, others, self.witnesses) if own[row] >= self.lowest]
        if not asked:
            return own
        return (own + np.mean([own[row] * scores(people[row], people) for row in asked], axis=0)) / 2


WAYS: dict[str, Way] = {
    "none": plain,
    "embeddings": embeddings,
    "scores, one": ByScores(1),
    "scores, two": ByScores(2),
    "scores, three": ByScores(3),
    "scores, one from 0.5": ByScores(1, 0.5),
}


def _best(scores: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """The rows of the `count` highest scores outside the query's own picture."""
    return np.argsort(-np.where(others, scores, -np.inf), kind="stable")[:count]


def measure(way: Way, scores: Scores, frames: FrameSet, index: FrameIndex, queries: list[np.ndarray]) -> list[str]:
    found, absent, right = [], [], []
    for query, embedding in zip(frames.queries, queries, strict=True):
        own = {frame.name for frame in frames.frames if frame.path == query.path}
        held = {query.gallery[position] for position in find_truth(frames, query)}
        rows = {name: np.arange(index.table.offsets[-1])[index.rows_of(name)] for name in query.gallery}

        def ranked(names: list[str], query: np.ndarray = embedding, rows: dict = rows, own: set = own) -> np.ndarray:
            """(M,), of the people of these frames; of all others 0."""
            some = np.concatenate([rows[name] for name in names])
            others = np.concatenate([np.full(len(rows[name]), name not in own) for name in names])
            everybody = np.zeros(len(index.embeddings))
            everybody[some] = way(scores, query, index.embeddings[some], others)
            return everybody

        score = score_table(frames, query, index.table, ranked(list(query.gallery)), keep=EVERYTHING)
        found.append(score)
        best = {each.frame: each for each in reversed(score.ranking)}.values()
        right += [each.correct for each in best if each.score >= 0.5]
        absent.append(ranked([name for name in query.gallery if name not in held]).max())
    result = SearchScore(tuple(found)).to_json()
    share = f"{100 * np.mean(right):.1f} % of {len(right)}" if right else "–"
    return [
        *(f"{100 * result[key]:.1f}" for key in ("mAP", "top1")),
        f"{np.mean(absent):.2f}", f"{int((np.array(absent) >= 0.5).sum())} of {len(absent)}", share,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
