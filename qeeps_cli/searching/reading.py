"""Frames on their way from the disk: those that are stored already are not decoded, the others ahead, in threads."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from qeeps_cli.cache.detections import About
from qeeps_cli.cache.store import Cache, FrameStore, PairStore
from qeeps_cli.cores import usable_cores
from qeeps_cli.errors import ImageError
from qeeps_cli.frames import frame_digest
from qeeps_cli.images import ImageFile, decode_image, read_file
from qeeps_cli.types import Decoded, GalleryFrame
from qeeps_cli.videos import VideoDecoder

MOST_THREADS = 8
MOST_WAITING = 64  # frames in a batch that need no work but wait for their turn

Read = Callable[[GalleryFrame, int], ImageFile]


def read_frame(frame: GalleryFrame, max_pixels: int) -> ImageFile:
    """The bytes of a frame's file. Raises ImageError as `read_file` does."""
    return read_file(frame.path, max_pixels)


@dataclass(frozen=True)
class ReadFrame:
    """One of three: decoded; or stored, with what is known of it; or broken, with the reason."""

    frame: GalleryFrame
    digest: str = ""
    decoded: Decoded | None = None
    stored: Any = None
    broken: str | None = None


class _Hashed(NamedTuple):
    """A file whose digest the cache may remember; the arguments of `Cache.remember`."""

    path: Path
    status: os.stat_result
    digest: str
    taken_ns: int


Find = Callable[[GalleryFrame, str], Any]
Answer = tuple[ReadFrame, _Hashed | None]


def read_frames(
    frames: Iterable[GalleryFrame],
    find: Find,
    cache: Cache | None,
    *,
    ahead: int,
    max_pixels: int,
    read_bytes: Read = read_frame,
) -> Iterator[ReadFrame]:
    """The frames in their order.

    find: what is stored of a frame of this digest, None where something has to be computed; called in the threads too.
    cache: is asked for the digests of files that have not changed, and told those of files that were read; a file that
    changes while it is read gives the digest of the bytes that were decoded. ahead: how many frames at most wait
    decoded. read_bytes: gives a picture's bytes, or raises ImageError; videos are files.
    """

    def finish(item: ReadFrame | Future) -> ReadFrame:
        if isinstance(item, ReadFrame):
            return item
        result, hashed = item.result()
        if cache is not None and hashed is not None:
            cache.remember(*hashed[:3], taken_ns=hashed.taken_ns)
        return result

    waiting: deque[ReadFrame | Future] = deque()
    pool = ThreadPoolExecutor(min(MOST_THREADS, usable_cores()))
    video: _Video | None = None
    try:
        for frame in frames:
            if frame.moment is not None:
                if video is None or video.path != frame.path:
                    if video is not None:
                        video.finish()
                    video = _Video(frame.path, find, cache, max_pixels)
                waiting.append(video.read(frame))
            else:
                digest = cache.digest_of(frame.path) if cache is not None else None
                stored = find(frame, digest) if digest is not None else None
                known = ReadFrame(frame, digest, stored=stored) if stored is not None else None
                waiting.append(known or pool.submit(_read_picture, frame, find, max_pixels, read_bytes))
            while waiting and (len(waiting) > ahead or isinstance(waiting[0], ReadFrame)):
                yield finish(waiting.popleft())
        while waiting:
            yield finish(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)
        if video is not None:
            video.finish(cancel=True)


def _read_picture(frame: GalleryFrame, find: Find, max_pixels: int, read_bytes: Read) -> Answer:
    try:
        file = read_bytes(frame, max_pixels)
        hashed = _Hashed(file.path, file.status, file.digest, file.read_at) if file.status is not None else None
        if (stored := find(frame, file.digest)) is not None:
            return ReadFrame(frame, file.digest, stored=stored), hashed
        return ReadFrame(frame, file.digest, decode_image(file, max_pixels)), hashed
    except ImageError as error:
        return ReadFrame(frame, broken=error.reason), None


class _Video:
    """A video whose frames are read in their order, in a thread of its own.

    What the thread opens stays open until `finish`. A video that is written to meanwhile gives frames all the same;
    they are then known by their pixels, and not under the digest of a file that is no more.
    """

    def __init__(self, path: Path, find: Find, cache: Cache | None, max_pixels: int):
        self.path = path
        self._find = find
        self._cache = cache
        self._max_pixels = max_pixels
        self._digest = cache.digest_of(path) if cache is not None else None
        self._decoder: VideoDecoder | None = None
        self._thread = ThreadPoolExecutor(1)

    def read(self, frame: GalleryFrame) -> ReadFrame | Future:
        if self._digest is not None:
            digest = frame_digest(self._digest, frame.moment)
            if (stored := self._find(frame, digest)) is not None:
                return ReadFrame(frame, digest, stored=stored)
        return self._thread.submit(self._read, frame)

    def finish(self, cancel: bool = False) -> None:
        """After the frames that were asked for, or, with cancel, without them."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=cancel, cancel_futures=cancel)
        if cancel:
            self._close()

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()

    def _read(self, frame: GalleryFrame) -> Answer:
        hashed = None
        try:
            hashed = self._open() if self._decoder is None else None
            digest = frame_digest(self._digest, frame.moment)
            if (stored := self._find(frame, digest)) is not None:
                return ReadFrame(frame, digest, stored=stored), hashed
            rgb = self._decoder.read(frame.moment)
        except ImageError as error:
            return ReadFrame(frame, broken=error.reason), hashed
        if not self._decoder.file.is_unchanged:
            digest, hashed = hashlib.blake2b(rgb, digest_size=16).hexdigest(), None
        return ReadFrame(frame, digest, Decoded(rgb, digest)), hashed

    def _open(self) -> _Hashed | None:
        """Its digest is then known; what the cache may remember of it, None: it knows that already."""
        began = time.time_ns()
        decoder = VideoDecoder(self.path, self._max_pixels)
        file = decoder.file
        known = self._digest if self._cache is not None else None
        if known is None or not file.is_at_its_path or self._cache.digest_of(self.path) != known:
            self._digest = file.digest()
        self._decoder = decoder
        trusted = file.is_unchanged and file.is_at_its_path
        return _Hashed(self.path, file.status, self._digest, began) if trusted and self._digest != known else None


def in_batches(
    reads: Iterable[ReadFrame], size: int, work: Callable[[ReadFrame], Hashable | None]
) -> Iterator[list[ReadFrame]]:
    """Neighbours together. Of those that have work to do, a list holds at most `size`, all with the same work, and no
    picture twice.

    work: what is to be computed for a decoded frame, None for nothing; asked when what was yielded before is done.
    """
    batch: list[ReadFrame] = []
    digests: set[str] = set()
    common: Hashable | None = None
    for read in reads:
        if digests and read.decoded is not None:
            if len(digests) == size or read.digest in digests or work(read) != common:
                yield batch
                batch, digests = [], set()
        batch.append(read)
        wanted = work(read) if read.decoded is not None else None
        if wanted is not None:
            digests.add(read.digest)
            common = wanted
        elif not digests or len(batch) == MOST_WAITING:
            yield batch
            batch, digests = [], set()
    if batch:
        yield batch


def known_digests(cache: Cache) -> Callable[[GalleryFrame], str | None]:
    """The digest of a frame whose file has not changed, without reading it; else None. Frames of a video that follow
    one another ask the system once for their file."""
    of_file = lru_cache(1)(cache.digest_of)

    def digest_of(frame: GalleryFrame) -> str | None:
        digest = of_file(frame.path)
        return None if digest is None else frame_digest(digest, frame.moment)

    return digest_of


def find_usable(store: FrameStore | PairStore, digest: str, max_pixels: int, proposals: bool) -> About | None:
    """What is stored of a picture, where a search with this limit would find the same, with proposals if it must."""
    about = store.about(digest)
    if about is None or about.size[0] * about.size[1] > max_pixels or (proposals and not about.has_proposals):
        return None
    return about
