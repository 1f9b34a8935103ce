"""The JSON of a search: schema `qeeps.search/1`.

The bytes are ASCII and depend on nothing but the result: keys stand in a fixed order, one match a line, box values are
rounded to 0.01 pixel and scores to 6 decimals. Boxes are `[x, y, w, h]` in pixels of the upright image.

File names are lossless, also those that are not valid UTF-8. Python holds such a byte, say 0xE9, as the lone surrogate
U+DCE9 (PEP 383, `surrogateescape`), and JSON writes that as the escape `\\udce9`. `os.fsencode(json.loads(text)[...])`
gives the original bytes back.
"""

import json
import math
import os
from collections.abc import Mapping
from datetime import datetime

from qeeps_cli.errors import NotANumberError
from qeeps_cli.types import Box, GalleryFrame, Match, Query, SearchResult, Sighting

SCHEMA = "qeeps.search/1"
SEARCHES_SCHEMA = "qeeps.searches/1"  # several searches as one document
OVERVIEW_SCHEMA = "qeeps.overview/1"  # several searches, each in a folder of its own
BOX_DECIMALS = 2
SCORE_DECIMALS = 6
SECOND_DECIMALS = 6


def search_document(result: SearchResult, weights: Mapping[str, str], mode: str) -> dict:
    """The result as JSON types, in the order in which it is written.

    weights: name and digest of the checkpoint. mode: "exact", "cached" or "cascade".
    Raises NotANumberError when a score or a box is not finite.
    """
    return {
        "schema": SCHEMA,
        "query": query_document(result.query),
        "weights": {"name": weights["name"], "digest": weights["digest"]},
        "mode": mode,
        "parameters": {key: result.parameters[key] for key in sorted(result.parameters)},
        "frames_searched": result.frames_searched,
        "best_score": best_score(result),
        "notes": list(result.notes),
        "skipped": [
            {"image": skipped.name, "reason": skipped.reason}
            for skipped in sorted(result.skipped, key=lambda skipped: (skipped.name, skipped.reason))
        ],
        **({} if result.sightings is None else {"sightings": [sighting_document(one) for one in result.sightings]}),
        "matches": [match_document(match) for match in result.matches],
    }


def query_document(query: Query) -> dict:
    """The query as JSON types."""
    return {
        "image": os.fspath(query.image),
        "box": None if query.box is None else border_box(query.box, "the query"),
        "digest": query.digest,
    }


def match_document(match: Match) -> dict:
    """One match as JSON types; without `rank` where it has none. Raises NotANumberError when a score or the box is not
    finite."""
    where = f"match {match.rank} in {match.frame.name}" if match.rank else f"a match in {match.frame.name}"
    return {
        **({"rank": int(match.rank)} if match.rank else {}),
        "image": match.frame.name,
        **moment_document(match.frame),
        "box": border_box(match.box, where),
        "score": border_score(match.score, where),
        "person_score": border_score(match.person_score, where),
    }


def moment_document(frame: GalleryFrame) -> dict:
    """Of a video's frame the video, the time since its first frame, and the number of the frame, from 0; of a picture
    nothing."""
    if frame.moment is None:
        return {}
    return {"video": frame.file_name, "time": frame.moment.clock, "frame": frame.moment.number}


def sighting_document(sighting: Sighting) -> dict:
    """One sighting as JSON types; dates are ISO 8601. ranks: of its matches, by time. Raises NotANumberError."""
    best = match_document(sighting.best)
    where = f"a sighting by {sighting.camera}"
    return {
        "camera": sighting.camera,
        "clock": sighting.clock,
        "first": _border_time(sighting.first, where),
        "last": _border_time(sighting.last, where),
        "seconds": None if sighting.seconds is None else _border_time(float(sighting.seconds), where),
        "frames": len(sighting.matches),
        "best": {key: best[key] for key in ("rank", "image", "box", "score")},
        "ranks": [match.rank for match in sighting.matches],
    }


def best_score(result: SearchResult) -> float | None:
    """The score of the best candidate, rounded for the border. Raises NotANumberError."""
    return None if result.best_score is None else border_score(result.best_score, "the best candidate")


def border_box(box: Box, where: str) -> list[float]:
    """xyxy to [x, y, w, h], rounded for the border. where: names the box in the NotANumberError."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return [_finite(value, BOX_DECIMALS, f"the box of {where}") for value in (x1, y1, x2 - x1, y2 - y1)]


def border_score(score: float, where: str) -> float:
    """A score, rounded for the border. where: names it in the NotANumberError."""
    return _finite(score, SCORE_DECIMALS, f"a score of {where}")


def _border_time(time: datetime | float | int, where: str) -> str | float | int:
    if isinstance(time, datetime):
        return time.isoformat()
    return time if isinstance(time, int) else _finite(time, SECOND_DECIMALS, f"a time of {where}")


def dump(document: Mapping) -> bytes:
    """A document as indented ASCII JSON: each entry of a list of objects (a match, a person) on a line of its own.

    Raises NotANumberError for NaN or infinity, which JSON does not have.
    """
    fields = ",\n".join(f"  {json.dumps(key)}: {_field(key, value)}" for key, value in document.items())
    return f"{{\n{fields}\n}}\n".encode("ascii")


def dump_line(document: Mapping) -> bytes:
    """A document as one line of ASCII JSON, with its newline. Raises NotANumberError as `dump` does."""
    return (_json(document, "a line of the output") + "\n").encode("ascii")


def _field(key: str, value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {_json(entry, key)}" for entry in value) + "\n  ]"
    return _json(value, key)


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False)
    except ValueError:
        raise NotANumberError(f"{where} holds a number that is not finite: {value!r}. It was not written.") from None


def _finite(value: float, decimals: int, where: str) -> float:
    value = float(value)
    if not math.isfinite(value):
        raise NotANumberError(
            f"{where} is {value}, expected a finite number: the weights or the device gave a wrong result. "
            "It was not written; try --device cpu, and `qeeps weights verify`."
        )
    return round(value, decimals) + 0.0  # + 0.0: no "-0.0"
