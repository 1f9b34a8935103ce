"""A whole search: pictures and a gallery to rankings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from qeeps_cli.boxes import xyxy_to_xywh
from qeeps_cli.cache.store import Cache
from qeeps_cli.frames import FrameReader
from qeeps_cli.searching import out_of_memory
from qeeps_cli.searching.cascade import shortlist
from qeeps_cli.searching.crew import Crew
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.exact import search_pairs
from qeeps_cli.searching.expansion import ExpandedScorer, best_row
from qeeps_cli.searching.findings import Findings
from qeeps_cli.searching.galleries import Gallery
from qeeps_cli.searching.indexing import index_frames
from qeeps_cli.searching.loading import batch_size
from qeeps_cli.searching.out_of_memory import Batches, OutOfMemory
from qeeps_cli.searching.plan import Plan, plan_search
from qeeps_cli.searching.reading import Read, read_frame
from qeeps_cli.searching.request import QueryPicture, SearchOptions
from qeeps_cli.searching.scoring import CachedGallery, People, Scorer
from qeeps_cli.searching.tally import Progress, Tally
from qeeps_cli.types import GalleryFrame, Match, SearchResult

TOGETHER = 16  # queries that share a decoding of the frames; each holds its picture in memory

Tell = Callable[[int, list[Match]], None]


def run_search(
    engine: Engine,
    pictures: Sequence[QueryPicture],
    gallery: Gallery,
    options: SearchOptions | None = None,
    *,
    cache: Cache | None = None,
    refresh: bool = False,
    progress: Progress = lambda done, total, what: None,
    tally: Tally | None = None,
    tell: Tell | None = None,
    crew: Crew | None = None,
) -> Iterator[SearchResult]:
    """Search the gallery for each picture's person; the results come in the order of the pictures.

    cache: read and filled; None: nothing is kept. refresh: compute again what it holds. progress: called with (done,
    total, what) as frames and pairs are answered. tally: counts what was computed. tell: called with the number of a
    query (from 0) and matches as their scores become final, as `Findings` says. crew: fills the cache first, which must
    be one. The results do not depend on what the cache held before. Raises UsageError for a min_score below all scores,
    NothingToSearchError when no frame could be used, NotANumberError when the network gives a score that is not finite,
    OutOfMemory when a frame does not fit into the device's memory and the device was asked for by name or told matches
    already.
    """
    options = options or SearchOptions()
    options.check_scores(engine.model.config.has_qsimnet)
    plan = plan_search(options, len(gallery.frames), len(pictures), engine.device.type)
    tally = tally or Tally()
    keeping = cache is not None
    # Without a cache, what the second look at the frames needs is kept in a temporary one.
    temporary = nullcontext(cache) if keeping or plan.mode == "exact" else Cache(None, warn=lambda text: None)
    with temporary as used:
        search = _Search(
            engine, gallery, options, plan, used, refresh, progress, tally, tell, len(pictures), keeping, crew
        )
        for start in range(0, len(pictures), TOGETHER):
            yield from search.run_or_on_cpu(pictures[start : start + TOGETHER], start)


@dataclass(frozen=True)
class _Index:
    """The frames of a gallery without a query. digests, places: of the frames that could be used, in their order."""

    digests: list[str]
    places: np.ndarray
    notes: dict[int, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)


@dataclass
class _Search:
    engine: Engine
    gallery: Gallery
    options: SearchOptions
    plan: Plan
    cache: Cache | None
    refresh: bool
    progress: Progress
    tally: Tally
    tell: Tell | None
    queries: int
    keeps_pairs: bool
    crew: Crew | None = None
    pairs_done: int = 0
    notes: list[str] = field(default_factory=list)

    def run_or_on_cpu(self, pictures: Sequence[QueryPicture], first: int) -> list[SearchResult]:
        """`run`; where the GPU's memory does not suffice, once more on the CPU, which then does all that is left."""
        done, told = self.pairs_done, False

        def tell(number: int, matches: list[Match]) -> None:
            nonlocal told
            told = True
            self.tell(number, matches)

        def run(engine: Engine, notes: list[str]) -> list[SearchResult]:
            if notes:
                if told:  # what was told cannot be taken back, and another device's scores differ a little
                    raise OutOfMemory(f"the memory of {self.engine.device} ran out in mid-run. Use --device cpu.")
                self._move(engine, notes)
                self.pairs_done = done
            return list(self.run(pictures, first, self.tell and tell))

        return out_of_memory.run_or_on_cpu(self.engine, run)

    def _move(self, engine: Engine, notes: list[str]) -> None:
        """Go on with another engine: what was kept of this one's frames is not the other's."""
        self.engine, self.notes = engine, notes
        for name in ("_index", "_cached"):
            self.__dict__.pop(name, None)

    def run(self, pictures: Sequence[QueryPicture], first: int, tell: Tell | None) -> Iterator[SearchResult]:
        """Some of the queries. first: the number of the first one."""
        pixels = self.options.max_pixels
        with FrameReader(pixels) as reader:
            pictures = [replace(picture, rgb=picture.pixels(pixels, reader)) for picture in pictures]
        people = [QueryPerson(picture.rgb, picture.query.box) for picture in pictures]
        findings = [
            Findings(picture.query, self.gallery.frames, self.options, tell and partial(tell, number))
            for number, picture in enumerate(pictures, start=first)
        ]
        if self.plan.mode == "exact":
            self._compare(pictures, people, findings)
        else:
            self._rank(pictures, people, findings)
        for picture, finding in zip(pictures, findings, strict=True):
            yield self._finish(picture, finding.result())

    def _rank(
        self, pictures: Sequence[QueryPicture], people: Sequence[QueryPerson], findings: Sequence[Findings]
    ) -> None:
        """By cached scores; in the cascade, the best frames by exact ones."""
        index = self._index
        embeddings = Batches(self.engine.device).run(
            lambda some: [self.engine.embed_query(person) for person in some], people
        )
        scorer = Scorer(np.stack(embeddings), self.engine.closed_form())
        if self.options.expand:
            scorer = self._expanded(pictures, scorer, findings)
        wanted = np.ones((len(pictures), len(index.digests)), bool)
        if self.plan.mode == "cascade":
            chosen: dict[int, list[int]] = {}
            for query, numbers in enumerate(self._shortlists(pictures, scorer)):
                wanted[query, numbers] = False
                for place in index.places[numbers].tolist():
                    chosen.setdefault(place, []).append(query)
            self._compare(pictures, people, findings, dict(sorted(chosen.items())))
        rankings = [finding.ranking for finding in findings]
        for query, ranking in enumerate(rankings):
            for place, reason in index.skipped.items():
                ranking.skip(place, reason)
            for number in np.flatnonzero(wanted[query]).tolist():
                place = int(index.places[number])
                wanted[query, number] = ranking.see(place, index.digests[number], index.notes.get(place))
        self._cached.rank(scorer, rankings, index.places, wanted)
        if self.options.min_score is not None:  # below it nobody was ranked
            best = self._cached.best(scorer)
            for query, finding in enumerate(findings):
                finding.see_scores(best[query, wanted[query]])

    def _expanded(
        self, pictures: Sequence[QueryPicture], scorer: Scorer, findings: Sequence[Findings]
    ) -> ExpandedScorer:
        """With each query's best match in the gallery; its own picture, where it is there, has nothing to add."""
        witnesses: list[np.ndarray | None] = []
        store, index = self.cache.frames(self.engine.fingerprint()), self._index
        for query, best in enumerate(self._best(pictures, scorer, without_own=True)):
            number = best_row(best)
            if number is None:
                witnesses.append(None)
                continue
            people, place = store.get(index.digests[number]), int(index.places[number])
            row = best_row(scorer.scores(query, people.embeddings))
            witnesses.append(people.embeddings[row])
            box = ",".join(f"{value:.0f}" for value in xyxy_to_xywh(people.boxes[row]))
            who = f"{self.gallery.frames[place].name} ({box}), which scores {best[number]:.3f} by itself"
            findings[query].ranking.remark(
                place,
                f"half of each score comes by way of the best match, {who}; if that is somebody else, search without "
                "--expand",
            )
        return ExpandedScorer(scorer, self.engine.closed_form(), witnesses)

    def _shortlists(self, pictures: Sequence[QueryPicture], scorer: Scorer) -> list[list[int]]:
        """For each query the frames to compare exactly, as numbers in the index."""
        best = self._best(pictures, scorer, without_own=self.options.exclude_query)
        return [shortlist(scores, self.plan.shortlist) for scores in best]

    def _best(self, pictures: Sequence[QueryPicture], scorer: Scorer, without_own: bool) -> np.ndarray:
        """(Q, F): the highest score of each of the index's frames; -inf where it has no people, and, without_own, in a
        query's own picture."""
        best, digests = self._cached.best(scorer), self._index.digests
        if without_own:
            for picture, scores in zip(pictures, best, strict=True):
                scores[[number for number, digest in enumerate(digests) if digest == picture.query.digest]] = -np.inf
        return best

    def _compare(
        self,
        pictures: Sequence[QueryPicture],
        people: Sequence[QueryPerson],
        findings: Sequence[Findings],
        chosen: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Exact scores. chosen: the places of frames, ascending, each with its queries; None: all frames with all."""
        frames = self.gallery.frames
        wanted, expected = None, ((place, query) for place in range(len(frames)) for query in range(len(pictures)))
        if chosen is not None:
            expected = ((place, query) for place, queries in chosen.items() for query in queries)
            by_frame = {frames[place]: queries for place, queries in chosen.items()}

            def wanted(frame: GalleryFrame) -> Sequence[int]:
                return by_frame[frame]

        if self.crew is not None:
            everything = {place: range(len(pictures)) for place in range(len(frames))} if chosen is None else chosen
            self.tally.move("pairs", self.crew.compare(pictures, everything))
        stores = None
        if self.keeps_pairs:
            key = self.engine.fingerprint()
            stores = [self.cache.pairs(key, picture.query.digest, picture.query.box) for picture in pictures]
        answers = search_pairs(
            self.engine,
            people,
            frames if chosen is None else (frames[place] for place in chosen),
            batch=batch_size(self.engine, self.options.batch),
            max_pixels=self.options.max_pixels,
            stores=stores,
            cache=self.cache if self.keeps_pairs else None,
            refresh=self.refresh and self.crew is None,
            wanted=wanted,
            read=self._read,
        )
        total = self.queries * (self.plan.shortlist or len(frames))
        for (place, query), (_, answer) in zip(expected, answers, strict=True):
            self.tally.count(answer)
            self.pairs_done += 1
            self.progress(self.pairs_done, total, "pairs compared" if self.queries > 1 else "frames compared")
            if answer.detections is None:
                findings[query].ranking.skip(place, answer.skipped or "no reason given")
            elif findings[query].ranking.see(place, answer.digest, answer.note):
                findings[query].add(place, answer.detections)

    @cached_property
    def _index(self) -> _Index:
        frames = self.gallery.frames
        if self.crew is not None:
            self.tally.move("frames", self.crew.index(frames))
        indexed = index_frames(
            self.engine,
            frames,
            self.cache.frames(self.engine.fingerprint()),
            self.cache,
            batch=batch_size(self.engine, self.options.batch),
            max_pixels=self.options.max_pixels,
            refresh=self.refresh and self.crew is None,
            load=False,
            read=self._read,
        )
        index = _Index([], np.zeros(len(frames), np.int64))
        for place, item in enumerate(indexed):
            self.tally.count(item)
            self.progress(place + 1, len(frames), "frames indexed")
            if item.skipped is not None:
                index.skipped[place] = item.skipped
                continue
            index.places[len(index.digests)] = place
            index.digests.append(item.digest)
            if item.note:
                index.notes[place] = item.note
        return replace(index, places=index.places[: len(index.digests)])

    @property
    def _read(self) -> Read:
        return read_frame if self.crew is None else self.crew.read

    @cached_property
    def _cached(self) -> People:
        if self.crew is not None:
            shared = self.crew.people(self._index.digests, self.engine.closed_form())
            if shared is not None:
                return shared
        store = self.cache.frames(self.engine.fingerprint())
        return CachedGallery(store, self._index.digests, self.engine.closed_form())

    def _finish(self, picture: QueryPicture, result: SearchResult) -> SearchResult:
        return replace(
            result,
            skipped=[*self.gallery.skipped, *result.skipped],
            notes=list(dict.fromkeys([*self.notes, *picture.notes, *self.gallery.notes, *result.notes])),
            parameters=self._parameters(),
            frames=self.gallery.frames,
        )

    def _parameters(self) -> dict[str, Any]:
        return {
            **self.engine.params.to_dict(),
            **self.options.to_dict(),
            **self.plan.to_dict(),
            "requested_mode": self.options.mode,
            **self.gallery.to_dict(),
            "device": self.engine.device.type,
            "precision": str(self.engine.dtype).removeprefix("torch."),
        }
