"""Several queries: from options, and from lists of JSON lines."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qeeps_cli.errors import UsageError
from qeeps_cli.searching.queries import MOST_PICTURES, parse_requests, read_requests, requests_of_options

HERE = Path("lists")


def parse(text: str | bytes) -> list:
    return parse_requests(text.encode() if isinstance(text, str) else text, "list.jsonl", HERE)


@pytest.mark.parametrize("text", ["", "\n\n  \n", b"\xef\xbb\xbf\n"])
def test_a_list_without_queries_is_an_error(text):
    with pytest.raises(UsageError, match=r'list.jsonl holds no query. Expected lines such as \{"image": "q.jpg"'):
        parse(text)


def test_a_list():
    first, second, third = parse(
        b'\xef\xbb\xbf{"image": "a.jpg", "box": [1, 2.5, 10, 20], "id": "red coat"}\r\n'
        b"\n"
        b'{"image": "/far/b.jpg", "box": null, "person": 3, "id": 7}\n'
        b'{"image": "c.jpg"}'
    )
    assert (first.image, first.box, first.id) == (HERE / "a.jpg", (1, 2.5, 11, 22.5), "red coat")
    assert (second.image, second.person, second.id) == (Path("/far/b.jpg"), 3, "7")
    assert (third.image, third.box, third.person, third.id) == (HERE / "c.jpg", None, None, "3")
    assert third.source == "list.jsonl, line 4"


def test_names_that_are_not_utf_8():
    raw, escaped = parse(b'{"image": "caf\xe9.jpg"}\n{"image": "caf\\udce9.jpg"}')
    assert os.fsencode(raw.image.name) == os.fsencode(escaped.image.name) == b"caf\xe9.jpg"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x", r'such as {"image": "q.jpg", "box": [10, 20, 60, 150]}, got something that is no JSON'),
        ("[" * 100_000, "no JSON"),
        ("[]", 'expected a JSON object with the key "image", got []'),
        ("{}", '"image" expects the path of a picture, got null'),
        ('{"image": ""}', '"image" expects'),
        ('{"image": 3}', '"image" expects'),
        ('{"image": "a.jpg", "bbox": [1, 2, 3, 4]}', "unknown key 'bbox'; known are image, box, person, id"),
        ('{"image": "a.jpg", "box": []}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1, 2, 3]}', '"box" expects'),
        ('{"image": "a.jpg", "box": "1,2,3,4"}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1, 2, 3, "4"]}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1, 2, 3, true]}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1, 2, 0, 4]}', '"box" expects'),
        ('{"image": "a.jpg", "box": [NaN, 2, 3, 4]}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1e999, 2, 3, 4]}', '"box" expects'),
        ('{"image": "a.jpg", "box": [1%s, 2, 3, 4]}' % ("0" * 400), '"box" expects'),
        ('{"image": "a.jpg", "person": 0}', '"person" expects'),
        ('{"image": "a.jpg", "person": true}', '"person" expects'),
        ('{"image": "a.jpg", "person": 1.5}', '"person" expects'),
        ('{"image": "a.jpg", "person": 1, "box": [1, 2, 3, 4]}', "either a box or a person's number"),
        ('{"image": "a.jpg", "id": ""}', '"id" expects'),
        ('{"image": "a.jpg", "id": [1]}', '"id" expects'),
        ('{"image": "a.jpg", "id": "\\ud800"}', '"id" expects a text of whole characters'),
        ('{"image": "a.jpg", "id": "first"}', "the id 'first' is already that of line 1"),
    ],
)
def test_a_mistake_names_its_line(line, told):
    with pytest.raises(UsageError) as caught:
        parse('{"image": "a.jpg", "id": "first"}\n\n' + line + "\n")
    assert str(caught.value).startswith("list.jsonl, line 3: ") and told in str(caught.value)
    assert len(str(caught.value)) < 400


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["image", "box", "id", "person"]), inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_query_or_a_usage_error(line):
    try:
        (request, *_) = parse(line)
        assert request.image.parts and request.id
    except UsageError as error:
        assert "list.jsonl" in str(error)


def test_options_in_matching_order():
    images = [Path("a.jpg"), Path("b.jpg")]
    assert requests_of_options(images[:1])[0].box is None
    boxed = requests_of_options(images, ["1,2,3,4", "5,6,7,8"])
    assert [request.box for request in boxed] == [(1, 2, 4, 6), (5, 6, 12, 14)]
    assert [request.id for request in boxed] == ["1", "2"]
    assert [request.person for request in requests_of_options(images, [], [2, 1])] == [2, 1]
    with pytest.raises(UsageError, match="--box expects one value for each --query, got 1 for 2"):
        requests_of_options(images, ["1,2,3,4"])
    with pytest.raises(UsageError, match="--person expects one value for each --query, got 2 for 1"):
        requests_of_options(images[:1], [], [1, 2])
    with pytest.raises(UsageError, match="either --box or --person"):
        requests_of_options(images[:1], ["1,2,3,4"], [1])


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "q.png")
    return tmp_path / "q.png"


def line(**entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def test_pictures_are_read_and_mistakes_in_them_name_the_line(picture):
    good, bad = line(image="q.png", box=[70, 10, 30, 20]), line(image="q.png", box=[500, 10, 30, 20])
    (read,) = read_requests(parse_requests(good, "list", picture.parent))
    assert read.query.box == (70, 10, 80, 30) and "was cut" in read.notes[0] and read.pixels().shape == (60, 80, 3)
    with pytest.raises(UsageError, match="list, line 2: .* 80 pixels wide"):
        read_requests(parse_requests(good + bad, "list", picture.parent))
    with pytest.raises(UsageError, match="list, line 1: .*absent.jpg"):
        read_requests(parse_requests(line(image="absent.jpg"), "list", picture.parent))


def test_many_pictures_are_not_all_held(picture):
    requests = parse_requests(line(image="q.png") * (MOST_PICTURES + 1), "list", picture.parent)
    pictures = read_requests(requests)
    assert all(one.rgb is None for one in pictures) and pictures[0].pixels().shape == (60, 80, 3)
    assert all(one.rgb is not None for one in read_requests(requests[:-1]))
    Image.new("RGB", (80, 60), "red").save(picture)
    with pytest.raises(UsageError, match="was replaced"):
        pictures[0].pixels()
