"""A benchmark that is killed goes on where it stopped, and gives the same results as one that was not."""

import json
import os
import signal
from pathlib import Path

import pytest
from benchmark_sets import write_prw

from qeeps_cli.cli.benchmark import benchmark
from qeeps_cli.errors import ExitCode

pytest_plugins = ["cli_fixtures", "preloaded"]

FRAMES, IDENTITIES = 8, 6  # no two frames alike
PAIRS = IDENTITIES * (FRAMES - 1)


@pytest.fixture(scope="module")
def prw(tmp_path_factory) -> Path:
    return write_prw(tmp_path_factory.mktemp("prw") / "PRW-v16.04.20", frames=FRAMES, identities=IDENTITIES)


@pytest.fixture(scope="module")
def arguments(prw, weights) -> list:
    return ["benchmark", "--dataset", "prw", "--root", prw, "--weights", weights, "--proposals", "10", "--json"]


def results(document: bytes) -> bytes:
    """Everything but how the run went."""
    lines = document.splitlines(keepends=True)
    assert sum(line.startswith(b'  "run": ') for line in lines) == 1
    return b"".join(line for line in lines if not line.startswith(b'  "run": '))


def test_pairs_that_are_done_are_not_run_again(arguments, tmp_path, preloaded):
    cache = tmp_path / "kept.qeeps"
    process = preloaded.begin(*arguments, "--cache", cache)
    process.wait_for(lambda: list(cache.glob("pairs-*.h5")))
    os.kill(process.pid, signal.SIGKILL)
    killed = process.finish()
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, b"")

    again, whole = preloaded.run(*arguments, "--cache", cache), preloaded.run(*arguments, "--no-cache")
    assert again.returncode == whole.returncode == ExitCode.OK, again.stderr.decode()
    run = json.loads(again.stdout)["run"]
    assert run["pairs_cached"] > 0 and run["pairs_computed"] > 0
    assert run["pairs_cached"] + run["pairs_computed"] == PAIRS
    assert json.loads(whole.stdout)["run"]["pairs_computed"] == PAIRS
    assert results(again.stdout) == results(whole.stdout)


def test_a_run_that_is_asked_to_stop_says_how_to_go_on(arguments, tmp_path, preloaded):
    cache = tmp_path / "kept.qeeps"
    process = preloaded.begin(*arguments, "--cache", cache)
    process.wait_for(lambda: list(cache.glob("pairs-*.h5")))
    os.kill(process.pid, signal.SIGTERM)
    stopped = process.finish()
    assert (stopped.returncode, stopped.stdout) == (ExitCode.SIGTERM, b"")
    assert b"the same command goes on from there" in stopped.stderr


@pytest.mark.parametrize("given", [{"mode": "cached"}, {"method": "oim"}, {"mode": "cascade", "shortlist": "3"}])
def test_frames_are_kept_too(prw, weights, tmp_path, capsysbinary, given):
    documents = []
    for kept in ({"cache": tmp_path / "kept.qeeps"}, {"cache": tmp_path / "kept.qeeps"}, {"no_cache": True}):
        settings = {"queries": 3, "proposals": 10, "weights": str(weights), "as_json": True} | given | kept
        benchmark(dataset="prw", root=prw, **settings)
        documents.append(capsysbinary.readouterr().out)
    frames = json.loads(documents[0])["counts"]["frames"]
    first, second, without = (json.loads(document)["run"] for document in documents)
    assert first["frames_computed"] == without["frames_computed"] == frames > FRAMES - 2
    assert (second["frames_computed"], second["frames_cached"], second["pairs_computed"]) == (0, frames, 0)
    assert results(documents[0]) == results(documents[1]) == results(documents[2])


def test_a_longer_run_takes_what_a_shorter_one_has_done(prw, weights, tmp_path, capsysbinary):
    given = {"weights": str(weights), "proposals": 10, "as_json": True, "cache": tmp_path / "kept.qeeps"}
    benchmark(dataset="prw", root=prw, queries=1, frames=5, **given)
    capsysbinary.readouterr()
    benchmark(dataset="prw", root=prw, queries=2, frames=FRAMES - 1, **given)
    run = json.loads(capsysbinary.readouterr().out)["run"]
    assert run["pairs_cached"] >= 2 and run["pairs_cached"] + run["pairs_computed"] == 2 * (FRAMES - 1)


def test_other_weights_or_parameters_take_nothing(prw, weights, tmp_path, capsysbinary):
    given = {"weights": str(weights), "queries": 1, "frames": 3, "as_json": True, "cache": tmp_path / "kept.qeeps"}
    for settings in ({"proposals": 10}, {"proposals": 11}, {"proposals": 10, "nms": 0.5}):
        benchmark(dataset="prw", root=prw, **given, **settings)
        assert json.loads(capsysbinary.readouterr().out)["run"]["pairs_cached"] == 0


def test_the_default_cache_lies_beside_the_set(weights, tmp_path, capsysbinary):
    root = write_prw(tmp_path / "PRW-v16.04.20", frames=3, identities=2)
    benchmark(dataset="prw", root=root, weights=str(weights), proposals=5, queries=1)
    assert list((tmp_path / "PRW-v16.04.20.qeeps").glob("pairs-*.h5"))
