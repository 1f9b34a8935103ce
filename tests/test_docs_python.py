"""docs/python.md: its examples run one after the other, and its tables are those of the code."""

import dataclasses
import os
import re

import pytest
from docs_pages import ROOT, python_blocks
from docs_samples import make_samples

import qeeps_cli
from qeeps_cli import errors
from qeeps_cli.keywords import DEFAULTS

pytest_plugins = ["cli_fixtures"]

PAGE = ROOT / "docs" / "python.md"
TEXT = PAGE.read_text()


def rows(section: str) -> list[list[str]]:
    """Cells of the table in a section, without its head."""
    table = re.findall(r"^\|.*\|$", TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)(?:\(\))?`", cell)


def test_the_examples_run(weights, examples, frames, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(make_samples(tmp_path / "samples", examples, frames))
    monkeypatch.setenv("QEEPS_WEIGHTS", os.fspath(weights))
    known: dict = {}
    printed = []
    for block in python_blocks(PAGE):
        exec(block, known)
        printed.append(capsys.readouterr().out)
    by_rank, by_what, people, galleries, found, seen, quick, boxes, failed = printed
    assert not by_what and not galleries and not quick
    assert [line.split()[0] for line in by_rank.splitlines()][0] == "1" and len(by_rank.splitlines()) == 3
    assert len(people.splitlines()) == 3 and people.splitlines()[2].startswith("crop.png None")
    assert known["by_crop"].query.box is None and known["by_number"].query.box is not None
    assert known["some"].frames_searched == 2 and known["listed"].frames_searched == 2
    assert not found or re.fullmatch(r"not found in 3 frames; the best candidate scored 0\.\d+\n", found)
    sightings = qeeps_cli.find_sightings(known["by_box"], score=0, time_pattern="vtest_{frame/10}")
    assert [(one.camera, one.first, one.last) for one in sightings] == [("frames/", 0.0, 5.0), ("later", 10.0, 10.0)]
    assert len(seen.splitlines()) <= 2 and all(line.split()[0] in ("frames/", "later") for line in seen.splitlines())
    assert known["quick"].proposals == known["result"].parameters["proposals"] == 100
    assert boxes.startswith("[") and "absent.jpg" in failed and "(exit code 2)" in failed


def test_the_arguments_are_all_there():
    told = {name: default for cell, default, _ in rows("Arguments") for name in names(cell)}
    assert {name: default.strip("`").replace('"', "'") for name, default in told.items()} == {
        name: repr(default) for name, default in DEFAULTS.items()
    }


def test_the_results_are_all_there():
    told = {name for cell, _ in rows("Results") for name in names(cell)}
    assert told == {field.name for field in dataclasses.fields(qeeps_cli.SearchResult)} | {"best_of_frames"}
    section = TEXT.split("\n## Results\n")[1].split("\n## ")[0]
    for kind in (qeeps_cli.Match, qeeps_cli.Query, qeeps_cli.Skipped, qeeps_cli.GalleryFrame):
        assert {field.name for field in dataclasses.fields(kind)} <= set(names(section)), kind


def test_the_parameters_of_the_network_are_all_there():
    section = TEXT.split("\n## What the network may do differently\n")[1].split("\n## ")[0]
    assert {field.name for field in dataclasses.fields(qeeps_cli.InferenceParams)} <= set(names(section))


def test_the_errors_are_all_there():
    told = {names(cell)[0]: int(code) for cell, code, _ in rows("Errors")}
    of_datasets = {"DataError"}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.QeepsError)]
    assert told == {
        kind.__name__: kind.exit_code for kind in kinds if kind.__name__ not in {"QeepsError", *of_datasets}
    }


def test_a_wheel_is_typed(tmp_path):
    """py.typed, and the page that `qeeps report` fills."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, which builds the wheel, not installed")
    from zipfile import ZipFile

    [path] = wheel.WheelBuilder(os.fspath(ROOT)).build(directory=os.fspath(tmp_path), versions=["standard"])
    with ZipFile(path) as archive:
        assert {"qeeps_cli/py.typed", "qeeps_cli/output/report_static/page.html"} <= set(archive.namelist())
