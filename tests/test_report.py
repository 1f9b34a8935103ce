"""`report.html`: what is in the page, what it leaves out and says so, and what it never lets through."""

import base64
import copy
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_samples import BYTES, NAMES, SCRIPT, WEIGHTS, make_gallery, make_result

from qeeps_cli.errors import UsageError
from qeeps_cli.output.folder import _summary, write_folder
from qeeps_cli.output.json_writer import dump, search_document
from qeeps_cli.output.report import Report, matches_of_each, report_of_results
from qeeps_cli.output.searches import SearchesFolder, encode_search, join_searches

pytest_plugins = ["preloaded", "report_fixtures"]


def no_other(name: str) -> bytes:
    raise AssertionError(f"{name} is not asked for")


def report(document: dict | bytes, **options) -> Report:
    data = document if isinstance(document, bytes) else dump(document)
    return report_of_results(data, "results.json", no_other, **options)


class Page(HTMLParser):
    """Elements as (tag, attributes), the text outside script and style, and the page's own data."""

    def __init__(self, html: bytes):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text, self.scripts = "", []
        self._inside = ""
        self.feed(html.decode("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        if not self._inside:
            self.text += data
        elif self._inside == "script":
            self.scripts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict]:
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    @property
    def cards(self) -> list[dict]:
        return self.all("li", **{"class": "card"})

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def test_a_search_without_matches(folder):
    nobody = replace(make_result(folder, [], 1), parameters={"gallery": [], "min_score": 0.5})
    page = Page(report(search_document(nobody, WEIGHTS, "exact")).html)
    assert page.cards == []
    assert "Not found in 5 frames; the best candidate scored 0.120" in page.text


@pytest.mark.parametrize(("expand", "mode"), [(True, "cached, expanded"), (False, "cached")])
def test_an_expanded_search_says_so(folder, expand, mode):
    found = make_result(folder)
    found = replace(found, parameters=found.parameters | {"expand": expand})
    page = Page(report(search_document(found, WEIGHTS, "cached")).html)
    assert f"mode {mode} · weights" in page.text
    assert f"mode {mode}" in _summary(found, WEIGHTS, "cached", 3)


def test_the_query_and_ranked_matches(document):
    made = report(document)
    assert made.missing == {} and (made.searches, made.matches) == (1, 10)
    page = Page(made.html)
    assert [card["id"] for card in page.cards] == [f"m1-{rank}" for rank in range(1, 11)]
    pictures = page.all("img")
    assert len(pictures) == 11 and all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    for text in ("0.910", "person 0.90", "1.jpg", "5, 5, 25, 50", "tiny", "A score does not prove who somebody is."):
        assert text in page.text
    (search,) = page.data["searches"]
    assert search["query"] == document["query"] and search["weights"] == WEIGHTS
    kept = ("rank", "image", "box", "score", "person_score")
    assert [{key: match[key] for key in kept} for match in search["matches"]] == document["matches"]
    assert [match["best"] for match in search["matches"]] == [True] * 5 + [False] * 5


def test_crops_show_what_is_in_the_box(folder, document):
    """The middle of each crop has the colour of the person in its frame."""
    page = Page(report(document).html)
    for match, picture in zip(document["matches"][:5], page.all("img")[1:6], strict=True):
        with Image.open(folder / "gallery" / match["image"]) as frame:
            expected = frame.convert("RGB").getpixel((60, 60))
        data = base64.b64decode(picture["src"].split(",")[1])
        path = folder / "crop.jpg"
        path.write_bytes(data)
        with Image.open(path) as crop:
            assert crop.size == (200, 300)
            assert max(abs(a - b) for a, b in zip(crop.getpixel((100, 150)), expected, strict=True)) < 12


def test_names_are_escaped_and_keep_their_bytes(document):
    html = report(document).html
    page = Page(html)
    assert len(page.scripts) == 2 and page.all("b") == [] and page.all("i") == []
    assert b"<script>alert" not in html
    assert f"broken{SCRIPT}" in page.text and "script>" in page.text and "a note <i>" in page.text
    assert "caf\\xe9\\n\"'&.jpg" in page.text
    assert {match["image"] for match in page.data["searches"][0]["matches"]} == set(NAMES)
    assert BYTES in NAMES and "\udce9" in BYTES


def test_the_page_needs_and_allows_nothing_from_outside(document):
    html = report(document).html.decode("utf-8")
    page = Page(html.encode("utf-8"))
    assert page.all("link") == [] and page.all("iframe") == []
    assert not [value for _, attributes in page.elements for key, value in attributes.items() if key.startswith("on")]
    places = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href")]
    assert places and all(place.startswith(("data:", "#")) for place in places)
    (policy,) = (found["content"] for found in page.all("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for name, tag in (("style-src", "<style>(.*?)</style>"), ("script-src", "<script>(.*?)</script>")):
        (inside,) = re.findall(tag, html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode("utf-8")).digest()).decode("ascii")
        assert f"{name} 'sha256-{digest}'" in policy


def test_missing_and_changed_pictures_leave_a_placeholder_with_the_reason(tmp_path):
    gallery = make_gallery(tmp_path)
    document = search_document(make_result(tmp_path), WEIGHTS, "exact")
    (gallery / NAMES[0]).unlink()
    (gallery / NAMES[1]).write_bytes(b"no picture")
    Image.new("RGB", (50, 50)).save(gallery / SCRIPT, "JPEG")
    Image.new("RGB", (80, 60), "red").save(tmp_path / "q.png")
    made = report(document)
    assert set(made.missing) == {tmp_path / "q.png", *(gallery / name for name in NAMES[:3])}
    text = Page(made.html).text
    for reason in ("No such file", "expected a JPEG", "the box lies outside the file, which has 50x50", "was replaced"):
        assert reason in text
    assert "4 pictures could not be shown" in text
    assert len(Page(made.html).all("img")) == 4


def test_frames_that_moved_are_found(tmp_path):
    make_gallery(tmp_path)
    result = make_result(tmp_path)
    one = search_document(result, WEIGHTS, "exact")
    paths = [replace(match, frame=replace(match.frame, name=str(match.frame.path))) for match in result.matches]
    roots = {"gallery": [str(tmp_path / "gallery" / name) for name in ("a", "b", SCRIPT, BYTES, "plain.png")]}
    several = search_document(replace(result, matches=paths, parameters=roots), WEIGHTS, "exact")
    expected = [found["src"] for found in Page(report(one).html).all("img")]
    (tmp_path / "gallery").rename(tmp_path / "moved")
    (tmp_path / "q.png").rename(tmp_path / "moved" / "q.png")
    for document in (one, several):
        assert len(report(document).missing) == 6
        made = report(document, images=tmp_path / "moved")
        assert made.missing == {} and [found["src"] for found in Page(made.html).all("img")] == expected


def test_the_page_is_bounded_and_says_so(document):
    page = Page(report(document, matches=6, whole_frames=2).html)
    assert [card["id"] for card in page.cards] == [f"m1-{rank}" for rank in range(1, 7)]
    assert "this page holds 6 of 10 matches: the best of each frame first" in page.text
    assert "Of 6 frames, it holds 2 whole" in page.text
    assert len(page.data["frames"]) == 2
    assert [match["large"] for match in page.data["searches"][0]["matches"]] == [1, None, None, None, None, 1]
    assert "To stay small" not in Page(report(document).html).text


@pytest.mark.parametrize(("searches", "each"), [(0, 200), (1, 200), (3, 200), (4, 150), (600, 1), (10_000, 1)])
def test_many_searches_have_fewer_matches_each(searches, each):
    assert matches_of_each(searches) == each


def test_the_same_results_give_the_same_bytes(document):
    assert report(document).html == report(document).html


def test_the_digest_is_of_what_was_found(document):
    def digest(changed: dict) -> str:
        return Page(report(changed).html).data["searches"][0]["result"]

    same = {**document, "notes": [], "matches": [{**match, "crop": "x.jpg"} for match in document["matches"]]}
    other = copy.deepcopy(document)
    other["matches"][9]["score"] += 0.0001
    assert digest(same) == digest(document) != digest(other)
    assert digest({**document, "weights": {"name": "tiny", "digest": "sha256:ff"}}) != digest(document)


def test_a_search_into_a_folder_writes_the_same_page(tmp_path, folder, document):
    written = write_folder(tmp_path / "out", make_result(folder), WEIGHTS, "exact", crops=True)
    assert written.report == tmp_path / "out" / "report.html"
    assert written.report.read_bytes() == report((tmp_path / "out" / "results.json").read_bytes()).html


def test_several_searches_are_one_page(tmp_path, folder):
    results = {
        "red <b>coat": make_result(folder),
        "2": make_result(folder, [0.5], 1),
        "nobody": make_result(folder, []),
    }
    searches = SearchesFolder(tmp_path / "out", list(results))
    for result in results.values():
        searches.write(result, WEIGHTS, "exact")
    overview = searches.finish(WEIGHTS, "exact")
    html = (tmp_path / "out" / "report.html").read_bytes()
    page = Page(html)
    assert [search["id"] for search in page.data["searches"]] == list(results)
    assert [link["href"] for link in page.all("a")] == ["#matches", "#s1", "#s2", "#s3"]
    assert [card["id"][:2] for card in page.cards] == ["m1"] * 10 + ["m2"]
    assert page.all("b") == [] and len(page.data["frames"]) == 6
    assert not (tmp_path / "out" / "2" / "report.html").exists()

    again = report_of_results(overview.read_bytes(), "results.json", lambda name: (overview.parent / name).read_bytes())
    assert again.html == html
    joined = join_searches(encode_search(id, result, WEIGHTS, "exact") for id, result in results.items())
    assert report(joined).html == html


def changed(document: dict, **fields) -> dict:
    return {**document, **fields}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda document: b"", "is not the JSON of a search"),
        (lambda document: b"[]", "expects a JSON object, got a list"),
        (lambda document: b"{}", "expects schema qeeps.search/1 or qeeps.searches/1 or qeeps.overview/1, got None"),
        (lambda document: b'{"rank": 1}\n{"rank": 2}\n', "is not the JSON of a search"),
        (lambda document: b"\xff\xfe", "is not the JSON of a search"),
        (lambda document: b'{"schema": NaN}', "no finite number"),
        (lambda document: b'{"schema": 1e999}', "no finite number"),
        (lambda document: b"[" * 100_000, "is not the JSON of a search"),
        (lambda document: changed(document, schema="qeeps.search/2"), "got 'qeeps.search/2'"),
        (lambda document: changed(document, query=None), "expects an object under 'query', got nothing"),
        (lambda document: changed(document, matches={}), "expects a list under 'matches', got an object"),
        (lambda document: changed(document, matches=[1]), "match 1 of results.json"),
        (lambda document: changed(document, matches=document["matches"][::-1]), "not sorted by rank"),
        (lambda document: changed(document, frames_searched=True), "expects a whole number"),
        (lambda document: changed(document, query={**document["query"], "box": [1, 2, 3]}), "expects a box"),
        (lambda document: changed(document, query={**document["query"], "box": [1, 2, -3, 4]}), "positive width"),
        (lambda document: changed(document, schema="qeeps.searches/1", searches=[{}]), "under 'id', got nothing"),
        (
            lambda document: {"schema": "qeeps.overview/1", "searches": [{"id": "a", "results": "../results.json"}]},
            "expects results inside its own folder",
        ),
        (
            lambda document: {"schema": "qeeps.overview/1", "searches": [{"id": "a", "results": "/results.json"}]},
            "expects results inside its own folder",
        ),
    ],
)
def test_what_is_no_result_is_refused(document, make, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        report(make(document))


def nodes(document, path=()):
    """The paths of all values in a document."""
    yield path
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from nodes(document[key], (*path, key))


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["", "\0", "\udce9", ".."]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_the_results_gives_a_page_or_a_clear_error(document, data):
    small = {**document, "matches": document["matches"][:2]}
    path = data.draw(st.sampled_from([path for path in nodes(small) if path]))
    broken = copy.deepcopy(small)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(ANY_JSON)
    try:
        Page(report(json.dumps(broken).encode("ascii")).html)
    except UsageError:
        pass


# The command


def test_the_command(tmp_path, folder, document, preloaded):
    results = tmp_path / "results.json"
    results.write_bytes(dump(document))
    done = preloaded.run("report", results)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"" and b"10 matches of 1 search" in done.stderr
    page = tmp_path / "report.html"
    assert page.read_bytes() == report(document).html

    page.write_bytes(b"mine")
    done = preloaded.run("report", results)
    assert done.returncode == 7 and b"--overwrite" in done.stderr and page.read_bytes() == b"mine"
    assert preloaded.run("report", results, "--overwrite", "-q").stderr == b""
    assert page.read_bytes() == report(document).html
    assert preloaded.run("report", tmp_path, "-q").returncode == 7  # the folder that holds them, and a page
    page.unlink()
    assert preloaded.run("report", tmp_path).returncode == 0
    assert page.read_bytes() == report(document).html
    nothing = preloaded.run("report", folder)
    assert nothing.returncode == 2 and b"holds no results.json" in nothing.stderr

    done = preloaded.run("report", results, "--out", results, "--overwrite")
    assert done.returncode == 7 and results.read_bytes() == dump(document)
    assert preloaded.run("report", results, "--out", tmp_path / "none" / "report.html").returncode == 7
    assert preloaded.run("report", tmp_path / "absent.json", "--overwrite").returncode == 2
    assert preloaded.run("report", results, "--images", tmp_path / "absent", "--overwrite").returncode == 2


def test_the_command_in_a_pipe(folder, document, preloaded):
    done = preloaded.run("report", "-", "--out", "-", stdin=dump(document))
    assert done.returncode == 0 and done.stdout == report(document).html


@pytest.mark.skipif(sys.platform == "win32", reason="names that are no UTF-8 do not exist there")
def test_pictures_that_are_gone_end_with_exit_3(tmp_path, preloaded):
    gallery = make_gallery(tmp_path)
    (tmp_path / "results.json").write_bytes(dump(search_document(make_result(tmp_path), WEIGHTS, "exact")))
    (gallery / BYTES).unlink()
    done = preloaded.run("report", tmp_path / "results.json")
    assert done.returncode == 3
    assert b"1 picture not shown" in done.stderr and rb"caf\udce9\n" in done.stderr
    assert (tmp_path / "report.html").exists()
