"""The frames of a gallery, of which only what is needed to name them is held."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from qeeps_cli.gallery.names import distinct, natural_key
from qeeps_cli.types import GalleryFrame, VideoMoment


class FrameList(Sequence[GalleryFrame]):
    """Frames of one folder, or of any (root None: names are paths): a picture is one, a video as many as `videos` says.

    Frames are made when they are asked for, so that a hundred thousand of them take little memory. names: of the files,
    in their order. videos: the moments to search, by the names of those files that are videos; none of them is empty.
    """

    def __init__(self, root: Path | None, names: list[str], videos: Mapping[str, Sequence[VideoMoment]] | None = None):
        self.root = root
        self.names = names
        self.videos = videos or {}
        # The place of each file's first frame, and how many there are in all; not needed where each file is a frame.
        counts = [len(self.videos.get(name, (None,))) for name in names] if self.videos else None
        self._first = None if counts is None else np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return len(self.names) if self._first is None else int(self._first[-1])

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        file = place if self._first is None else int(np.searchsorted(self._first, place, side="right")) - 1
        name = self.names[file]
        path = Path(name) if self.root is None else self.root / name
        if name not in self.videos:
            return GalleryFrame(path, name)
        moment = self.videos[name][place - int(self._first[file])]
        return GalleryFrame(path, f"{name}@{moment.clock}", moment)

    def first(self, count: int) -> "FrameList":
        """At most so many."""
        if self._first is None:
            return FrameList(self.root, self.names[:count])
        names = self.names[: int(np.searchsorted(self._first[:-1], count))]
        videos = {name: self.videos[name] for name in names if name in self.videos}
        if names and names[-1] in videos:
            videos[names[-1]] = videos[names[-1]][: count - int(self._first[len(names) - 1])]
        return FrameList(self.root, names, videos)

    def paths(self) -> Iterator[str]:
        """Of all files, with forward slashes."""
        before = "" if self.root is None else (self.root / "_").as_posix()[:-1]
        return (f"{before}{name}" for name in self.names)


def unite(paths: Iterable[str]) -> FrameList:
    """Files of any folders in natural order, each once: of several paths to it, the first in that order."""
    return FrameList(None, list(distinct(sorted(paths, key=natural_key))))
