"""The exact search over a benchmark: every pair of query and frame through the network, many queries at a time."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from qeeps_cli.cache.store import Cache
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError, QeepsError
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.exact import search_pairs
from qeeps_cli.searching.request import QueryPicture, read_query
from qeeps_cli.searching.tally import Tally
from qeeps_cli.types import Detections, GalleryFrame, LabelledQuery

TOGETHER = 32  # queries that share one decoding of the frames; each holds its picture in memory


@dataclass(frozen=True)
class PairSearch:
    """What a pass over pairs needs, whoever asks. batch: frames of one size that run together. tally: is kept."""

    engine: Engine
    frames: FrameSet
    cache: Cache | None
    batch: int
    tally: Tally

    def run(
        self, queries: Sequence[LabelledQuery], wanted: Sequence[Collection[str]], held: Sequence[Collection[str]]
    ) -> Iterator[tuple[int, str, Detections]]:
        """Yields (position in `queries`, frame name, detections), frame by frame; at most TOGETHER queries.

        wanted: names of the frames to search for each query. held: those that hold its person, whose proposals are
        kept. Pairs that the cache holds are taken from there. Raises DataError for a picture that cannot be used.
        """
        pictures = [open_query(self.frames, query) for query in queries]
        stores = None
        if self.cache:
            known = self.engine.fingerprint()
            stores = [self.cache.pairs(known, p.query.digest, p.query.box) for p in pictures]
        searchers: dict[str, list[int]] = {}
        for i, names in enumerate(wanted):
            for name in names:
                searchers.setdefault(name, []).append(i)
        listed = [GalleryFrame(f.path, f.name) for f in self.frames.frames if f.name in searchers]
        answers = search_pairs(
            self.engine,
            [QueryPerson(picture.rgb, picture.query.box) for picture in pictures],
            listed,
            batch=self.batch,
            stores=stores,
            cache=self.cache,
            wanted=lambda frame: searchers[frame.name],
            proposals=lambda i, frame: frame.name in held[i],
        )
        for i, answer in answers:
            if answer.detections is None:
                raise DataError(f"frame {answer.frame.path} of {self.frames.name}: {answer.skipped}")
            self.tally.count(answer)
            yield i, answer.frame.name, answer.detections


def open_query(frames: FrameSet, query: LabelledQuery) -> QueryPicture:
    """The decoded query, its box cut to the picture. Raises DataError, naming the query, if that cannot be."""
    try:
        return read_query(query.path, query.box)
    except QeepsError as error:
        raise DataError(f"query {query.name} of {frames.name}, {query.path}: {error}") from error


def in_groups(queries: Sequence[LabelledQuery]) -> Iterator[Sequence[LabelledQuery]]:
    """The queries, at most TOGETHER at a time."""
    for start in range(0, len(queries), TOGETHER):
        yield queries[start : start + TOGETHER]
