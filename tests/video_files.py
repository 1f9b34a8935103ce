"""Short videos, made with PyAV."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

GREY_STEP = 8
RATE = 10
_BT709 = 1  # AVCOL_SPC_BT709


def greys(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """Pictures with some grain whose greys are GREY_STEP apart: `number_of` tells which one a frame is. size: width,
    height."""
    grain = np.random.default_rng(0).integers(-6, 7, (count, size[1] // 2, size[0] // 2, 1))
    grain = grain.repeat(2, axis=1).repeat(2, axis=2).repeat(3, axis=3)
    return [(GREY_STEP * (number + 1) + grain[number]).astype(np.uint8) for number in range(count)]


def number_of(rgb: np.ndarray) -> int:
    return round(float(rgb.mean()) / GREY_STEP) - 1


def make_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    times: Iterable[int] | None = None,
    movflags: str = "",
    colours: bool = False,
    is_hd: bool = False,
    b_frames: int = 2,
) -> Path:
    """times: of the pictures in milliseconds; None: RATE a second. A keyframe each ten pictures, and so many pictures
    in a row that refer to later ones. colours: keep them as they are, without halving their resolution. is_hd: mix them
    as in high definition, by BT.709, and say so."""
    height, width = pictures[0].shape[:2]
    unit = Fraction(1, RATE if path.suffix == ".avi" else 1000)  # AVI knows no times between those of its rate
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p" if colours else "yuv420p"
        stream.bit_rate = 8_000_000
        stream.options = {"g": "10", "bf": str(b_frames), "sc_threshold": "0"}
        if codec == "libx264":
            stream.options |= {"preset": "veryfast", "crf": "4"}
        if times is not None:
            stream.codec_context.time_base = unit
        if is_hd:
            stream.codec_context.colorspace = _BT709
        for number, rgb in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if is_hd:
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / 1000 / unit), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_sound(path: Path) -> Path:
    """A file of sound only."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The same MP4, to be shown turned. matrix: a point (x, y) is then at (a x + c y, b x + d y) for a, b, c, d."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # of version 0; a, b, u, c, d, v, x, y, w as 16.16 and 2.30 fixed point
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


def trim(path: Path, start: int, duration: int) -> Path:
    """The same MP4, of which only these milliseconds are to be shown, as phones trim videos: nothing is encoded."""
    data = bytearray(path.read_bytes())
    scale = int.from_bytes(data[(at := data.index(b"mdhd") + 16) : at + 4])  # units a second
    at = data.index(b"elst") + 12  # of version 0, the first entry: duration in milliseconds, start in those units
    begins = int.from_bytes(data[at + 4 : at + 8]) + start * scale // 1000
    data[at : at + 8] = np.array([duration, begins], ">i4").tobytes()
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """The first part of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path
