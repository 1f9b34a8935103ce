"""The exact search: every frame of the gallery goes through the Siamese network with the query (the paper's own
mode)."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from qeeps_cli.errors import ImageError
from qeeps_cli.images import MAX_PIXELS, read_image
from qeeps_cli.searching.engine import Engine, QueryPerson
from qeeps_cli.types import Decoded, Detections, GalleryFrame


@dataclass(frozen=True)
class FrameAnswer:
    """What one frame gave: its detections, or why it could not be used."""

    frame: GalleryFrame
    detections: Detections | None
    skipped: str | None = None
    digest: str = ""
    note: str | None = None


def search_frames(
    engine: Engine, query: QueryPerson, frames: Iterable[GalleryFrame], *, batch: int = 1, max_pixels: int = MAX_PIXELS
) -> Iterator[FrameAnswer]:
    """Answers in the order of the frames, as they come. A frame that cannot be decoded gives an answer with `skipped`.

    Frames are decoded ahead in other threads; neighbours of one size run as a batch.
    """
    group: list[tuple[GalleryFrame, Decoded]] = []
    for frame, decoded in _decode_ahead(frames, ahead=max(4, 2 * batch), max_pixels=max_pixels):
        fits = isinstance(decoded, Decoded) and (not group or group[0][1].size == decoded.size)
        if group and (not fits or len(group) == batch):
            yield from _answer(engine, query, group)
            group = []
        if isinstance(decoded, ImageError):
            yield FrameAnswer(frame, None, skipped=decoded.reason)
        else:
            group.append((frame, decoded))
    yield from _answer(engine, query, group)


def _answer(engine: Engine, query: QueryPerson, group: list[tuple[GalleryFrame, Decoded]]) -> Iterator[FrameAnswer]:
    if not group:
        return
    pictures: list[np.ndarray] = [decoded.rgb for _, decoded in group]
    for (frame, decoded), detections in zip(group, engine.search(query, pictures), strict=True):
        yield FrameAnswer(frame, detections, digest=decoded.digest, note=decoded.note)


def _decode_ahead(
    frames: Iterable[GalleryFrame], ahead: int, max_pixels: int
) -> Iterator[tuple[GalleryFrame, Decoded | ImageError]]:
    def decode(frame: GalleryFrame) -> Decoded | ImageError:
        try:
            return read_image(frame.path, max_pixels)
        except ImageError as error:
            return error

    waiting: list[tuple[GalleryFrame, Future]] = []
    with ThreadPoolExecutor(2) as pool:
        for frame in frames:
            waiting.append((frame, pool.submit(decode, frame)))
            if len(waiting) > ahead:
                first, future = waiting.pop(0)
                yield first, future.result()
        for frame, future in waiting:
            yield frame, future.result()
