"""The weights in the repository: whole, listed, and able to find a person in frames of a camera they never saw."""

from pathlib import Path

import numpy as np
import pytest

import qeeps_cli
from qeeps_cli.boxes import iou, xywh_to_xyxy
from qeeps_cli.weights import CHECKSUMS, file_digest, find_weights, read_checkpoint

CCTV = Path(__file__).parent.parent / "examples" / "cctv" / "frames"
QUERY = CCTV / "vtest_0550.jpg"
MAN = (169, 367, 226, 513)  # in a navy and red jacket, xyxy
SIGHTINGS = {"vtest_0050.jpg": (509, 220, 32, 85), "vtest_0650.jpg": (638, 192, 29, 86)}  # x,y,w,h, by eye
WITHOUT_HIM = "vtest_0400.jpg"


@pytest.fixture(scope="module")
def path(monkeypatch_module):
    monkeypatch_module.delenv("QEEPS_WEIGHTS", raising=False)
    return find_weights()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_the_default_is_listed_and_has_a_card(path):
    checkpoint = read_checkpoint(path)
    listed = dict(reversed(line.split()) for line in (path.parent / CHECKSUMS).read_text().splitlines())
    assert listed[path.name] == checkpoint.digest == file_digest(path)
    assert checkpoint.config.variant == "qeeps"
    assert "research" in checkpoint.card["terms"] and checkpoint.card["recipe"]["stages"]


def test_a_man_is_found_in_frames_of_an_unknown_camera(path):
    frames = [CCTV / name for name in [*SIGHTINGS, WITHOUT_HIM]]
    best = qeeps_cli.search(QUERY, frames, box=MAN, weights=path, device="cpu").best_of_frames()
    names = [Path(match.frame.name).name for match in best]
    assert names[-1] == WITHOUT_HIM, "the frame without him ranks last"
    for name, box in SIGHTINGS.items():
        found = best[names.index(name)]
        assert iou(np.array([found.box]), xywh_to_xyxy(np.array([box], float)))[0, 0] > 0.5
        assert found.score > best[-1].score + 0.2, "calibrated scores are far apart"
