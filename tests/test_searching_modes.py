"""The ways to search, through the Python API: what they compute, what they keep, and that both give the same."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import FRAMES
from PIL import Image

import qeeps_cli
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import UsageError
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.output.writers import encode_result
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.searching.loading import open_cache
from qeeps_cli.searching.plan import EXACT_PAIRS, plan_search
from qeeps_cli.searching.request import SearchOptions, read_query
from qeeps_cli.searching.run import run_search
from qeeps_cli.searching.tally import Tally
from qeeps_cli.types import SearchResult

pytest_plugins = ["cli_fixtures"]

BOX, OTHER = (80, 40, 120, 130), (200, 100, 260, 280)
FEW = InferenceParams(proposals=20)
MODES = ["exact", "cached", "cascade"]
SHORT = {"cascade": 2}


@pytest.fixture(scope="module")
def model(weights) -> qeeps_cli.Engine:
    return qeeps_cli.load_model(weights, device="cpu").with_params(FEW)


@pytest.fixture
def gallery(frames, tmp_path) -> Path:
    """Five usable files, of which two are one picture and one is animated, and a broken one. Not written just now: a
    file that is younger than two seconds is read again before it is trusted."""
    folder = tmp_path / "gallery"
    shutil.copytree(frames, folder)
    shutil.copy(folder / FRAMES[1], folder / "copy.jpg")
    with Image.open(folder / FRAMES[0]) as image:
        image.resize((300, 200)).save(folder / "two.gif", save_all=True, append_images=[Image.new("RGB", (300, 200))])
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@contextmanager
def counted(model: qeeps_cli.Engine) -> Iterator[list[int]]:
    """The sizes of the batches that enter the backbone."""
    seen: list[int] = []
    handle = model.model.basenet.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    yield seen
    handle.remove()


def search(model, gallery, cache=None, box=BOX, mode="exact", query=FRAMES[0], **options) -> SearchResult:
    options.setdefault("shortlist", SHORT.get(mode))
    return qeeps_cli.search(gallery / query, gallery, box, model=model, mode=mode, cache=cache, **options)


def as_bytes(result: SearchResult, mode: str) -> bytes:
    return encode_result("json", result, {"name": "random", "digest": "sha256:0"}, mode)


@pytest.mark.parametrize("mode", MODES)
def test_cached_results_equal_fresh_ones_byte_for_byte(model, gallery, tmp_path, mode):
    """Row 13; with skipped frames, notes, copies and batches. The second search is a shortened one of the first."""
    fresh = search(model, gallery, mode=mode)
    assert (tmp_path / "gallery.qeeps").is_dir() and fresh.frames_searched == 5
    with counted(model) as batches:
        cached = search(model, gallery, mode=mode)
    assert batches == ([] if mode == "exact" else [1]), "nothing but the query itself"
    assert as_bytes(cached, mode) == as_bytes(fresh, mode)
    assert [item.name for item in cached.skipped] == ["broken.jpg"]
    assert any("two.gif: animated" in note for note in cached.notes)
    assert as_bytes(search(model, gallery, cache=False, mode=mode), mode) == as_bytes(fresh, mode)
    assert as_bytes(search(model, gallery, mode=mode, refresh=True), mode) == as_bytes(fresh, mode)
    assert as_bytes(search(model, gallery, mode=mode), mode) == as_bytes(fresh, mode)


def test_a_second_query_runs_no_gallery_frame(model, gallery):
    """The backbone sees the other query, and nothing of the gallery."""
    with counted(model) as batches:
        first = search(model, gallery, mode="cached")
        assert batches == [1] * (4 + 1), "four different pictures, and the query alone"
        batches.clear()
        second = search(model, gallery, box=OTHER, mode="cached")
        assert batches == [1]
    assert [m.score for m in first.matches] != [m.score for m in second.matches]
    assert {m.frame.name for m in first.matches} == {m.frame.name for m in second.matches}


def test_no_cache_keeps_nothing(model, gallery, tmp_path):
    before = sorted(os.listdir(tmp_path))
    for mode in MODES:
        search(model, gallery, cache=False, mode=mode)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_cascade_over_all_frames_is_exact(model, gallery, tmp_path):
    exact = search(model, gallery, tmp_path / "c", exclude_query=True)
    cascade = search(model, gallery, tmp_path / "c", mode="cascade", shortlist="100%", exclude_query=True)
    assert cascade.matches == exact.matches and cascade.notes == exact.notes and cascade.skipped == exact.skipped
    assert cascade.frames_searched == exact.frames_searched == 4


def test_a_cascade_is_exact_for_its_shortlist_and_cached_for_the_rest(model, gallery, tmp_path):
    exact, cached = (search(model, gallery, tmp_path / "c", mode=mode) for mode in ("exact", "cached"))
    order = [match.frame.name for match in cached.best_of_frames()]
    cascade = search(model, gallery, tmp_path / "c", mode="cascade", shortlist=2)
    assert cascade.parameters["shortlist"] == 2
    for name in order:
        source = exact if name in order[:2] else cached
        assert _of(cascade, name) == _of(source, name)
    assert _of(exact, order[0]) != _of(cached, order[0])
    scores = [match.score for match in cascade.matches]
    assert scores == sorted(scores, reverse=True)


def test_half_of_an_expanded_score_comes_by_way_of_the_best_match(model, gallery, tmp_path):
    """Which is in another picture than the query's own, and gives what it would give as a query itself."""
    plain = search(model, gallery, tmp_path / "c", mode="cached")
    expanded = search(model, gallery, tmp_path / "c", mode="auto", expand=True)
    witness = next(match for match in plain.matches if match.frame.name != FRAMES[0])
    by_witness = search(model, gallery, tmp_path / "c", mode="cached", query=witness.frame.name, box=witness.box)
    second = {(match.frame.name, match.box): match.score for match in by_witness.matches}
    assert len(expanded.matches) == len(plain.matches) > 5
    scores = {(match.frame.name, match.box): match.score for match in expanded.matches}
    for match in plain.matches:
        key = match.frame.name, match.box
        assert scores[key] == pytest.approx((match.score + witness.score * second[key]) / 2, abs=2e-3)
    assert expanded.parameters["expand"] and not plain.parameters["expand"]
    (note,) = set(expanded.notes) - set(plain.notes)
    assert f"by way of the best match, {witness.frame.name} (" in note
    assert f"which scores {witness.score:.3f} by itself" in note
    assert as_bytes(search(model, gallery, cache=False, mode="cached", expand=True), "cached") == as_bytes(
        search(model, gallery, tmp_path / "c", mode="cached", expand=True), "cached"
    )


def test_with_nobody_else_to_ask_nothing_is_expanded(model, gallery, tmp_path):
    for name in os.listdir(gallery):
        if name != FRAMES[0]:
            path = gallery / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    plain, expanded = (search(model, gallery, tmp_path / "c", mode="cached", expand=on) for on in (False, True))
    assert plain.matches == expanded.matches != [] and plain.notes == expanded.notes


def _of(result: SearchResult, name: str) -> list[tuple]:
    return [(m.box, m.score, m.person_score) for m in result.matches if m.frame.name == name]


@pytest.mark.parametrize("mode", MODES)
def test_several_queries_give_what_each_gives_alone(model, gallery, tmp_path, mode):
    image = gallery / FRAMES[0]
    with counted(model) as batches:
        together = qeeps_cli.search_many(
            [(image, BOX), (image, OTHER), (image, None)],
            gallery,
            model=model,
            mode=mode,
            shortlist=SHORT.get(mode),
            cache=tmp_path / "c",
        )
    if mode == "exact":
        assert len(batches) == 4 + 3 * 2, "each picture once; each query once for each of two sizes"
    for box, result in zip((BOX, OTHER, None), together, strict=True):
        assert result.query.box == box
        alone = search(model, gallery, tmp_path / "other", box=box, mode=mode)
        assert alone.matches == result.matches and alone.parameters == result.parameters


@pytest.mark.parametrize("mode", MODES)
def test_batches_give_nearly_the_same(model, gallery, mode):
    one, four = (search(model, gallery, cache=False, mode=mode, batch=batch) for batch in (1, 4))
    assert len(one.matches) == len(four.matches)
    for a, b in zip(one.matches[:5], four.matches[:5], strict=True):
        assert a.frame == b.frame and a.score == pytest.approx(b.score, abs=2e-2)


# What is a hit and what a miss: row 6


def computed(model, gallery, cache, query: Path | None = None, box=BOX, refresh=False, **options) -> tuple[int, int]:
    """How many frames and pairs a cached and an exact search had to compute."""
    picture, found = read_query(query or gallery / FRAMES[0], box), list_galleries([gallery])
    tally = Tally()
    for mode in ("cached", "exact"):
        with open_cache([gallery], cache) as used:
            settings = SearchOptions(mode=mode, **options)
            list(run_search(model, [picture], found, settings, cache=used, refresh=refresh, tally=tally))
    assert tally.frames_computed + tally.frames_cached == tally.pairs_computed + tally.pairs_cached
    return tally.frames_computed, tally.pairs_computed


def test_hits_and_misses(model, gallery, tmp_path):
    """Five files are four pictures."""
    cache = tmp_path / "c"
    assert computed(model, gallery, cache) == (4, 4)
    assert computed(model, gallery, cache) == (0, 0)
    assert computed(model, gallery, cache, refresh=True) == (4, 4)
    assert computed(model, gallery, cache, box=(81, *BOX[1:])) == (0, 4), "the box by a pixel"
    assert computed(model, gallery, cache, box=None) == (0, 4)
    assert computed(model, gallery, cache, query=gallery / FRAMES[1]) == (0, 4)
    assert computed(model.with_params(replace(FEW, nms=0.41)), gallery, cache) == (4, 4), "a threshold"
    assert computed(model.with_params(replace(FEW, second_pass=False)), gallery, cache) == (4, 4)
    for path in gallery.rglob("*.*"):
        os.utime(path)
    assert computed(model, gallery, cache) == (0, 0), "a new mtime"
    (gallery / FRAMES[1]).rename(gallery / "renamed.jpg")
    assert computed(model, gallery, cache) == (0, 0), "a new name"
    shutil.copy(gallery / "later" / FRAMES[2], gallery / "renamed.jpg")
    assert computed(model, gallery, cache) == (0, 0), "a copy of a known picture"
    with Image.open(gallery / "renamed.jpg") as image:
        image.save(gallery / "renamed.jpg", quality=80)
    assert computed(model, gallery, cache) == (1, 1), "other pixels"
    assert computed(model, gallery, cache, max_pixels=100_000) == (0, 0), "three files are too large now"


def test_other_weights_are_a_miss(model, gallery, tmp_path):
    from networks import small_network

    other = qeeps_cli.Engine(
        small_network(shorter_side=128, longest_side=192, seed=1), model.device, FEW, weights_digest="sha256:other"
    )
    assert computed(model, gallery, tmp_path / "c") == (4, 4)
    assert computed(other, gallery, tmp_path / "c") == (4, 4)
    assert computed(model, gallery, tmp_path / "c") == (0, 0)


def test_too_large_pictures_are_skipped_although_they_are_cached(model, gallery, tmp_path):
    small_ones = {"max_pixels": 200 * 300, "query": "two.gif"}
    for mode in MODES:
        search(model, gallery, tmp_path / "c", mode=mode, query="two.gif")
        small = search(model, gallery, tmp_path / "c", mode=mode, **small_ones)
        fresh = search(model, gallery, cache=False, mode=mode, **small_ones)
        assert small.frames_searched == 1 and as_bytes(small, mode) == as_bytes(fresh, mode)
        assert "--max-pixels" in small.skipped[-1].reason


@pytest.mark.parametrize("mode", MODES)
def test_frames_without_people_are_cached_too(model, gallery, tmp_path, mode):
    """Row 11."""
    nobody = model.with_params(replace(FEW, min_person_score=1.0))
    assert search(nobody, gallery, tmp_path / "c", mode=mode).matches == []
    with counted(model) as batches:
        assert search(nobody, gallery, tmp_path / "c", mode=mode).matches == []
    assert len(batches) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_querys_own_frame_is_flagged_or_left_out(model, gallery, tmp_path, mode):
    """Row 32, from what is cached too."""
    for _ in range(2):
        flagged = search(model, gallery, tmp_path / "c", mode=mode)
        assert f"{FRAMES[0]} is the query's own picture" in flagged.notes[-1] + flagged.notes[0]
        without = search(model, gallery, tmp_path / "c", mode=mode, exclude_query=True)
        assert without.frames_searched == flagged.frames_searched - 1
        assert FRAMES[0] not in {match.frame.name for match in without.matches}


def test_a_file_replaced_in_mid_run_is_not_cached_under_the_old_digest(model, gallery, tmp_path):
    """Row 30: it is replaced when its neighbour is answered, after its bytes may have been read or not."""
    replaced = gallery / "later" / FRAMES[2]
    old, other = replaced.read_bytes(), (gallery / FRAMES[0]).read_bytes()
    picture, found = read_query(gallery / FRAMES[0], BOX), list_galleries([gallery])
    settings = SearchOptions(mode="cached")

    def replace_it(done: int, total: int, what: str) -> None:
        if done == 1:
            replaced.write_bytes(other)

    with open_cache([gallery], tmp_path / "c") as cache:
        list(run_search(model, [picture], found, settings, cache=cache, progress=replace_it))
    for content, computes in ((other, {0}), (old, {0, 1})):
        replaced.write_bytes(content)
        wanted = as_bytes(search(model, gallery, cache=False, mode="cached"), "cached")
        tally = Tally()
        with open_cache([gallery], tmp_path / "c") as cache:
            (result,) = run_search(model, [picture], found, settings, cache=cache, tally=tally)
        assert tally.frames_computed in computes
        result = replace(result, parameters=search(model, gallery, cache=False, mode="cached").parameters)
        assert as_bytes(result, "cached") == wanted


def test_a_gallery_that_did_not_change_is_not_even_read(model, gallery, tmp_path, monkeypatch):
    (gallery / "broken.jpg").unlink()
    past = time.time() - 100
    for path in gallery.rglob("*.*"):
        os.utime(path, (past, past))
    time.sleep(2.1)  # the times of a change cannot be set, and young files are not trusted
    first = search(model, gallery, tmp_path / "c", mode="cached")
    read = []
    monkeypatch.setattr("qeeps_cli.searching.reading.read_file", lambda path, limit: read.append(path))
    assert search(model, gallery, tmp_path / "c", mode="cached").matches == first.matches
    assert read == []


def test_a_cache_that_cannot_be_written_is_read_and_left_as_it_is(model, gallery, tmp_path):
    """Row 9; of the process see test_cli_index.py."""
    wanted = search(model, gallery, cache=False, mode="cascade")
    computed(model, gallery, tmp_path / "c", box=OTHER)
    before = sorted(os.listdir(tmp_path / "c"))
    picture, found, tally = read_query(gallery / FRAMES[0], BOX), list_galleries([gallery]), Tally()
    with Cache(tmp_path / "c", read_only=True, warn=pytest.fail) as cache:
        settings = SearchOptions(mode="cascade", shortlist=2)
        (result,) = run_search(model, [picture], found, settings, cache=cache, tally=tally)
    assert result.matches == wanted.matches and sorted(os.listdir(tmp_path / "c")) == before
    assert tally.frames_computed == 0 and tally.pairs_computed > 0
    assert tally.pairs_computed + tally.pairs_cached == 2, "both may be the picture that is there twice"


def test_the_environment_names_the_cache(model, gallery, tmp_path, monkeypatch):
    monkeypatch.setenv("QEEPS_CACHE", str(tmp_path / "named"))
    search(model, gallery, mode="cached")
    assert (tmp_path / "named").is_dir() and not (tmp_path / "gallery.qeeps").exists()


# Which mode


@pytest.mark.parametrize(
    ("frames", "queries", "device", "options", "mode", "shortlist"),
    [
        (1, 1, "cpu", {}, "exact", None),
        (200, 1, "cpu", {}, "exact", None),
        (201, 1, "cpu", {}, "cascade", 50),
        (101, 2, "cpu", {}, "cascade", 50),
        (50, 1000, "cpu", {}, "exact", None),
        (2_000, 1, "cpu", {}, "cascade", 100),
        (100_000, 1, "cpu", {}, "cascade", 500),
        (10_000, 1, "cuda", {}, "exact", None),
        (10_001, 1, "cuda", {}, "cascade", 500),
        (100_000, 1, "cpu", {"shortlist": "5%"}, "cascade", 5_000),
        (1_000, 1, "cpu", {"shortlist": 2_000}, "exact", None),
        (5, 1, "cpu", {"expand": True}, "cached", None),
        (5, 1, "cpu", {"mode": "cascade"}, "cascade", 5),
        (5, 1, "cpu", {"mode": "cached"}, "cached", None),
        (10**6, 1, "cpu", {"mode": "exact"}, "exact", None),
    ],
)
def test_the_plan(frames, queries, device, options, mode, shortlist):
    plan = plan_search(SearchOptions(**options), frames, queries, device)
    assert (plan.mode, plan.shortlist) == (mode, shortlist)
    assert (plan.reason is None) == ("mode" in options)


@pytest.mark.parametrize("shortlist", ["", "x", 0, "0", "-1", "0%", "101%", "5 %%", "1e9", "nan%"])
def test_shortlists_that_are_none(shortlist):
    with pytest.raises(UsageError, match="--shortlist expects"):
        SearchOptions(shortlist=shortlist)


def test_other_wrong_modes(model, gallery):
    with pytest.raises(UsageError, match="--mode expects one of exact, cached, cascade, auto, got 'fast'"):
        search(model, gallery, mode="fast")
    with pytest.raises(UsageError, match="--shortlist belongs to --mode cascade"):
        SearchOptions(mode="exact", shortlist=5)
    for others in ({"mode": "exact"}, {"mode": "cascade"}, {"shortlist": 5}):
        with pytest.raises(UsageError, match="--expand.*--mode cached, got (exact|cascade|--shortlist)"):
            SearchOptions(expand=True, **others)
    assert EXACT_PAIRS["cpu"] == 200


def test_the_result_says_which_mode_and_why(model, gallery):
    parameters = search(model, gallery, cache=False, mode="auto").parameters
    assert parameters["requested_mode"] == "auto" and parameters["shortlist"] is None
    assert parameters["mode_reason"] == "6 pairs of query and frame, at most 200"
