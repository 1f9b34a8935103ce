"""Cached people scored by workers: each takes a share of the segments, and what it keeps of them is merged.

A ranking does not depend on the order in which people come, nor on how many come at a time. So the shares' rankings,
each as long as the whole one may become, give the whole one, with its ties.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qeeps_cli.cache.detections import parse_digests
from qeeps_cli.cache.store import Cache, Snapshots
from qeeps_cli.distributed.cluster import Cluster, load_ray
from qeeps_cli.distributed.pool import explained
from qeeps_cli.searching.ranking import Ranking, Rows
from qeeps_cli.searching.request import SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, Scoring, best_of_frames, rank_cached
from qeeps_cli.types import Query

Form = tuple[np.ndarray, float] | None


@dataclass(frozen=True)
class Share:
    """The frames of some segments. numbers: (n,) their places among all digests, which order the ties."""

    folder: Path
    fingerprint: dict[str, Any]
    snapshots: Snapshots
    numbers: np.ndarray
    digests: list[str]
    form: Form

    def best(self, scorer: Scoring) -> np.ndarray:
        """As `best_of_frames`, of these frames."""
        with self._cache() as cache:
            return best_of_frames(self._gallery(cache), scorer)

    def rank(
        self, scorer: Scoring, options: SearchOptions, places: np.ndarray, wanted: np.ndarray
    ) -> list[Rows]:
        """As `rank_cached`, of these frames: what each query's ranking keeps. places, wanted: of all digests."""
        rankings = [Ranking(Query(Path(), None), [], options) for _ in scorer.queries]
        with self._cache() as cache:
            rank_cached(
                self._gallery(cache), scorer, rankings, places[self.numbers], wanted[:, self.numbers]
            )
        return [ranking.kept() for ranking in rankings]

    def _cache(self) -> Cache:
        return Cache(self.folder, read_only=True, warn=lambda text: None, snapshots=self.snapshots)

    def _gallery(self, cache: Cache) -> CachedGallery:
        return CachedGallery(cache.frames(self.fingerprint), self.digests, self.form)


class SharedGallery:
    """A `searching.scoring.People` whose shares are scored on a cluster.

    cache: holds the digests under the fingerprint.
    """

    def __init__(
        self, cluster: Cluster, cache: Cache, fingerprint: dict[str, Any], digests: Sequence[str], form: Form
    ):
        self.cluster = cluster
        self.digests = digests
        self.shares = list(shares(cache, fingerprint, digests, form, cluster.workers))

    def best(self, scorer: Scoring) -> np.ndarray:
        best = np.full((len(scorer.queries), len(self.digests)), -np.inf, np.float32)
        for share, found in zip(self.shares, self._map(Share.best, scorer), strict=True):
            best[:, share.numbers] = found
        return best

    def rank(self, scorer: Scoring, rankings: Sequence[Ranking], places: np.ndarray, wanted: np.ndarray) -> None:
        for kept in self._map(Share.rank, scorer, rankings[0].options, places, wanted):
            for ranking, rows in zip(rankings, kept, strict=True):
                ranking.add(rows)

    def _map(self, function: Callable, *arguments: Any) -> list[Any]:
        """One task a share, anywhere; Ray repeats those whose machine is lost. Raises ClusterError."""
        ray = load_ray()
        task = ray.remote(function).options(num_cpus=1, scheduling_strategy="SPREAD")
        given = [ray.put(argument) for argument in arguments]
        try:
            return ray.get([task.remote(share, *given) for share in self.shares])
        except ray.exceptions.RayError as error:
            raise explained(error) from error


def shares(
    cache: Cache, fingerprint: dict[str, Any], digests: Sequence[str], form: Form, count: int
) -> Iterator[Share]:
    """About equal ones, of neighbours in the segments, so that hardly a segment is in two."""
    store = cache.frames(fingerprint)
    snapshots = {key: found for key, found in cache.snapshots().items() if key[0] == "frames"}
    segment, row = store.places(parse_digests(digests))
    for numbers in np.array_split(np.lexsort((row, segment)), count):
        if len(numbers):
            yield Share(
                cache.folder.absolute(), fingerprint, snapshots, numbers, [digests[i] for i in numbers], form
            )
