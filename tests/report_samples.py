"""Results to make reports of: small pictures under awkward names, and what a search might have found in them."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from qeeps_cli.images import read_image
from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult, Skipped

WEIGHTS = {"name": "tiny", "digest": "sha256:00ff"}
SCRIPT = "<script>alert(1)</script><!--.jpg"  # as far as it is one name: a slash ends a folder's
BYTES = os.fsdecode(b"caf\xe9\n\"'&.jpg")
NAMES = ["a/1.jpg", "b/1.jpg", SCRIPT, BYTES, "plain.png"]
SCORES = [0.91, 0.8, 0.72, 0.55, 0.31]


def make_gallery(folder: Path) -> Path:
    """The frames NAMES in folder/gallery, and folder/q.png."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / "gallery" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((120, 200, 3), rng.integers(60, 220, 3), np.uint8)
        pixels[20:100, 40:80] = rng.integers(0, 255, 3)
        Image.fromarray(pixels).save(path, "PNG" if name.endswith(".png") else "JPEG")
    Image.new("RGB", (80, 60), "teal").save(folder / "q.png")
    return folder / "gallery"


def make_result(folder: Path, scores: list[float] = SCORES, each: int = 2) -> SearchResult:
    """Each frame of `make_gallery` has `each` matches; the frames' best ones rank first."""
    gallery = folder / "gallery"
    frames = [GalleryFrame(gallery / name, name) for name in NAMES[: len(scores)]] * each
    all_scores = [score / (1 + number) for number in range(each) for score in scores]
    matches = [
        Match(rank, frame, (30.0 + rank, 20.0, 75.0 + rank, 100.0), score, 0.9)
        for rank, (frame, score) in enumerate(zip(frames, all_scores, strict=True), start=1)
    ]
    query = Query(folder / "q.png", (5.0, 5.0, 30.0, 55.0), read_image(folder / "q.png").digest)
    skipped = [Skipped(f"broken{SCRIPT}", "damaged <b>")]
    parameters = {"gallery": [str(gallery)], "nms": 0.4}
    best = all_scores[0] if matches else 0.12
    return SearchResult(query, matches, skipped, len(NAMES), parameters, ["a note <i>"], best)
