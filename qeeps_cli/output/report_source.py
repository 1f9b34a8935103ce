"""What a report is made of: the JSON of a search read back and checked, and cut to what a page can hold."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from qeeps_cli.errors import UsageError
from qeeps_cli.gallery import is_pattern
from qeeps_cli.output import json_writer
from qeeps_cli.output.wording import mode_name
from qeeps_cli.sightings.grouping import CLOCKS
from qeeps_cli.types import Box

MAX_BYTES = 2**28  # of one results.json: several million matches, which take ten times this in memory

ReadOther = Callable[[str], bytes]


@dataclass(frozen=True)
class ReportMatch:
    """A match that the page holds.

    image: the frame's name in the results. box: [x, y, w, h] as the results have it. best: no match in its frame ranks
    above it.
    """

    rank: int
    image: str
    box: tuple[float, float, float, float]
    score: float
    person_score: float
    best: bool

    @property
    def corners(self) -> Box:
        """The box as xyxy."""
        x, y, w, h = self.box
        return x, y, x + w, y + h


@dataclass(frozen=True)
class ReportSighting:
    """A sighting as the page shows it. clock, first, last: as of `Sighting`. best: its first rank, with this score.
    ranks: of all its matches, by time."""

    camera: str
    clock: str
    first: datetime | float | int
    last: datetime | float | int
    frames: int
    best: int
    score: float
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class ReportSearch:
    """One search as the page shows it.

    id: its name among several, else empty. digest: of query, weights, mode and all matches, so that verdicts are never
    taken for those of another result. query, weights: as in the results. mode: for a reader. roots: the galleries, as
    they were given. root: the only one, to which the names of frames are relative; None: they are paths. best_score: of
    anybody, also of somebody who is no match; None where nobody was seen, or an older result does not say it. total,
    frames: matches and frames with matches in the results, of which `matches` holds the first ones. sightings: None
    where nobody asked for them. rules: the `gap` and `score` that made them.
    """

    id: str
    digest: str
    query: Mapping[str, Any]
    weights: Mapping[str, str]
    mode: str
    roots: tuple[str, ...]
    root: str | None
    frames_searched: int
    best_score: float | None
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    total: int
    frames: int
    matches: tuple[ReportMatch, ...]
    sightings: tuple[ReportSighting, ...] | None = None
    rules: Mapping[str, float] = field(default_factory=dict)

    @property
    def query_corners(self) -> Box | None:
        """The query's box as xyxy; None where the whole picture is the person."""
        if self.query["box"] is None:
            return None
        x, y, w, h = self.query["box"]
        return x, y, x + w, y + h


def parse_results(data: bytes, name: str) -> dict[str, Any]:
    """The JSON document in `data`. name: of the file, for messages. Raises UsageError for anything else."""
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"{name} has {len(data)} bytes; a report expects at most {MAX_BYTES}. Search with --top-k, or --out DIR."
        )
    try:
        document = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} is not the JSON of a search ({error}). Give the results.json of `qeeps search`."
        ) from None
    if not isinstance(document, dict):
        raise UsageError(
            f"{name} expects a JSON object, got {_kind(document)}. Give the results.json of `qeeps search`."
        )
    return document


def read_searches(
    document: Mapping[str, Any], name: str, limit: Callable[[int], int], read_other: ReadOther
) -> tuple[int, Iterator[ReportSearch]]:
    """How many searches a document of schema qeeps.search/1, qeeps.searches/1 or qeeps.overview/1 has, and each.

    limit: how many matches to keep of each search, where there are that many searches. read_other: gives the bytes of
    a file that an overview names, relative to its own folder. Raises UsageError for what is no such document, also
    while the searches are iterated over.
    """
    count, documents = _documents(document, name, read_other)
    kept = limit(count)
    return count, (make_search(one, kept, where, id) for id, one, where in documents)


def make_search(document: Mapping[str, Any], limit: int, where: str = "the result", id: str = "") -> ReportSearch:
    """One search, from its document of schema qeeps.search/1. Raises UsageError where that holds something else."""
    _check_schema(document, (json_writer.SCHEMA,), where)
    query, weights = _get(document, "query", dict, where), _get(document, "weights", dict, where)
    parameters = _get(document, "parameters", dict, where)
    roots = parameters.get("gallery")
    roots = tuple(root for root in roots if isinstance(root, str)) if isinstance(roots, list) else ()
    matches = _read_matches(_get(document, "matches", list, where), where)
    person = _read_query(query, f"the query of {where}")
    made_by = {key: _get(weights, key, str, f"the weights of {where}") for key in ("name", "digest")}
    mode, best_score = _get(document, "mode", str, where), document.get("best_score")
    sightings, rules = _read_sightings(document, parameters, where) if "sightings" in document else (None, {})
    return ReportSearch(
        id=id,
        digest=_digest(person, made_by["digest"], mode, matches),
        query=person,
        weights=made_by,
        mode=mode_name(mode, parameters),
        roots=roots,
        root=roots[0] if len(roots) == 1 and "files_from" not in parameters and not is_pattern(roots[0]) else None,
        frames_searched=_get(document, "frames_searched", int, where),
        best_score=None if best_score is None else _number(_get(document, "best_score", (int, float), where), where),
        notes=tuple(str(note) for note in _get(document, "notes", list, where)),
        skipped=tuple(
            (_get(item, "image", str, f"skipped of {where}"), _get(item, "reason", str, f"skipped of {where}"))
            for item in _get(document, "skipped", list, where)
        ),
        total=len(matches),
        frames=sum(match.best for match in matches),
        matches=_first_matches(matches, limit, {sighting.best for sighting in sightings or ()}),
        sightings=sightings,
        rules=rules,
    )


def _documents(
    document: Mapping[str, Any], name: str, read_other: ReadOther
) -> tuple[int, Iterator[tuple[str, Mapping[str, Any], str]]]:
    """How many searches there are, and each as (id, document, name for messages), read when its turn comes."""
    expected = json_writer.SCHEMA, json_writer.SEARCHES_SCHEMA, json_writer.OVERVIEW_SCHEMA
    _check_schema(document, expected, name)
    if document["schema"] == json_writer.SCHEMA:
        return 1, iter([("", document, name)])
    entries = _get(document, "searches", list, name)
    ids = [_get(entry, "id", str, f"search {number} of {name}") for number, entry in enumerate(entries, start=1)]
    if document["schema"] == json_writer.SEARCHES_SCHEMA:
        places = (f"search {number} of {name}" for number in range(1, len(ids) + 1))
        return len(ids), zip(ids, entries, places, strict=True)
    paths = [_inner_path(entry, f"search {number} of {name}") for number, entry in enumerate(entries, start=1)]
    return len(ids), ((id, parse_results(read_other(path), path), path) for id, path in zip(ids, paths, strict=True))


def _inner_path(entry: Mapping[str, Any], where: str) -> str:
    """The results of one search of an overview. An overview names files in its own folder and nowhere else."""
    path = PurePosixPath(_get(entry, "results", str, where))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UsageError(f"{where} expects results inside its own folder, got {str(path)!r}.")
    return str(path)


def _read_query(query: Mapping[str, Any], where: str) -> dict[str, Any]:
    box = query.get("box")
    return {
        "image": _get(query, "image", str, where),
        "box": None if box is None else list(_box(box, where)),
        "digest": _get(query, "digest", str, where),
    }


def _digest(query: Mapping[str, Any], weights: str, mode: str, matches: list[ReportMatch]) -> str:
    """Hex blake2b-128; of what says who was found where, and not of notes or of files beside the results."""
    digest = hashlib.blake2b(json_writer.dump_line({"query": query, "weights": weights, "mode": mode}), digest_size=16)
    for match in matches:
        row = {"image": match.image, "box": match.box, "score": match.score, "person_score": match.person_score}
        digest.update(json_writer.dump_line({"rank": match.rank, **row}))
    return digest.hexdigest()


def _read_matches(entries: list, where: str) -> list[ReportMatch]:
    """All of them, in the order of ranks."""
    matches, seen, before = [], set(), 0
    for number, entry in enumerate(entries, start=1):
        place = f"match {number} of {where}"
        image, rank = _get(entry, "image", str, place), _get(entry, "rank", int, place)
        if rank <= before:
            raise UsageError(f"{place} expects a rank above {before}, got {rank}: the matches are not sorted by rank.")
        box = _box(entry.get("box"), place)
        scores = [_number(_get(entry, key, (int, float), place), place) for key in ("score", "person_score")]
        matches.append(ReportMatch(rank, image, box, *scores, best=image not in seen))
        seen.add(image)
        before = rank
    return matches


def _first_matches(matches: list[ReportMatch], limit: int, sighted: set[int]) -> tuple[ReportMatch, ...]:
    """At most `limit` of them, by rank: the best of each sighting first (their ranks are `sighted`), then that of each
    frame, for a person is in a frame once; then others."""
    kept = sorted(matches, key=lambda match: (match.rank not in sighted, not match.best, match.rank))[:limit]
    return tuple(sorted(kept, key=lambda match: match.rank))


def _read_sightings(
    document: Mapping[str, Any], parameters: Mapping[str, Any], where: str
) -> tuple[tuple[ReportSighting, ...], dict[str, float]]:
    """The sightings, and the rules that made them."""
    entries = enumerate(_get(document, "sightings", list, where), start=1)
    rules, place = _get(parameters, "sightings", dict, where), f"the sightings' parameters of {where}"
    return (
        tuple(_read_sighting(entry, f"sighting {number} of {where}") for number, entry in entries),
        {key: _number(_get(rules, key, (int, float), place), place) for key in ("gap", "score")},
    )


def _read_sighting(entry: Any, where: str) -> ReportSighting:
    clock, best = _get(entry, "clock", str, where), _get(entry, "best", dict, where)
    if clock not in CLOCKS:
        raise UsageError(f"{where} expects a clock of {', '.join(CLOCKS)}, got {clock!r}.")
    first, last = (_time(_get(entry, key, _TIMES[clock], where), where) for key in ("first", "last"))
    ranks = _get(entry, "ranks", list, where)
    if not all(isinstance(rank, int) for rank in ranks):
        raise UsageError(f"{where} expects the ranks of its matches under 'ranks'.")
    return ReportSighting(
        camera=_get(entry, "camera", str, where),
        clock=clock,
        first=first,
        last=last,
        frames=_get(entry, "frames", int, where),
        best=_get(best, "rank", int, where),
        score=_number(_get(best, "score", (int, float), where), where),
        ranks=tuple(ranks),
    )


def _time(value: str | float | int, where: str) -> datetime | float | int:
    if not isinstance(value, str):
        if not abs(_number(value, where)) <= _LATEST:
            raise UsageError(f"{where} expects seconds or numbers of frames up to {_LATEST:g}, got {value!r}.")
        return value
    try:
        date = datetime.fromisoformat(value)
        date.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{where} expects dates as ISO 8601, got {value!r}.") from None
    return date


def _check_schema(document: Any, expected: tuple[str, ...], where: str) -> None:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in expected:
        raise UsageError(
            f"{where} expects schema {' or '.join(expected)}, got {schema!r}. Give the results.json of `qeeps search`."
        )


def _get(document: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(_NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise UsageError(f"{where} expects {names} under {key!r}, got {_kind(value)}.")
    return value


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(side, int | float) for side in value):
        raise UsageError(f"{where} expects a box [x, y, w, h], got {value!r}.")
    x, y, w, h = (_number(side, where) for side in value)
    if w < 0 or h < 0:
        raise UsageError(f"{where} expects a box of positive width and height, got {value!r}.")
    return x, y, w, h


def _number(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"{where} holds a number that is too large.")
    return number


_TIMES: dict[str, type | tuple[type, ...]] = {"date": str, **dict.fromkeys(CLOCKS[1:], (int, float))}
_LATEST = 1e12  # thirty thousand years
_NAMES = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def _kind(value: Any) -> str:
    return "nothing" if value is None else "true or false" if isinstance(value, bool) else _NAMES[type(value)]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text}, which is no finite number")
    return number
