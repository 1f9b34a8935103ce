"""docs/cache.md: its commands and its reader run, and its numbers are those of the format."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cache_samples import FINGERPRINT, SIZE, digest, fill, found, refuse, segments

from qeeps_cli.cache.columns import KINDS
from qeeps_cli.cache.segment import SCHEMA
from qeeps_cli.cache.store import Cache

pytest_plugins = ["preloaded"]

PAGE = (Path(__file__).parents[1] / "docs" / "cache.md").read_text()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "frames.qeeps"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_run(folder, preloaded):
    fill(folder, "ab")
    [console] = blocks("console")
    lines = [line.removeprefix("$ ") for line in console.splitlines()]
    assert len(lines) == 4
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "qeeps"
        done = preloaded.run(*arguments, cwd=folder.parent)
        assert done.returncode == 0, done.stderr.decode()
    assert not folder.exists()


def test_the_reader_reads(folder):
    people = {name: found(name, number) for number, name in enumerate("abcd")}
    with Cache(folder, warn=refuse) as cache:
        store = cache.frames(FINGERPRINT)
        for name in people:
            store.add(digest(name), name, SIZE, found(name, 1), replace=True)
            cache.flush()
        for name, frame in people.items():
            store.add(digest(name), name, SIZE, frame, replace=True)
    os.truncate(segments(folder)[0], 1000)
    with Cache(folder, warn=lambda warning: None) as cache:
        store = cache.frames(FINGERPRINT)
        best = {name: store.get(digest(name)) for name in people if digest(name) in store}
    [reader] = blocks("python")
    done = subprocess.run([sys.executable, "-c", reader, folder], capture_output=True, text=True, check=True)
    expected = [
        f"{name} {frame.boxes[frame.person_scores.argmax()].round()} {frame.person_scores.max().round(3)!s}"
        for name, frame in best.items()
        if len(frame)
    ]
    assert sorted(done.stdout.splitlines()) == sorted(expected) and expected


def test_the_format_is_as_documented():
    names = {name for kind in KINDS.values() for name in (*(column.name for column in kind.columns), *kind.offsets)}
    table = PAGE.split("| dataset |")[1]
    assert names == set(re.findall("`([a-z_]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    assert f"## The format: schema {SCHEMA}\n" in PAGE


@pytest.mark.parametrize(("kind", "row", "detection"), [("frames", 65, 532), ("pairs", 121, 24), ("files", 72, None)])
def test_the_sizes_are_as_documented(kind, row, detection):
    columns = KINDS[kind].columns
    of_row = 8 * len(KINDS[kind].offsets)
    of_detection = 0
    for column in columns:
        size = np.dtype(column.dtype).itemsize * int(np.prod([256 if n == -1 else n for n in column.shape]))
        of_row += size if column.offsets is None else 0
        of_detection += size if column.offsets == "offsets" else 0
    assert of_row == row and of_detection == (detection or 0)
    assert str(row) in PAGE and (detection is None or str(detection) in PAGE)
