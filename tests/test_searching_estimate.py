"""How long a search will take: what is tried for it, and what is made of that."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from qeeps_cli.images import read_image
from qeeps_cli.model.config import InferenceParams
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.searching.estimate import TRIED, Estimate, estimate
from qeeps_cli.searching.galleries import list_galleries
from qeeps_cli.searching.preview import Preview
from qeeps_cli.weights import load_model, read_checkpoint

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(scope="module")
def engine(weights) -> Engine:
    return Engine(load_model(read_checkpoint(weights)), torch.device("cpu"), InferenceParams(proposals=20))


@pytest.fixture
def gallery(frames):
    return list_galleries([frames])


@contextmanager
def slow(engine: Engine, *seconds: float) -> Iterator[list[int]]:
    """Each pass of the network takes so much longer, the last number counting for all that follow. Yields batches."""
    batches: list[int] = []

    def wait(module, given):
        time.sleep(seconds[min(len(batches), len(seconds) - 1)])
        batches.append(len(given[0].x))

    hook = engine.model.register_forward_pre_hook(wait)
    try:
        yield batches
    finally:
        hook.remove()


def test_nothing_is_run_for_nothing(engine, gallery):
    with slow(engine, 0) as batches:
        for preview in (Preview(), Preview(3, 3), Preview(pairs=2, pairs_cached=2)):
            assert estimate(engine, gallery, preview) == Estimate(0, 0, 0, 0)
    assert batches == []


@pytest.fixture
def own_clock(monkeypatch):
    """A clock that waiting moves, and a little each look at it, however busy the machine is."""
    now = 0.0

    def wait(seconds):
        nonlocal now
        now += seconds

    def look():
        wait(0.001)
        return now

    monkeypatch.setattr("qeeps_cli.searching.estimate.time", SimpleNamespace(perf_counter=look))
    monkeypatch.setattr(time, "sleep", wait)


@pytest.mark.usefixtures("own_clock")
def test_the_first_pass_does_not_count_and_the_others_span_a_range(engine, gallery):
    with slow(engine, 1, 0.1, 0.4, 0.1) as batches:
        found = estimate(engine, gallery, Preview(frames=110, frames_cached=10))
    assert batches == [1] * (1 + TRIED) and found.tried == TRIED and found.notes == []
    assert 10 < found.least < found.seconds < found.most, "100 times 0.1 s, and what the network itself takes"
    assert 40 < found.most < 100


def test_pairs_and_batches(engine, gallery, frames, monkeypatch):
    monkeypatch.setattr("qeeps_cli.searching.estimate.ENOUGH_SECONDS", 600)  # on a slow machine, too
    person = QueryPerson(read_image(frames / "vtest_0000.jpg").rgb, (100, 60, 160, 200))
    with slow(engine, 0, 0, 0.1) as batches:
        found = estimate(engine, gallery, Preview(10, 0, 20, None), person, batch=4)
    assert batches == [4] * 2 * (1 + TRIED), "a pass for frames and a pass for pairs"
    assert found.least > (10 + 20) * 0.1 / 4


def test_a_slow_machine_tries_fewer(engine, gallery, monkeypatch):
    monkeypatch.setattr("qeeps_cli.searching.estimate.ENOUGH_SECONDS", 0.2)
    with slow(engine, 0, 0.3) as batches:
        assert estimate(engine, gallery, Preview(frames=10)).tried == 1
    assert batches == [1, 1]


def test_frames_that_cannot_be_decoded_are_passed_by(engine, frames, tmp_path):
    shutil.copy(frames / "vtest_0000.jpg", tmp_path / "2.jpg")
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    assert estimate(engine, list_galleries([tmp_path]), Preview(frames=10)).tried == 1
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    assert estimate(engine, list_galleries([tmp_path]), Preview(frames=10)) is None
