"""Frames of a video as upright RGB pixels."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qeeps_cli.errors import ImageError
from qeeps_cli.types import VideoMoment
from qeeps_cli.videos.container import VideoFile, video_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_SEEKABLE = ("mov", "matroska", "mpegts")  # in which each frame has a time stamp, the same wherever reading starts
_UNDECODABLE = "this frame of the video is damaged, and cannot be decoded"


class VideoDecoder:
    """Decodes frames of a video, best in ascending order: what lies between two of them is then decoded once, or passed
    by where a keyframe allows it. Only what is wanted becomes RGB.

    file: for its digest. Of one thread at a time. Raises ImageError as `VideoFile` does.
    """

    def __init__(self, path: Path, max_pixels: int):
        self.path = path
        self.max_pixels = max_pixels
        self.file = VideoFile(path)
        self._container: InputContainer | None = None
        self._shown: Iterator[_Shown] = iter(())
        self._last: _Shown | None = None  # what was decoded last
        self._seeks = True  # whether jumping to a keyframe works, and is of use
        self._counts = False

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._close_container()
        self.file.close()

    def read(self, moment: VideoMoment) -> np.ndarray:
        """(H, W, 3) uint8, turned as the file says. Raises ImageError for a frame that cannot be decoded, or has more
        than max_pixels pixels."""
        frame = self._find(moment)
        if frame.is_corrupt:
            raise ImageError(self.path, _UNDECODABLE)
        self._check_pixels(frame.width, frame.height)
        return np.ascontiguousarray(_upright(frame.to_ndarray(format="rgb24"), frame))

    def _find(self, moment: VideoMoment) -> "VideoFrame":
        if self._container is None:
            self._open()
        if self._must_jump(moment):
            self._jump(moment)
        wanted = self._place(moment)
        while self._last is None or self._last.place < wanted:
            following = next(self._shown, None)
            if following is None:
                break
            self._last = following
        if self._last is None or self._last.place != wanted:
            raise ImageError(self.path, _UNDECODABLE)
        return self._last.frame

    def _place(self, moment: VideoMoment) -> int:
        return moment.number if self._counts else moment.pts

    def _must_jump(self, moment: VideoMoment) -> bool:
        """Back; or to a keyframe ahead, over frames that nobody needs."""
        if self._last is None:
            return self._seeks and moment.number > 0
        return self._last.place > self._place(moment) or (self._seeks and self._last.place < moment.keyframe)

    def _jump(self, moment: VideoMoment) -> None:
        """To the frame's keyframe, or where that fails to the beginning."""
        before = self._last
        second = round(1 / self._stream.time_base)
        # Some containers look for the time at which a frame is decoded, which is earlier than when it is shown.
        for target in (moment.keyframe, moment.keyframe - second) if self._seeks else ():
            if self._seek(target) and self._last.place <= moment.pts:
                # Where seeking leads back instead of ahead, nothing is known of the places of keyframes.
                self._seeks = before is None or before.place > moment.pts or self._last.place > before.place
                return
        self._seeks = False
        self._open()

    def _seek(self, pts: int) -> bool:
        """Whether frames come from there, of which the first is now the last one that was decoded."""
        from av import FFmpegError

        with suppress(FFmpegError, OSError):
            self._container.seek(pts, stream=self._stream, backward=True)
            self._shown = self._decode(at_keyframe=False)
            self._last = next(self._shown, None)
            return self._last is not None
        return False

    def _open(self) -> None:
        """From the beginning."""
        self._close_container()
        container = self.file.open()
        try:
            self._stream = video_of(container, self.path)
            self._check_pixels(self._stream.codec_context.width, self._stream.codec_context.height)
        except ImageError:
            container.close()
            raise
        self._container, name = container, container.format.name
        # AVI does not say when frames are shown, and guesses are wrong: they are counted.
        self._counts = name == "avi"
        self._seeks = self._seeks and name.startswith(_SEEKABLE)
        self._shown, self._last = self._decode(at_keyframe=True), None

    def _close_container(self) -> None:
        self._shown, self._last = iter(()), None
        if self._container is not None:
            self._container.close()
        self._container = None

    def _decode(self, at_keyframe: bool) -> "Iterator[_Shown]":
        """The frames in the order in which they are shown, without those that cannot be decoded. at_keyframe: false:
        whatever comes before the next keyframe is of no use."""
        from av import FFmpegError

        packets, count = self._container.demux(self._stream), 0
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, OSError):  # the file ends in the middle of something
                packet = None
            if packet is None:
                return
            at_keyframe = at_keyframe or packet.is_keyframe
            if not at_keyframe:
                continue
            with suppress(FFmpegError):
                for frame in self._stream.decode(packet if packet.size else None):
                    time = frame.dts if frame.pts is None else frame.pts
                    yield _Shown(count if self._counts or time is None else time, frame)
                    count += 1

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise ImageError(
                self.path,
                f"its frames have {width}x{height} pixels, more than {self.max_pixels}; if it can be trusted, raise "
                "--max-pixels",
            )


class _Shown(NamedTuple):
    """place: the frame's time stamp, or its number where frames are counted."""

    place: int
    frame: "VideoFrame"


def _upright(rgb: np.ndarray, frame: "VideoFrame") -> np.ndarray:
    """The picture as a player shows it; (H, W, 3) uint8, a view. As for EXIF, only right angles and mirrors count."""
    if "DISPLAYMATRIX" not in frame.side_data.keys():
        return rgb
    # A point (x, y) is shown at (a x + c y, b x + d y); the matrix is a, b, 0, c, d, 0, and a shift.
    a, b, _, c, d = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    if abs(c) > abs(a):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
