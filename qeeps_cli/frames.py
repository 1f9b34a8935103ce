"""Pictures to search and to show, wherever they come from: a file that is one, or a moment of a video.

A moment of a video is named like a file, `video.mp4@00:12:34.560`: so it stands in results, and so it may be a query.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from qeeps_cli.clock import parse_clock, to_milliseconds
from qeeps_cli.errors import ImageError, UsageError
from qeeps_cli.gallery import is_video_name
from qeeps_cli.images import MAX_PIXELS, read_image, read_size
from qeeps_cli.types import Decoded, GalleryFrame, VideoMoment
from qeeps_cli.videos import Timeline, VideoDecoder, read_timeline

Place = GalleryFrame | Path  # a frame, or the path of a picture or of a moment of a video


def path_of(place: Place) -> Path:
    """The path of a picture; of a video's frame, the video's and the moment."""
    if not isinstance(place, GalleryFrame):
        return place
    return place.path if place.moment is None else Path(f"{place.path}@{place.moment.clock}")


def exists(place: Path) -> bool:
    """Whether there is a file, or a video that such a place names a moment of."""
    return os.path.isfile(place) or (split_place(place) is not None)


def split_place(place: Path) -> tuple[Path, str] | None:
    """`video.mp4@00:12:34.560` as the video and the moment; None where there is no such video, or a file of the whole
    name."""
    video, _, moment = os.fspath(place).rpartition("@")
    if not video or not is_video_name(video) or os.path.lexists(place) or not os.path.isfile(video):
        return None
    return Path(video), moment


def find_frame(place: Path, timeline_of: Callable[[Path], Timeline] = read_timeline) -> GalleryFrame:
    """A picture by its path, or a frame of a video by `video.mp4@00:12:34.560`, for which the video is read but not
    decoded. What is neither is found only when it is read. Raises ImageError for a moment that the video does not have.
    """
    place = Path(place)
    if (parts := split_place(place)) is None:
        return GalleryFrame(place, os.fspath(place))
    video, text = parts
    try:
        milliseconds = parse_clock(text, f"what follows {video.name}@")
    except UsageError as error:
        raise ImageError(place, str(error)) from None
    timeline = timeline_of(video)
    moment = timeline.at(milliseconds)
    if moment is None:
        raise ImageError(place, f"the video has no such moment: its last frame is at {timeline.end}")
    return GalleryFrame(video, f"{video}@{moment.clock}", moment)


def frame_digest(file_digest: str, moment: VideoMoment | None) -> str:
    """By which a frame is known: its file's digest, and of a video's frame one that follows from that of the video and
    the frame's time stamp."""
    if moment is None:
        return file_digest
    content = b"qeeps video frame" + bytes.fromhex(file_digest) + moment.pts.to_bytes(8, "little", signed=True)
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def in_reading_order(places: Iterable[Place]) -> list[Place]:
    """Each once, in their order but for those of a video, which stand together and ascend."""
    files: dict[Path, dict[Place, int]] = {}
    for place in places:
        path, time = _file_and_time(place)
        files.setdefault(path, {})[place] = time
    return [place for times in files.values() for place in sorted(times, key=times.get)]


def _file_and_time(place: Place) -> tuple[Path, int]:
    """time: in milliseconds; 0 of what is no moment of a video."""
    if isinstance(place, GalleryFrame):
        return place.path, to_milliseconds(place.moment.seconds) if place.moment else 0
    parts = split_place(place)
    with suppress(UsageError):
        return (parts[0], parse_clock(parts[1])) if parts else (place, 0)
    return place, 0


def read_frame(place: Place, max_pixels: int = MAX_PIXELS) -> Decoded:
    """One frame, with its digest. Raises ImageError for whatever cannot be decoded."""
    with FrameReader(max_pixels) as reader:
        return reader.read(place, with_digest=True)


def read_frame_size(frame: GalleryFrame) -> tuple[int, int]:
    """(height, width) of the upright frame. Raises ImageError where there is no size to read."""
    if frame.moment is None:
        return read_size(frame.path)
    with FrameReader(max_pixels=2**40) as reader:
        return reader.read(frame).size


class FrameReader:
    """Reads frames, best those of a video one after the other: the last video stays open.

    Of one thread at a time. Use it as a context manager.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS):
        self.max_pixels = max_pixels
        self._video: VideoDecoder | None = None
        self._digest: str | None = None  # of that video, where it was asked for
        self._timeline_of = lru_cache(1)(read_timeline)

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, place: Place, *, with_digest: bool = False) -> Decoded:
        """place: a frame, or what `find_frame` takes. with_digest: false: a video is not read whole for it, and the
        digest of its frame is empty. Raises ImageError for whatever cannot be decoded."""
        frame = place if isinstance(place, GalleryFrame) else find_frame(place, self._timeline_of)
        if frame.moment is None:
            if is_video_name(frame.path.name):
                raise ImageError(frame.path, _name_a_moment(frame.path))
            return read_image(frame.path, self.max_pixels)
        if self._video is None or self._video.path != frame.path:
            self.close()
            self._video = VideoDecoder(frame.path, self.max_pixels)
        rgb = self._video.read(frame.moment)
        if not with_digest:
            return Decoded(rgb, "")
        if self._digest is None or not self._video.file.is_unchanged:
            self._digest = self._video.file.digest()
        return Decoded(rgb, frame_digest(self._digest, frame.moment))

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = self._digest = None


def _name_a_moment(path: Path) -> str:
    return f"expected a picture, got a video; name a moment of it, such as {path.name}@00:01:02"
