"""What users type and write: boxes, and lists of queries, under fuzz (docs/reliability.md, row 31)."""

import json
import math
import os
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from qeeps_cli.boxes import fit_box, parse_box
from qeeps_cli.errors import UsageError
from qeeps_cli.searching.queries import KEYS, parse_requests

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers()
number_texts = st.builds(str, numbers) | st.text("0123456789.eE+-_ nainf", max_size=8)
near_boxes = st.lists(number_texts, max_size=6).map(",".join) | st.text("0123456789,.- \n\u0660\uff11", max_size=20)


def reads_as_box(text: str) -> bool:
    """Four finite numbers, the last two positive: said without the parser."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return False
    return len(values) == 4 and all(map(math.isfinite, values)) and values[2] > 0 and values[3] > 0


@settings(deadline=None, max_examples=400)
@given(near_boxes | st.text(max_size=30))
@example("1,2,3,4")
@example("1_0,2,3,4")
@example("1e308,0,1e308,1")
@example("0,0,5e-324,1")
@example("9007199254740993,0,1,1")
def test_a_text_is_a_box_or_a_usage_error_that_shows_it(text):
    try:
        x1, y1, x2, y2 = parse_box(text)
    except UsageError as error:
        assert not reads_as_box(text)
        assert "--box expects" in str(error) and repr(text) in str(error)
        return
    assert reads_as_box(text)
    x, y, w, h = map(float, text.split(","))
    assert (x1, y1, x2, y2) == (x, y, x + w, y + h)


@settings(deadline=None, max_examples=300)
@given(near_boxes, st.integers(1, 10_000), st.integers(1, 10_000))
@example("1e308,0,1e308,1", 10, 10)
@example("-1e308,-1e308,1.7e308,1.7e308", 10, 10)
@example("9007199254740993,0,1,1", 10, 10)
def test_a_box_from_outside_lies_in_the_picture_or_is_refused_with_its_size(text, height, width):
    try:
        box = parse_box(text)
    except UsageError:
        return
    try:
        (x1, y1, x2, y2), note = fit_box(box, height, width)
    except UsageError as error:
        assert f"{width} pixels wide and {height} high" in str(error)
        return
    assert 0 <= x1 and x1 + 1 <= x2 <= width and 0 <= y1 and y1 + 1 <= y2 <= height
    assert (note is None) == ((x1, y1, x2, y2) == box)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "image": st.text(min_size=1, max_size=8) | json_values,
        "box": st.lists(numbers, min_size=4, max_size=4) | json_values,
        "person": st.integers(1, 9) | json_values,
        "id": st.text(min_size=1, max_size=4) | st.integers() | json_values,
    },
)
lines = st.one_of(
    entries.map(lambda entry: json.dumps(entry).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.sampled_from([b"", b"  ", b"{", b'{"image": "a.jpg"}', b'{"image": "caf\xe9.jpg"}', b"[" * 2000, b"\xff\xfe"]),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(lines, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([b"", b"\xef\xbb\xbf"]))
@example([b'{"image": "\\u0000"}'], b"\n", b"")
@example([b'{"image": "a", "id": %s}' % (b"9" * 5000)], b"\n", b"")
@example([b'{"image": "a", "person": %s}' % (b"9" * 5000)], b"\n", b"")
@example([b'{"image": "a", "id": 1}', b'{"image": "a", "id": "1"}'], b"\n", b"")
def test_a_list_is_queries_or_a_usage_error_that_names_it(parts, newline, mark):
    data = mark + newline.join(parts)
    try:
        requests = parse_requests(data, "list.jsonl", Path("folder"))
    except UsageError as error:
        assert str(error).startswith("list.jsonl") and len(str(error)) < 1000
        return
    assert requests and len({request.id for request in requests}) == len(requests)
    for request in requests:
        assert os.fspath(request.image) and request.id and request.source.startswith("list.jsonl, line ")
        assert request.box is None or all(math.isfinite(value) for value in request.box[:2])
        assert request.box is None or request.person is None
        assert request.person is None or request.person >= 1


file_names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=9)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"image": file_names},
            optional={"box": st.tuples(*[st.floats(0, 1000)] * 2, *[st.floats(1, 1000)] * 2).map(list)},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_list_that_is_right_is_read_as_it_was_written(written):
    data = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in written).encode()
    requests = parse_requests(data, "list.jsonl", Path("folder"))
    assert [request.image for request in requests] == [Path("folder") / entry["image"] for entry in written]
    for request, entry in zip(requests, written, strict=True):
        x, y, w, h = entry.get("box", (0, 0, 0, 0))
        assert request.box == ((x, y, x + w, y + h) if "box" in entry else None)
    assert set(written[0]) <= set(KEYS)
