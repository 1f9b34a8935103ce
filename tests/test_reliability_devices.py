"""The same person on a CPU and on a GPU (docs/reliability.md, row 48)."""

from pathlib import Path

import pytest

import qeeps_cli
from qeeps_cli.boxes import iou

QUERY, BOX = "vtest_0550.jpg", (169, 367, 226, 513)
OTHERS = ("vtest_0000.jpg", "vtest_0500.jpg", "vtest_0600.jpg")


@pytest.mark.gpu
def test_cpu_and_gpu_agree(examples: Path):
    """With the shipped weights: the same best match of each frame, scores that differ by their precision only."""
    folder = examples / "cctv" / "frames"
    gallery = [folder / name for name in OTHERS if (folder / name).exists()]
    cpu, gpu = (
        qeeps_cli.search(folder / QUERY, gallery, BOX, model=qeeps_cli.load_model(device=device), cache=False)
        for device in ("cpu", "cuda")
    )
    assert len(gallery) > 1 and len(cpu.best_of_frames()) == len(gpu.best_of_frames()) > 1
    best = {match.frame.name: match for match in gpu.best_of_frames()}
    for match in cpu.best_of_frames():
        other = best[match.frame.name]
        assert iou([match.box], [other.box])[0, 0] > 0.8 and match.score == pytest.approx(other.score, abs=0.05)
    assert cpu.matches[0].frame == gpu.matches[0].frame
