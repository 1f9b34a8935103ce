"""When the frames of a video are shown, without decoding any: the time stamps of its packets."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qeeps_cli.clock import format_clock, to_milliseconds
from qeeps_cli.errors import ImageError
from qeeps_cli.types import VideoMoment
from qeeps_cli.videos.container import VideoFile

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_SLACK = 1.0  # seconds by which a whole video may end before its header says
_MP4_SLACK = 0.1


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in the order in which they are shown; one for each millisecond at most.

    numbers: (N,) int64, counted from 0 over all frames. pts: (N,) int64, the time stamps; unit: seconds of one.
    milliseconds: (N,) int64 since the first frame, ascending. keyframes: (K,) int64, the time stamps of the keyframes.
    lost: what of the video is missing or damaged, for people; None: nothing.
    """

    numbers: np.ndarray
    pts: np.ndarray
    milliseconds: np.ndarray
    keyframes: np.ndarray
    unit: float
    lost: str | None = None

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def end(self) -> str:
        """`00:12:34.560`, of the last frame."""
        return format_clock(int(self.milliseconds[-1]))

    def moments(self, places: np.ndarray) -> "Moments":
        """Some of the frames: (n,) ascending places among them."""
        pts = self.pts[places]
        keyframes = self.keyframes[np.searchsorted(self.keyframes, pts, side="right") - 1]
        return Moments(self.numbers[places], pts, (pts - self.pts[0]) * self.unit, keyframes)

    def at(self, milliseconds: int) -> VideoMoment | None:
        """The frame that is shown then; None: the video has ended."""
        place = int(np.searchsorted(self.milliseconds, milliseconds, side="right")) - 1
        last = self.milliseconds[-1] + (self.milliseconds[-1] - self.milliseconds[-2] if len(self) > 1 else 0)
        return None if milliseconds > last else self.moments(np.array([place]))[0]


@dataclass(frozen=True, eq=False)
class Moments(Sequence[VideoMoment]):
    """Frames of one video, in ascending order, 32 bytes each.

    numbers, pts, keyframes: (n,) int64, as in `VideoMoment`. seconds: (n,) float64.
    """

    numbers: np.ndarray
    pts: np.ndarray
    seconds: np.ndarray
    keyframes: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Moments(self.numbers[index], self.pts[index], self.seconds[index], self.keyframes[index])
        columns = self.seconds, self.numbers, self.pts, self.keyframes
        return VideoMoment(*(column[index].item() for column in columns))


def read_timeline(path: Path) -> Timeline:
    """Reads the whole file, and decodes nothing. Raises ImageError where no frame of it can be shown."""
    with VideoFile(path) as file, file.opened() as (container, stream):
        packets = _Packets(container, stream)
        return packets.timeline(path)


class _Packets:
    """What the packets of a container say. Those that are damaged, and those before the first keyframe, of a recording
    that begins in the middle of something, cannot be shown."""

    def __init__(self, container: "InputContainer", stream: "VideoStream"):
        self.container = container
        self.stream = stream
        self.unit = float(stream.time_base)
        self.pts, self.keyframes = array("q"), array("q")
        self.count = self.damaged = 0
        self.end = 0.0  # seconds at which sound or pictures end
        self.error: str | None = None
        self._read()

    def timeline(self, path: Path) -> Timeline:
        pts = np.unique(np.array(self.pts, np.int64))
        keyframes = np.unique(np.array(self.keyframes, np.int64)) if self.keyframes else pts[:1]
        pts = pts[pts >= keyframes[0]] if len(pts) else pts
        if not len(pts):
            raise ImageError(path, f"holds no frame that can be shown ({self._lost(0.0) or 'it has none'})")
        milliseconds = np.floor((pts - pts[0]) * self.unit * 1000 + 0.5).astype(np.int64)
        kept = np.flatnonzero(np.diff(milliseconds, prepend=-1))
        lost = self._lost(milliseconds[-1] / 1000)
        return Timeline(kept, pts[kept], milliseconds[kept], keyframes, self.unit, lost)

    def _read(self) -> None:
        from av import FFmpegError

        try:
            for packet in self.container.demux():
                if packet.pts is None and packet.dts is None:  # the end of a stream
                    continue
                self._see_end(packet)
                if packet.stream_index == self.stream.index:
                    self.count += 1
                    if packet.is_corrupt:
                        self.damaged += 1
                    elif packet.size:  # AVI says "nothing new" by a packet without data
                        self._see(packet)
        except (FFmpegError, OSError) as error:
            self.error = str(error)

    def _see(self, packet: "Packet") -> None:
        pts = packet.dts if packet.pts is None else packet.pts
        if not packet.is_discard:  # of a video that was cut without encoding it anew, some are decoded but never shown
            self.pts.append(pts)
        if packet.is_keyframe:
            self.keyframes.append(pts)

    def _see_end(self, packet: "Packet") -> None:
        if packet.stream.type in ("video", "audio") and packet.pts is not None:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.stream.time_base))

    def _lost(self, last: float) -> str | None:
        """last: seconds of the last frame."""
        until = f"its frames up to {format_clock(to_milliseconds(last))} can be searched"
        name, whole = self.container.format.name, (self.container.duration or 0) / 1e6
        # The header of an AVI counts moments at which nothing new is shown too, that of an MP4 what was trimmed away.
        ends = self.stream.frames * self.unit - _SLACK if name == "avi" else whole - _MP4_SLACK
        if self.count < self.stream.frames and self.end < ends:
            return f"cut short: {self.count} of {self.stream.frames} frames are there; {until}"
        if name.startswith("matroska") and self.end + _SLACK < whole:
            return f"cut short: it should end at {format_clock(to_milliseconds(whole))}; {until}"
        if self.error:
            return f"damaged or cut short ({self.error}); {until}"
        if self.damaged:
            return f"damaged: {self.damaged} of {self.count} frames cannot be used"
        return None
