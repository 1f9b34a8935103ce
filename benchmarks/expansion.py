"""Ways to let a query's best matches speak for others, on a labelled set: what each does to the ranking and to scores.

    python benchmarks/expansion.py                          the example frames, the default weights
    python benchmarks/expansion.py --root DIR --annotations val.json --queries-file val_queries.json --extra more.json

All rank cached people, and ask the best matches outside the query's own picture. "embeddings": the query's and that of
its best match, averaged, are the new query (Chum et al., ICCV 2007, as re-identification has it). "scores": half of
a score is the query's, half s(q, w) · s(w, x), the mean over one, two or three witnesses w; one is `--expand`. "from
0.5": the same, where the best match scores at least that.

"gain": of the queries' ap against "none", in per cent, the mean and its standard error, and how many are better and
worse. "absent": the highest score in the frames without the person, by that way, as if there were no others: mean over
the queries, and how many reach 0.5. "right": of each frame's best detection from 0.5 on, how many are the person.
"""

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from set_options import add_set_options, read_set
from timing import table

from qeeps_cli.cache.store import Cache
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
HEADS = ["way", "mAP", "top-1", "gain", "better / worse", "absent", "absent ≥ 0.5", "right from 0.5 on"]
EVERYTHING = 10**9
SAME = 0.05  # per cent of ap: below it a query is neither better nor worse


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(options)
    options.add_argument("--weights")
    options.add_argument("--cache", type=Path, help="keeps what the network found")
    given = options.parse_args()
    frames = read_set(given)
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
    outcomes = {name: measure(way, scores, frames, index, queries) for name, way in WAYS.items()}
    rows = [[name, *outcome.cells(outcomes["none"])] for name, outcome in outcomes.items()]
    print(table(HEADS, rows))


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


@dataclass(frozen=True)
class Outcome:
    """search: of the whole galleries. absent: (A,) highest scores in frames without the person, of the queries that
    have any. right: of each frame's best detection that scores 0.5 or more, whether it is the person."""

    search: SearchScore
    absent: np.ndarray
    right: np.ndarray

    def cells(self, before: "Outcome") -> list[str]:
        """For the table. before: without expansion."""
        result = self.search.to_json()
        gains = 100 * np.subtract(*([query.ap for query in one.search.queries] for one in (self, before)))
        error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else np.nan
        return [
            *(f"{100 * result[key]:.1f}" for key in ("mAP", "top1")),
            f"{gains.mean():+.1f} ± {error:.1f}",
            f"{(gains > SAME).sum()} / {(gains < -SAME).sum()} of {len(gains)}",
            f"{self.absent.mean():.2f}" if len(self.absent) else "–",
            f"{(self.absent >= 0.5).sum()} of {len(self.absent)}",
            f"{100 * self.right.mean():.1f} % of {len(self.right)}" if len(self.right) else "–",
        ]


def measure(way: Way, scores: Scores, frames: FrameSet, index: FrameIndex, queries: list[np.ndarray]) -> Outcome:
    found, absent, right = [], [], []
    for query, embedding in zip(frames.queries, queries, strict=True):
        own, gallery = frames.names_of(query.path), list(query.gallery)
        ranking = rank(way, scores, index, embedding, gallery, own)
        score = score_table(frames, query, index.table, ranking, keep=EVERYTHING)
        found.append(score)
        best = {each.frame: each for each in reversed(score.ranking)}.values()
        right += [each.correct for each in best if each.score >= 0.5]
        held = {gallery[position] for position in find_truth(frames, query)}
        without = [name for name in gallery if name not in held]
        if without:
            absent.append(rank(way, scores, index, embedding, without, own).max())
    return Outcome(SearchScore(tuple(found)), np.array(absent), np.array(right))


def rank(
    way: Way, scores: Scores, index: FrameIndex, query: np.ndarray, names: list[str], own: Collection[str]
) -> np.ndarray:
    """Scores (M,) of the people of these frames, of which `own` are the query's picture; 0 for all others."""
    everybody = np.zeros(len(index.embeddings))
    numbers = np.arange(len(everybody))
    rows = [numbers[index.rows_of(name)] for name in names]
    others = np.repeat([name not in own for name in names], [len(some) for some in rows])
    chosen = np.concatenate(rows)
    everybody[chosen] = way(scores, query, index.embeddings[chosen], others)
    return everybody


if __name__ == "__main__":
    main()
