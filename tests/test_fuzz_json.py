"""The JSON contract under fuzz: whatever a search finds is a whole qeeps.search/1, and names come back as they were."""

import copy
import csv
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from json_contract import check_match, check_search, parse

from qeeps_cli.output.writers import encode_result
from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult, Skipped

WEIGHTS = {"name": "tiny", "digest": f"sha256:{'0f' * 32}"}

names = st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
texts = st.text(st.characters(exclude_categories=["Cc"]), min_size=1, max_size=30)
coordinates = st.floats(-10, 5000, width=32)
sides = st.floats(0, 5000, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | numbers | texts
found = st.tuples(names, boxes, st.floats(-1, 1, width=32), st.floats(0, 1, width=32))


@st.composite
def search_results(draw) -> SearchResult:
    """Anything that a search may give: matches by descending score, with ranks from 1."""
    ranked = sorted(draw(st.lists(found, max_size=6)), key=lambda match: -match[2])
    matches = [
        Match(rank, GalleryFrame(Path(name), name), box, score, person_score)
        for rank, (name, box, score, person_score) in enumerate(ranked, start=1)
    ]
    return SearchResult(
        Query(Path(draw(names)), draw(st.none() | boxes), digest="0f" * 16),
        matches,
        draw(st.lists(st.builds(Skipped, names, texts), max_size=4)),
        draw(st.integers(0, 10**6)),
        draw(st.dictionaries(texts, values, max_size=5)),
        draw(st.lists(texts, max_size=3)),
        matches[0].score if matches else draw(st.none() | st.floats(-1, 1, width=32)),
    )


def encode(result: SearchResult, format: str = "json") -> bytes:
    return encode_result(format, result, WEIGHTS, "exact")


@settings(deadline=None, max_examples=150)
@given(search_results())
def test_any_result_is_a_whole_document_and_loses_no_name(result):
    data = encode(result)
    document = check_search(parse(data))
    assert [os.fsencode(m["image"]) for m in document["matches"]] == [os.fsencode(m.frame.name) for m in result.matches]
    assert sorted(item["image"] for item in document["skipped"]) == sorted(item.name for item in result.skipped)
    assert os.fsencode(document["query"]["image"]) == os.fsencode(result.query.image)
    assert document["parameters"] == result.parameters and document["notes"] == result.notes
    assert data == encode(result) and b"\x1b" not in data and max(data) < 128


@settings(deadline=None, max_examples=60)
@given(search_results())
def test_the_other_formats_tell_the_same(result):
    matches = parse(encode(result))["matches"]
    lines = encode(result, "jsonl").splitlines()
    assert [check_match(parse(line)) for line in lines] == matches
    table = csv.DictReader(io.StringIO(encode(result, "csv").decode("utf-8", "surrogateescape"), newline=""))
    rows = [[os.path.normpath(row["image"]), float(row["score"]), float(row["x"]), float(row["h"])] for row in table]
    assert rows == [[os.path.normpath(m["image"]), m["score"], m["box"][0], m["box"][3]] for m in matches]


# The validator itself: what it would not notice, no test above would.


def whole() -> dict:
    matches = [Match(i, GalleryFrame(Path("a"), "a"), (1, 2, 3, 4), 1 / i, 0.5) for i in (1, 2)]
    query = Query(Path("q.jpg"), (1, 2, 3, 4), "0f" * 16)
    skipped = [Skipped("b", "cut short"), Skipped("c", "empty")]
    return parse(encode(SearchResult(query, matches, skipped, 3, {"nms": 0.4, "batch": 1}, ["a note"], 1.0)))


def paths(value, path=()) -> list[tuple]:
    """The way to every value of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in inner for found in paths(child, (*path, key)))]


FREE = {("parameters", "nms"), ("parameters", "batch")}  # parameters may have any value


@pytest.mark.parametrize("path", [path for path in paths(whole()) if path and path not in FREE], ids=str)
def test_no_value_may_be_missing_or_of_another_type(path):
    check_search(whole())
    for change in (lambda holder, key: holder.pop(key), lambda holder, key: holder.__setitem__(key, object())):
        document = copy.deepcopy(whole())
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        change(holder, path[-1])
        if path[0] in ("notes", "skipped") and len(path) == 2 and len(holder) < len(whole()[path[0]]):
            continue  # a shorter list is a list
        if path == ("matches", 1) and len(document["matches"]) == 1:
            continue
        with pytest.raises(AssertionError):
            check_search(document)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d.update(schema="qeeps.search/2"),
        lambda d: d.update(mode="fast"),
        lambda d: d.update(frames_searched=-1),
        lambda d: d.update(best_score=0.25),
        lambda d: d["matches"][0].update(crop=""),
        lambda d: d["query"].update(digest="xyz"),
        lambda d: d["query"].update(box=[1, 2, 3]),
        lambda d: d["weights"].update(digest="0f" * 32),
        lambda d: d["matches"][0].update(box=[1, 2, -3, 4]),
        lambda d: d["matches"][0].update(score=float("nan")),
        lambda d: d["matches"][0].update(score=True),
        lambda d: d["matches"][1].update(rank=3),
        lambda d: d["matches"].reverse(),
        lambda d: d["skipped"].reverse(),
        lambda d: d["skipped"][0].update(reason="two\nlines"),
        lambda d: d.update(parameters={"nms": 1, "batch": 2}),
    ],
)
def test_the_validator_notices(change):
    document = whole()
    change(document)
    with pytest.raises(AssertionError):
        check_search(document)


@pytest.mark.parametrize("data", [b"", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1, "a": 2}', '{"a": "é"}'.encode()])
def test_what_is_no_plain_json_is_not_parsed(data):
    with pytest.raises(ValueError):
        parse(data)
    with pytest.raises((ValueError, AssertionError)):
        check_search(json.loads(data or b"null"))
