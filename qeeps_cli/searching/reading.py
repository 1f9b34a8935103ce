"""Frames on their way from the disk: those that are stored already are not decoded, the others ahead, in threads."""

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from qeeps_cli.cache.detections import About
from qeeps_cli.cache.store import Cache, FrameStore, PairStore
from qeeps_cli.errors import ImageError
from qeeps_cli.images import ImageFile, decode_image, read_file
from qeeps_cli.types import Decoded, GalleryFrame

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


def read_frames(
    frames: Iterable[GalleryFrame],
    find: Callable[[GalleryFrame, str], Any],
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
    decoded. read_bytes: gives a frame's bytes, or raises ImageError.
    """

    def read(frame: GalleryFrame) -> tuple[ReadFrame, ImageFile | None]:
        try:
            file = read_bytes(frame, max_pixels)
            if (stored := find(frame, file.digest)) is not None:
                return ReadFrame(frame, file.digest, stored=stored), file
            return ReadFrame(frame, file.digest, decode_image(file, max_pixels)), file
        except ImageError as error:
            return ReadFrame(frame, broken=error.reason), None

    def finish(item: ReadFrame | Future) -> ReadFrame:
        if isinstance(item, ReadFrame):
            return item
        result, file = item.result()
        if cache is not None and file is not None and file.status is not None:
            cache.remember(file.path, file.status, file.digest, taken_ns=file.read_at)
        return result

    waiting: deque[ReadFrame | Future] = deque()
    pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
    try:
        for frame in frames:
            digest = cache.digest_of(frame.path) if cache is not None else None
            stored = find(frame, digest) if digest is not None else None
            known = ReadFrame(frame, digest, stored=stored) if stored is not None else None
            waiting.append(known or pool.submit(read, frame))
            while waiting and (len(waiting) > ahead or isinstance(waiting[0], ReadFrame)):
                yield finish(waiting.popleft())
        while waiting:
            yield finish(waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


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


def find_usable(store: FrameStore | PairStore, digest: str, max_pixels: int, proposals: bool) -> About | None:
    """What is stored of a picture, where a search with this limit would find the same, with proposals if it must."""
    about = store.about(digest)
    if about is None or about.size[0] * about.size[1] > max_pixels or (proposals and not about.has_proposals):
        return None
    return about
