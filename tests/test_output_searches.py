"""Several searches: one document, or a folder of folders; names never collide, and only what is ours is removed."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from qeeps_cli.gallery import OUTPUT_MARKER
from qeeps_cli.output.folder import check_folder, write_folder
from qeeps_cli.output.names import folder_names
from qeeps_cli.output.own_folder import OwnFolder
from qeeps_cli.output.searches import SearchesFolder, encode_search, join_searches
from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult, Skipped

WEIGHTS = {"name": "tiny", "digest": "sha256:00ff"}


@pytest.fixture
def result(tmp_path) -> SearchResult:
    Image.new("RGB", (160, 90), "olive").save(tmp_path / "frame.png")
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "q.png")
    match = Match(1, GalleryFrame(tmp_path / "frame.png", "frame.png"), (20.0, 20.0, 60.0, 80.0), 0.5, 0.9)
    skipped = [Skipped("broken.jpg", "cut short")]
    return SearchResult(Query(tmp_path / "q.png", (5, 5, 30, 55), "ab"), [match], skipped, 1, {"nms": 0.4})


def write(out: Path, results: dict[str, SearchResult]) -> Path:
    folder = SearchesFolder(out, list(results))
    for result in results.values():
        folder.write(result, WEIGHTS, "exact")
    return folder.finish(WEIGHTS, "exact")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_no_searches_are_a_document():
    assert json.loads(join_searches([])) == {"schema": "qeeps.searches/1", "searches": []}


def test_one_document(result):
    document = join_searches(encode_search(id, result, WEIGHTS, "exact") for id in ("a\udce9", "b"))
    parsed = json.loads(document)
    assert parsed["schema"] == "qeeps.searches/1"
    assert [search.pop("id") for search in parsed["searches"]] == ["a\udce9", "b"]
    assert parsed["searches"][0] == parsed["searches"][1]
    assert parsed["searches"][0]["schema"] == "qeeps.search/1" and len(parsed["searches"][0]["matches"]) == 1
    assert document.isascii() and document.endswith(b"}\n")


def test_a_folder_for_each_and_an_overview(tmp_path, result):
    result, nobody = replace(result, best_score=0.5), replace(result, matches=[], best_score=0.25)
    overview = write(tmp_path / "out", {"red coat": result, "2": nobody})
    assert overview == tmp_path / "out" / "results.json"
    document = json.loads(overview.read_bytes())
    assert document["schema"] == "qeeps.overview/1" and document["mode"] == "exact"
    first, second = document["searches"]
    assert (first["id"], first["results"]) == ("red coat", "red_coat/results.json")
    assert (first["matches"], first["skipped"]) == (1, 1)
    assert first["best_score"] == 0.5 and second["best_score"] == 0.25
    assert first["best"]["image"] == "frame.png" and second["best"] is None
    one = json.loads((tmp_path / "out" / first["results"]).read_bytes())
    assert one["schema"] == "qeeps.search/1" and one["query"] == first["query"]
    pictures = {"red_coat/contact_sheet.jpg", "red_coat/annotated/001_frame.png.jpg", "2/query.jpg"}
    assert pictures < files(tmp_path / "out")


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([], []),
        (["1", "2"], ["1", "2"]),
        (["a/b", "a_b", "A b"], ["a_b", "a_b-2", "A_b-3"]),
        (["..", ".", "/", "é"], ["query", "query-2", "_", "e"]),
        (["results.json", "annotated", "Annotated"], ["results.json-1", "annotated-2", "Annotated-3"]),
        (["report.html", "CROPS"], ["report.html-1", "CROPS-2"]),
        (["a", "a-3", "A"], ["a", "a-3", "A-4"]),
    ],
)
def test_folders_have_names_that_read_like_the_ids(ids, names):
    assert folder_names(ids) == names


def test_folder_names_never_collide():
    ids = [f"{prefix}{i}" for i in range(50) for prefix in ("A", "a", "a/", "a_", "é", "x" * 300)]
    names = folder_names(ids)
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(0 < len(name.encode()) < 120 and not set(name) & set("/\\\0") for name in names)


def test_a_later_run_removes_what_an_earlier_one_left(tmp_path, result):
    """And nothing else: not a file that somebody put there, nor a folder that only a marker names."""
    out = tmp_path / "out"
    write(out, {"old": result, "kept": result, "mixed": result})
    (out / "mixed" / "thesis.txt").write_bytes(b"mine")
    (out / "foreign").mkdir()
    (out / "foreign" / "results.json").write_bytes(b"mine")
    with open(out / OUTPUT_MARKER, "a") as marker:
        marker.write("foreign/\n../\n/\n")
    check_folder(out)
    write(out, {"kept": result, "new": result})
    kept = {"results.json", "report.html", "kept", "new", "mixed", "foreign"}
    assert set(os.listdir(out)) == {OUTPUT_MARKER, *kept}
    assert files(out / "mixed") == {"thesis.txt", OUTPUT_MARKER} and files(out / "foreign") == {"results.json"}

    check_folder(out)
    write_folder(out, result, WEIGHTS, "exact")
    assert not (out / "kept").exists() and not (out / "new").exists() and (out / "contact_sheet.jpg").exists()
    write(out, {"1": result})
    assert not (out / "contact_sheet.jpg").exists() and (out / "1" / "contact_sheet.jpg").exists()


def test_a_link_to_a_folder_is_not_followed(tmp_path, result):
    write_folder(tmp_path / "elsewhere", result, WEIGHTS, "exact")
    out = OwnFolder(tmp_path / "out")
    out.begin({"linked/"})
    (tmp_path / "out" / "linked").symlink_to(tmp_path / "elsewhere")
    again = OwnFolder(tmp_path / "out")
    again.begin(set())
    again.finish()
    assert (tmp_path / "elsewhere" / "results.json").exists()
