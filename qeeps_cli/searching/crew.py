"""Others who compute what a search is about to need, before it looks into the cache for it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from qeeps_cli.images import ImageFile
from qeeps_cli.searching.request import QueryPicture
from qeeps_cli.searching.scoring import People
from qeeps_cli.types import GalleryFrame


class Crew(Protocol):
    """Fills the cache of a search. Whatever it leaves out the search computes itself, so that a crew cannot change what
    is found: it only is many, on machines of their own."""

    def index(self, frames: Sequence[GalleryFrame]) -> int:
        """All frames without a query. Gives how many were computed; the others were there already."""

    def compare(self, pictures: Sequence[QueryPicture], wanted: Mapping[int, Sequence[int]]) -> int:
        """Pairs: wanted are the frames, by their places in the gallery, with the numbers of their pictures. Gives how
        many were computed."""

    def people(self, digests: Sequence[str], form: tuple[np.ndarray, float] | None) -> People | None:
        """The cached people of frames, for `CachedGallery`'s arguments; None: the search scores them itself."""

    def read(self, frame: GalleryFrame, max_pixels: int) -> ImageFile:
        """The bytes of a frame. Raises ImageError."""
