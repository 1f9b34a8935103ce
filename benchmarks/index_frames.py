"""Frames a second of `qeeps index`, against what one would use instead.

    python benchmarks/index_frames.py
    python benchmarks/index_frames.py --teachers DIR     also person-detection-retail-0013 + person-reidentification-
                                                         retail-0277 (OpenVINO models in DIR; pip install openvino)
    python benchmarks/index_frames.py --beside FILE      also with other weights

All run in turn on the same decoded frames, one at a time. torchvision's fasterrcnn_resnet50_fpn sees the frames at the
same size; its weights are random, which does not change its work: it takes 1,000 proposals whatever it sees. It finds
people but has no embeddings to tell them apart. OpenVINO's pair does, at its own fixed sizes.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from timing import interleaved, pictures, table

from qeeps_cli.device import describe, resolve_device
from qeeps_cli.images import resize
from qeeps_cli.model.preprocess import prepare_frame
from qeeps_cli.searching.loading import load_engine


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--weights")
    options.add_argument("--beside", nargs="+", default=[], help="other weights")
    options.add_argument("--device", default="auto")
    options.add_argument("--frames", type=int, default=8)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--teachers", type=Path)
    given = options.parse_args()
    frames = pictures(given.frames)
    engine, _ = load_engine(given.weights, given.device)
    contenders: dict[str, Callable[[], None]] = {
        "qeeps": lambda: [engine.detect([rgb]) for rgb in frames],
        "torchvision fasterrcnn_resnet50_fpn": fasterrcnn(frames, engine),
    }
    for weights in given.beside:
        other, checkpoint = load_engine(weights, given.device)
        contenders[f"qeeps with {checkpoint.digest[:8]}"] = lambda other=other: [other.detect([rgb]) for rgb in frames]
    if given.teachers:
        contenders["OpenVINO 0013 + 0277"] = openvino_pair(frames, given.teachers)
    seconds = interleaved(contenders, given.rounds)
    ours = seconds["qeeps"]
    rows = [
        [name, f"{1000 * value / len(frames):.0f}", f"{len(frames) / value:.1f}", f"{value / ours:.2f}×"]
        for name, value in seconds.items()
    ]
    height, width = frames[0].shape[:2]
    print(f"{describe(resolve_device(given.device))}; frames of {height}×{width}; torch {torch.__version__}\n")
    print(table(["", "ms a frame", "frames a second", "of qeeps' time"], rows))


def fasterrcnn(frames: list[np.ndarray], engine) -> Callable[[], None]:
    shorter, longest = engine.model.config.shorter_side, engine.model.config.longest_side
    detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=shorter, max_size=longest
    )
    detector.eval().to(engine.device)
    inputs = [prepare_frame(rgb, engine.model.config)[0].to(engine.device) for rgb in frames]

    @torch.inference_mode()
    def run() -> None:
        for image in inputs:
            detector([image])

    return run


def openvino_pair(frames: list[np.ndarray], folder: Path) -> Callable[[], None]:
    """Detection at 0.3, then an embedding of each person, as their documentation says."""
    import openvino

    core = openvino.Core()
    detector = core.compile_model(folder / "person-detection-retail-0013.xml", "CPU")
    embedder = core.compile_model(folder / "person-reidentification-retail-0277.xml", "CPU")

    def planes(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
        scaled = resize(np.ascontiguousarray(rgb), height, width)
        return np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1)[None], np.float32)

    def run() -> None:
        for rgb in frames:
            height, width = rgb.shape[:2]
            rows = detector([planes(rgb, 320, 544)])[0].reshape(-1, 7)
            for row in rows[(rows[:, 0] >= 0) & (rows[:, 2] >= 0.3)]:
                x1, y1, x2, y2 = (np.clip(row[3:7], 0, 1) * [width, height, width, height]).astype(int)
                if x2 > x1 and y2 > y1:
                    embedder([planes(rgb[y1:y2, x1:x2], 256, 128)])

    return run


if __name__ == "__main__":
    main()
