"""The few dataclasses that travel between floors. Plain data: numpy and the standard library only.

Boxes here are float `xyxy` pixels of the upright image (EXIF orientation applied); `x,y,w,h` exists only at the border
(command line, JSON), converted by `boxes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from qeeps_cli.clock import format_clock, to_milliseconds

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Decoded:
    """One decoded picture.

    rgb: (H, W, 3) uint8, upright. digest: hex blake2b-128 of the file's bytes. note: what was unusual about the file
    and is worth telling ("animated: first frame used"), else None.
    """

    rgb: np.ndarray
    digest: str
    note: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True)
class VideoMoment:
    """Where in a video a frame stands. seconds: since the video's first frame. number: of the frame, from 0. pts: its
    time stamp; keyframe: that of the keyframe from which it is decoded; both in the video's own units of time."""

    seconds: float
    number: int
    pts: int = 0
    keyframe: int = 0

    @property
    def clock(self) -> str:
        """`00:12:34.560`, which no other frame of the video has."""
        return format_clock(to_milliseconds(self.seconds))


@dataclass(frozen=True)
class GalleryFrame:
    """A gallery image that has not been decoded yet. name: the path relative to the gallery's root, as results show
    it. moment: of a frame of a video, whose file is then `path`; the name ends in `@` and the moment's clock."""

    path: Path
    name: str
    moment: VideoMoment | None = None

    @property
    def file_name(self) -> str:
        """The name without the moment: of a video's frame, the video's."""
        return self.name if self.moment is None else self.name.removesuffix(f"@{self.moment.clock}")


@dataclass(frozen=True)
class Query:
    """The person to find. box: xyxy pixels of the upright query image; None: the whole image is the person's crop."""

    image: Path
    box: Box | None
    digest: str = ""


@dataclass(frozen=True)
class Detections:
    """People found in one frame.

    boxes: (N, 4) float32 xyxy pixels of the upright original frame, 0 ≤ x1 < x2 ≤ W. person_scores: (N,) float32,
    ClsNet's probability of a person. scores: (N,) float32, the match with the query (QSimNet's probability, or the
    cosine where the variant has no QSimNet), descending; equal to person_scores where no query was given. embeddings:
    (N, D) float32, L2-normalised. proposals: (P, 4) float32 xyxy pixels, what the RoI head looked at; None unless they
    were asked for.
    """

    boxes: np.ndarray
    person_scores: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray
    proposals: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Match:
    """One ranked answer. rank counts from 1, and is 0 where no ranking exists yet; box is xyxy pixels of the upright
    frame."""

    rank: int
    frame: GalleryFrame
    box: Box
    score: float
    person_score: float


@dataclass(frozen=True)
class Sighting:
    """Consecutive matches of the person in one camera.

    clock: what first and last are read from. "date": `datetime`, naive (the camera's own local time) unless its source
    names a time zone. "start": seconds since the video began, float. "number": the frame's number, by its name, int.
    "order": its place among the searched frames of the camera, from 1, int. matches: one of each frame, by time.
    """

    camera: str
    clock: str
    first: datetime | float | int
    last: datetime | float | int
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match:
        """The match of the first rank."""
        return min(self.matches, key=lambda match: match.rank)

    @property
    def seconds(self) -> float | None:
        """From first to last; None where frames are only counted."""
        if isinstance(self.first, datetime):
            return (self.last - self.first).total_seconds()
        return self.last - self.first if self.clock == "start" else None


@dataclass(frozen=True)
class Skipped:
    """An input that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    matches: of all frames, in descending score (ties: the order of the gallery, then box). notes: unusual but harmless
    facts, for the summary. parameters: everything that changes the result, as JSON types. best_score: of anybody in the
    frames, also of somebody whom `min_score` dropped; None where nobody was found. frames: the gallery in its order,
    with those that could not be used. sightings: None where they were not asked for.
    """

    query: Query
    matches: list[Match]
    skipped: list[Skipped]
    frames_searched: int
    parameters: dict
    notes: list[str] = field(default_factory=list)
    best_score: float | None = None
    frames: Sequence[GalleryFrame] = field(default=(), compare=False, repr=False)
    sightings: tuple[Sighting, ...] | None = None

    def best_of_frames(self) -> list[Match]:
        """Each frame's best match, by rank: a person is in a frame once, so the others there are somebody else."""
        best: dict[GalleryFrame, Match] = {}
        for match in sorted(self.matches, key=lambda match: match.rank):
            best.setdefault(match.frame, match)
        return list(best.values())


@dataclass(frozen=True)
class LabelledFrame:
    """A frame of a dataset with its people.

    boxes: (N, 4) float32 xyxy pixels. person_ids: (N,) int64, -1 for a person of unknown identity; local to the set.
    ignore: (N,) bool, true: count neither as person nor as background. camera, time: for protocols that need them.
    """

    path: Path
    name: str
    boxes: np.ndarray
    person_ids: np.ndarray
    ignore: np.ndarray
    width: int = 0
    height: int = 0
    camera: str = ""
    time: float | None = None


@dataclass(frozen=True)
class LabelledQuery:
    """A benchmark's query.

    gallery: names of the frames to search, in order (may repeat); the query's own is left out. truth: (position in the
    gallery, box) of the person where the protocol itself lists them, as CUHK-SYSU's does; None: see the frames' labels.
    """

    name: str
    path: Path
    box: Box
    person_id: int
    gallery: tuple[str, ...]
    truth: tuple[tuple[int, Box], ...] | None = None


@dataclass(frozen=True)
class LabelledCrop:
    """One picture that is a person's crop, as re-identification sets have them."""

    path: Path
    person_id: int
    camera: str
