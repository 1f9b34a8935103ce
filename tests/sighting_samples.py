"""Results whose frames have names with a camera and a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from qeeps_cli.types import GalleryFrame, Match, Query, SearchResult, VideoMoment

PATTERN = "{camera}/%Y-%m-%d_%H-%M-%S"
START = datetime(2024, 5, 3, 23, 59, 50)
ROOT = Path("gallery")


def frame(name: str, seconds: float | None = None) -> GalleryFrame:
    """seconds: of a frame of a video, which is called like it: `a.mp4@00:00:02.500`."""
    if seconds is None:
        return GalleryFrame(ROOT / name, name)
    clock = f"00:{int(seconds) // 60:02}:{seconds % 60:06.3f}"
    return GalleryFrame(ROOT / name, f"{name}@{clock}", VideoMoment(seconds, round(seconds * 25)))


def dated(camera: str, seconds: int) -> GalleryFrame:
    """A frame so long after START, by its name, which PATTERN describes."""
    return frame(f"{camera}/{START + timedelta(seconds=seconds):%Y-%m-%d_%H-%M-%S}.jpg")


def result_of(frames: Sequence[GalleryFrame], scores: Sequence[float] = (), **fields) -> SearchResult:
    """A match in each frame, in the order of ranks; it scores 0.9 where no scores are given."""
    scores = scores or [0.9] * len(frames)
    matches = [
        Match(rank, one, (1.0, 2.0, 11.0, 22.0), score, 0.9)
        for rank, (one, score) in enumerate(zip(frames, scores, strict=True), start=1)
    ]
    gallery = list({one.name: one for one in frames}.values())
    given = {"parameters": {"top_k": None}, "frames": gallery, "best_score": max(scores, default=None)} | fields
    return SearchResult(Query(Path("q.jpg"), None, "0" * 32), matches, [], len(gallery), **given)
