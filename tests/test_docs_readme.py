"""The README's commands run as they stand there, on small data with random weights."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import environment
from docs_pages import README, ROOT, python_blocks, shell_paragraphs, simple_commands
from docs_samples import make_samples

import qeeps_cli

pytest_plugins = ["cli_fixtures", "preloaded", "qeeps_on_path"]

# What is only parsed (tests/test_docs_pages.py) because it takes minutes, a data set or the network.
NOT_RUN = {
    "make": "installs",
    "python3": "makes the environment that the tests run in",
    "pip": "installs",
    "pytest": "is what runs this",
    "qeeps train": "needs a recipe and data; tests/test_cli_train.py trains",
    "qeeps benchmark": "takes minutes; tests/test_cli_benchmark.py benchmarks",
    "qeeps calibrate": "needs labels; tests/test_cli_calibrate.py calibrates",
}
CLOSED_PIPE = 141  # of `qeeps ... | head`
FIRST, *RECIPES = [
    lines
    for paragraph in shell_paragraphs(README)
    if (lines := [line for line in paragraph if not line.startswith(tuple(NOT_RUN))])
]


@pytest.fixture(scope="module")
def shell(qeeps_on_path, weights, tmp_path_factory, examples, frames):
    """Runs lines of bash in a folder with the files that they name; the README's first command ran there."""
    folder = make_samples(tmp_path_factory.mktemp("readme"), examples, frames)
    variables = environment(PATH=qeeps_on_path, QEEPS_WEIGHTS=os.fspath(weights), QEEPS_DEVICE="cpu")

    def run(*lines: str) -> subprocess.CompletedProcess:
        script = "\n".join(["set -eo pipefail", *lines])
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
        )

    done = run(*FIRST)
    assert done.returncode == 0, done.stderr
    run.folder = folder
    return run


def test_the_first_command_writes_what_is_said_beneath_it(shell):
    [first] = FIRST
    assert "--exclude-query --out results/" in first
    results = shell.folder / "results"
    for name in ("results.json", "report.html", "contact_sheet.jpg", "annotated"):
        assert (results / name).exists(), name


@pytest.mark.parametrize("lines", RECIPES, ids=lambda lines: lines[0][:60])
def test_a_recipe_runs(shell, lines):
    programs = {command[0] for line in lines for command in simple_commands(line)} - {"qeeps"}
    if missing := sorted(program for program in programs if not shutil.which(program)):
        pytest.skip(f"{', '.join(missing)} not installed")
    done = shell(*lines)
    closed = any("| head" in line for line in lines)
    assert done.returncode in ((0, CLOSED_PIPE) if closed else (0,)), done.stderr
    assert "Traceback" not in done.stderr


def test_pipelines_give_something(shell):
    """Random weights find nobody above 0.5 for sure, so a threshold is left away here."""
    if missing := [name for name in ("jq", "xargs") if not shutil.which(name)]:
        pytest.skip(f"{', '.join(missing)} not installed")
    [line] = [line for recipe in RECIPES for line in recipe if "xargs" in line]
    done = shell("rm -rf found", line.replace("--min-score 0.5", ""))
    assert done.returncode == 0, done.stderr
    frames = shell.folder / "frames"
    found = sorted(path.relative_to(shell.folder / "found") for path in (shell.folder / "found").rglob("*.jpg"))
    assert found == sorted(Path("frames") / path.relative_to(frames) for path in frames.rglob("*.jpg"))
    table = shell(next(line for recipe in RECIPES for line in recipe if "@tsv" in line)).stdout.splitlines()
    assert len(table) == 5 and all(0 <= float(row.split("\t")[0]) <= 1 for row in table)


def test_what_is_not_run_is_there():
    """Targets of make, and the extras that are installed."""
    lines = [line for paragraph in shell_paragraphs(README) for line in paragraph]
    assert all(any(line.startswith(start) for line in lines) for start in NOT_RUN)
    for target in (line.split()[1] for line in lines if line.startswith("make")):
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0, target
    assert "\ntest = [" in (ROOT / "pyproject.toml").read_text()


def test_the_python_example_runs(weights, examples, frames, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(make_samples(tmp_path / "samples", examples, frames))
    monkeypatch.setenv("QEEPS_WEIGHTS", os.fspath(weights))
    [block] = python_blocks(README)
    names: dict = {}
    exec(block, names)
    assert isinstance(names["result"], qeeps_cli.SearchResult)
    assert len(capsys.readouterr().out.splitlines()) == 5
