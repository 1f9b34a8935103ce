"""The contract of qeeps.search/1, checked key by key: what a program that reads results may rely on."""

import json
import math
import re
from datetime import datetime
from typing import Any

KEYS = ["schema", "query", "weights", "mode", "parameters", "frames_searched", "best_score"]
KEYS += ["notes", "skipped", "matches"]
SIGHTING_KEYS = ["camera", "clock", "first", "last", "seconds", "frames", "best", "ranks"]
MATCH_KEYS = ["rank", "image", "box", "score", "person_score"]
MOMENT_KEYS = ["video", "time", "frame"]  # of a match in a video, behind its image
MODES = ("exact", "cached", "cascade")


def parse(data: bytes) -> Any:
    """ASCII JSON without NaN, infinities and repeated keys. Raises ValueError for anything else."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict:
        if len(dict(pairs)) != len(pairs):
            raise ValueError(f"a key is there twice: {[key for key, _ in pairs]}")
        return dict(pairs)

    return json.loads(data.decode("ascii"), parse_constant=refuse, object_pairs_hook=unique)


def check_search(document: Any) -> dict:
    """The document, when it is a whole qeeps.search/1; an AssertionError that says where it is none."""
    asked = isinstance(document, dict) and "sightings" in document
    _keys(document, [*KEYS[:-1], "sightings", "matches"] if asked else KEYS, "the document")
    assert document["schema"] == "qeeps.search/1"
    _keys(document["query"], ["image", "box", "digest"], "query")
    assert _is_text(document["query"]["image"]), "query.image"
    assert document["query"]["box"] is None or _is_box(document["query"]["box"]), "query.box"
    assert _has_form(document["query"]["digest"], "[0-9a-f]{32}"), "query.digest"
    _keys(document["weights"], ["name", "digest"], "weights")
    assert _is_text(document["weights"]["name"]), "weights.name"
    assert _has_form(document["weights"]["digest"], "sha256:[0-9a-f]{64}"), "weights.digest"
    assert document["mode"] in MODES, "mode"
    assert isinstance(document["parameters"], dict) and list(document["parameters"]) == sorted(document["parameters"])
    assert _is_count(document["frames_searched"]), "frames_searched"
    assert document["best_score"] is None or _is_number(document["best_score"]), "best_score"
    assert isinstance(document["notes"], list) and all(map(_is_text, document["notes"])), "notes"
    _check_skipped(document["skipped"])
    _check_matches(document["matches"])
    if asked:
        _check_sightings(document)
    best = [match["score"] for match in document["matches"][:1]]
    assert not best or document["best_score"] == best[0], "best_score is that of the first match, where there is one"
    return document


def check_match(match: Any) -> dict:
    """One entry of `matches`, which is also a line of JSONL; in a folder with crops it names its own."""
    has = match.keys() if isinstance(match, dict) else ()
    moment, crop = MOMENT_KEYS if "video" in has else [], ["crop"] if "crop" in has else []
    _keys(match, [*MATCH_KEYS[:2], *moment, *MATCH_KEYS[2:], *crop], "a match")
    if moment:
        assert _is_text(match["video"]) and match["image"] == f"{match['video']}@{match['time']}", "video"
        assert _has_form(match["time"], r"\d\d+:\d\d:\d\d\.\d{3}") and _is_count(match["frame"]), "time, frame"
    assert _is_text(match.get("crop", "x")), "crop"
    assert _is_count(match["rank"]) and match["rank"] > 0, "rank"
    assert _is_text(match["image"]), "image"
    assert _is_box(match["box"]), "box"
    assert _is_number(match["score"]) and _is_number(match["person_score"]), "scores"
    return match


def _check_skipped(skipped: Any) -> None:
    assert isinstance(skipped, list), "skipped"
    for entry in skipped:
        _keys(entry, ["image", "reason"], "an entry of skipped")
        assert _is_text(entry["image"]) and _is_text(entry["reason"]) and "\n" not in entry["reason"], "skipped"
    order = [(entry["image"], entry["reason"]) for entry in skipped]
    assert order == sorted(order), "the order of skipped"


def _check_matches(matches: Any) -> None:
    assert isinstance(matches, list), "matches"
    for number, match in enumerate(matches, start=1):
        check_match(match)
        assert match["rank"] == number, "ranks count from 1 without gaps"
    scores = [match["score"] for match in matches]
    assert scores == sorted(scores, reverse=True), "matches come by descending score"


def _check_sightings(document: dict) -> None:
    rules = document["parameters"]["sightings"]
    _keys(rules, ["gap", "score", "time_pattern"], "parameters.sightings")
    matches = {match["rank"]: match for match in document["matches"]}
    used: list[int] = []
    for sighting in document["sightings"]:
        check_sighting(sighting)
        best = sighting["best"]
        assert best == {key: matches[best["rank"]][key] for key in best}, "best is one of the matches"
        assert all(matches[rank]["score"] >= rules["score"] for rank in sighting["ranks"]), "matches that count"
        used += sighting["ranks"]
    assert len(set(used)) == len(used), "no match is in two sightings"
    assert len({matches[rank]["image"] for rank in used}) == len(used), "a person is in a frame once"


def check_sighting(sighting: Any) -> dict:
    """One entry of `sightings`, which is also a line of JSONL."""
    _keys(sighting, SIGHTING_KEYS, "a sighting")
    assert _is_text(sighting["camera"]), "camera"
    first, last, seconds = sighting["first"], sighting["last"], sighting["seconds"]
    if sighting["clock"] == "date":
        first, last = map(datetime.fromisoformat, (first, last))
        assert seconds == (last - first).total_seconds() >= 0, "seconds"
    elif sighting["clock"] == "start":
        assert math.isclose(seconds, last - first, abs_tol=1e-5) and 0 <= first <= last, "seconds"
    else:
        assert sighting["clock"] in ("number", "order") and seconds is None, "clock"
        assert _is_count(first) and _is_count(last) and first <= last, "first and last"
    _keys(sighting["best"], ["rank", "image", "box", "score"], "best")
    assert sighting["frames"] == len(sighting["ranks"]) > 0, "frames"
    assert sighting["best"]["rank"] == min(sighting["ranks"]), "best"
    return sighting


def _keys(value: Any, expected: list[str], where: str) -> None:
    assert isinstance(value, dict) and list(value) == expected, f"{where}: expected the keys {expected}, got {value!r}"


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _has_form(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
