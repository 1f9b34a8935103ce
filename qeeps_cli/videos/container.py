"""A video file, opened with PyAV; nothing else imports `av`.

FFmpeg also knows formats that are lists of other files and of addresses in the network (HLS, concat, DASH). A file of
somebody else's must not make us open those, so that only formats that hold a video themselves are read.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from qeeps_cli.errors import ImageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg"
_BUFFER = 1 << 18  # bytes that FFmpeg asks for at a time
_INSTALL = "reading videos needs PyAV, which is not installed: pip install 'qeeps-cli[video]'"


class VideoFile:
    """A video that is open until `close`. Of one thread at a time.

    Everything is read through one descriptor: of a file that is replaced meanwhile, the one that was opened. Raises
    ImageError for what is no file that can be read.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for a writer for ever
                raise ImageError(path, "expected a video, got a folder, pipe, socket or device")
            self._file: BinaryIO = open(path, "rb")
        except OSError as error:
            raise ImageError(path, f"cannot be read: {error.strerror or error}") from None
        except ValueError as error:  # a NUL in the path
            raise ImageError(path, f"is not a usable path: {error}") from None
        self.status = os.fstat(self._file.fileno())

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody wrote into the file since it was opened. Its being renamed or removed changes nothing."""
        now = os.fstat(self._file.fileno())
        return (now.st_size, now.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)

    @property
    def is_at_its_path(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            return os.path.samestat(os.stat(self.path), self.status)
        except OSError:
            return False

    def digest(self) -> str:
        """Hex blake2b-128 of the file's bytes, as of a picture's file."""
        place = self._file.tell()  # FFmpeg goes on from where it was
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        self._file.seek(place)
        return digest

    @contextmanager
    def opened(self) -> "Iterator[tuple[InputContainer, VideoStream]]":
        """The container, from its beginning, and its video. Raises ImageError for what holds none."""
        container = self.open()
        try:
            yield container, video_of(container, self.path)
        finally:
            container.close()

    def open(self) -> "InputContainer":
        """The container, from its beginning. Raises ImageError for what is no video."""
        try:
            import av
        except ImportError:
            raise ImageError(self.path, _INSTALL) from None
        if not self.status.st_size:
            raise ImageError(self.path, "the file is empty")
        self._file.seek(0)
        options = {"format_whitelist": _FORMATS}
        try:
            return av.open(
                self._file,
                container_options=options,
                metadata_errors="replace",
                buffer_size=_BUFFER,
                io_open=_refuse,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ImageError(
                self.path, f"expected a video, got something else, or one that is damaged or cut short ({reason})"
            ) from None


def video_of(container: "InputContainer", path: Path) -> "VideoStream":
    """The first video that is no picture of a cover, ready to be decoded. Raises ImageError."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise ImageError(path, "its video is of a kind that this FFmpeg cannot decode; convert it to H.264")
            stream.thread_type = "AUTO"
            return stream
    kind = "only sound" if container.streams.audio else "neither pictures nor sound"
    raise ImageError(path, f"expected a video, got a file that holds {kind}")


def _refuse(url: str, *_: object) -> None:
    raise PermissionError(f"a video may not open other files: {url}")
