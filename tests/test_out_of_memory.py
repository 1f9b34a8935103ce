"""Out of memory: smaller batches, then the CPU, then a clear error (docs/reliability.md, row 46).

No GPU is needed: a hook in the network that searches raises what torch raises, for batches above a size.
"""

import gc
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import qeeps_cli
from qeeps_cli.cache.store import Cache
from qeeps_cli.errors import DeviceError, ExitCode
from qeeps_cli.images import read_image
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.estimate import estimate
from qeeps_cli.searching.exact import search_pairs
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.searching.indexing import index_gallery
from qeeps_cli.searching.out_of_memory import ON_CPU, AutoEngine, Batches, OutOfMemory, is_out_of_memory
from qeeps_cli.searching.people import number_people
from qeeps_cli.searching.preview import Preview
from qeeps_cli.types import SearchResult
from qeeps_cli.weights import load_model, read_checkpoint

pytest_plugins = ["cli_fixtures"]

CPU = torch.device("cpu")
PARAMS = InferenceParams(proposals=20)
BOX = (100, 60, 160, 200)


class Memory:
    """A device that holds `size` items; keeps the sizes of the batches that were tried."""

    def __init__(self, size: int):
        self.size = size
        self.tried: list[int] = []

    def compute(self, items: list[int]) -> list[str]:
        self.tried.append(len(items))
        if len(items) > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [str(item) for item in items]


@pytest.mark.parametrize(
    ("count", "size", "tried"),
    [
        (0, 1, []),
        (1, 1, [1]),
        (8, 8, [8]),
        (8, 4, [8, 4, 4]),
        (8, 3, [8, 4, 2, 2, 2, 2]),
        (7, 1, [7, 3, 1, 1, 1, 1, 1, 1, 1]),
        (5, 2, [5, 2, 2, 1]),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(count, size, tried):
    memory = Memory(size)
    assert Batches(CPU).run(memory.compute, list(range(count))) == [str(item) for item in range(count)]
    assert memory.tried == tried


def test_later_batches_are_as_small():
    batches, memory = Batches(CPU), Memory(2)
    batches.run(memory.compute, list(range(4)))
    batches.run(memory.compute, list(range(4)))
    assert memory.tried == [4, 2, 2, 2, 2]


def test_one_item_that_does_not_fit_is_an_error_that_says_what_to_do():
    with pytest.raises(OutOfMemory, match="cuda:0 does not suffice for a single frame. Use --device cpu") as caught:
        Batches(torch.device("cuda", 0)).run(Memory(0).compute, [1, 2])
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(OutOfMemory, match="the machine's memory"):
        Batches(CPU).run(Memory(0).compute, [1])


def test_other_errors_are_not_tried_again():
    def compute(items):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches(CPU).run(compute, [1, 2])


def test_what_filled_the_memory_is_gone_when_it_is_tried_again():
    left: list[weakref.ref] = []

    def compute(items):
        assert all(tensor() is None for tensor in left)
        filling = torch.zeros(len(items), 1000)
        left.append(weakref.ref(filling))
        if len(items) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return items

    assert Batches(CPU).run(compute, [1, 2, 3, 4]) == [1, 2, 3, 4] and len(left) > 4


def test_an_allocation_that_the_machine_refuses_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


# With a network.


@pytest.fixture
def engine(weights) -> Callable[..., Engine]:
    def engine(kind: type[Engine] = AutoEngine) -> Engine:
        checkpoint = read_checkpoint(weights)
        return kind(load_model(checkpoint), CPU, PARAMS, weights_digest=checkpoint.digest)

    return engine


@contextmanager
def holding(engine: Engine, size: int | Callable[[], int]):
    """The engine's network refuses more frames at once. Yields the sizes of the batches that were tried."""
    tried: list[int] = []

    def refuse(module, given):
        tried.append(len(given[0].x))
        if tried[-1] > (size() if callable(size) else size):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = engine.model.register_forward_pre_hook(refuse)
    try:
        yield tried
    finally:
        hook.remove()


def outcome(result: SearchResult) -> tuple:
    return [(m.rank, m.frame.name, m.box, m.score) for m in result.matches], result.parameters


@pytest.fixture
def search(frames) -> Callable[..., SearchResult]:
    def search(engine: Engine, **options) -> SearchResult:
        options = {"mode": "exact", "cache": False, **options}
        return qeeps_cli.search(frames / "vtest_0000.jpg", frames, BOX, model=engine, **options)

    return search


def test_a_search_in_smaller_batches_finds_the_same(engine, frames):
    plain = engine(Engine)
    query = QueryPerson(read_image(frames / "vtest_0000.jpg").rgb, BOX)
    listed = list(list_galleries([frames]).frames)
    wanted = [answer.detections for _, answer in search_pairs(plain, [query], listed)]
    with holding(plain, 1) as tried:
        found = [answer.detections for _, answer in search_pairs(plain, [query], listed, batch=3)]
    assert tried == [3, 1, 1, 1]
    for one, other in zip(found, wanted, strict=True):
        assert (one.boxes == other.boxes).all() and (one.scores == other.scores).all() and len(one)


@pytest.mark.parametrize("mode", ["exact", "cascade"])
def test_auto_goes_on_with_the_cpu_and_says_so(engine, search, mode):
    small = engine()
    with holding(small, 0) as tried:
        result = search(small, mode=mode, batch=2)
    assert tried[:2] == [2, 1]
    assert result.notes[0] == ON_CPU and outcome(result) == outcome(search(engine(Engine), mode=mode, batch=2))
    assert result.matches


def test_the_cpus_results_are_kept_as_its_own(engine, search, tmp_path):
    small = engine()
    with holding(small, 0):
        first = search(small, mode="cached", cache=tmp_path / "c.qeeps")
    fresh = engine(Engine)
    with holding(fresh, 0) as tried:  # nothing is left to compute
        again = search(fresh, mode="cached", cache=tmp_path / "c.qeeps")
    assert tried == [] and outcome(first) == outcome(again)


def test_a_device_that_was_asked_for_by_name_is_an_error(engine, search):
    named = engine(Engine)
    with holding(named, 0), pytest.raises(OutOfMemory):
        search(named)


def test_an_index_is_made_on_the_cpu_from_its_beginning(engine, frames, tmp_path):
    calls = iter(range(100))
    small = engine()
    with Cache(tmp_path / "c.qeeps", warn=pytest.fail) as cache, holding(small, lambda: 1 if next(calls) < 2 else 0):
        summary = index_gallery(small, list_galleries([frames]), cache)
    assert summary.notes[0] == ON_CPU and summary.frames == 3
    with Cache(tmp_path / "c.qeeps", warn=pytest.fail) as cache:
        assert index_gallery(small.on_cpu(), list_galleries([frames]), cache).cached == 3


def test_matches_that_were_told_are_not_told_twice(engine, frames):
    from qeeps_cli.searching.request import SearchOptions, read_query
    from qeeps_cli.searching.run import run_search

    calls, told, small = iter(range(100)), [], engine()
    picture = read_query(Path(frames) / "vtest_0000.jpg", BOX)
    search = run_search(
        small,
        [picture],
        list_galleries([frames]),
        SearchOptions(mode="exact", batch=1),
        tell=lambda query, matches: told.extend(matches),
    )
    with holding(small, lambda: 1 if next(calls) < 2 else 0), pytest.raises(OutOfMemory, match="in mid-run"):
        list(search)
    assert len({match.frame.name for match in told}) == 2


def test_people_are_numbered_on_the_cpu(engine, frames):
    """For `qeeps detect` and --person."""
    rgb = read_image(frames / "vtest_0000.jpg").rgb
    small, plain = engine(), engine(Engine)
    with holding(small, 0) as tried:
        people, notes = number_people(small, rgb)
    wanted, nothing = number_people(plain, rgb)
    assert tried == [1] and notes == [ON_CPU] and nothing == []
    assert len(people) and (people.boxes == wanted.boxes).all() and (people.scores == wanted.scores).all()
    with holding(plain, 0), pytest.raises(OutOfMemory):
        number_people(plain, rgb)


def test_the_time_of_the_cpu_is_told(engine, frames):
    """Of a plan: `--dry-run`."""
    gallery, left = list_galleries([frames]), Preview(frames=3)
    small, plain = engine(), engine(Engine)
    with holding(small, 0):
        assert estimate(small, gallery, left, batch=2).notes == [ON_CPU]
    with holding(plain, 0), pytest.raises(OutOfMemory):
        estimate(plain, gallery, left)


def test_a_search_for_a_number_goes_on_with_the_cpu_and_says_so_once(engine, frames):
    def search(engine: Engine) -> SearchResult:
        return qeeps_cli.search(frames / "vtest_0000.jpg", frames, person=2, model=engine, mode="exact", cache=False)

    small = engine()
    with holding(small, 0):
        found = search(small)
    wanted = search(engine(Engine))
    assert found.query == wanted.query and outcome(found) == outcome(wanted)
    assert found.notes.count(ON_CPU) == 1 and ON_CPU not in wanted.notes


@pytest.mark.gpu
def test_a_gpu_without_memory_is_left_for_the_cpu(weights, frames):
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0)  # the test's network would fit into 14 MB, 1e-4 of an H200's
    try:
        result = qeeps_cli.search(frames / "vtest_0000.jpg", frames, BOX, weights=weights, params=PARAMS, cache=False)
        assert result.matches and result.parameters["device"] == "cpu"
        with pytest.raises(DeviceError, match="--device cpu"):
            qeeps_cli.search(frames / "vtest_0000.jpg", frames, BOX, weights=weights, device="cuda", cache=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
