"""What a reader gives: a set of labelled frames, with or without queries, or a set of person crops."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qeeps_cli.errors import DataError
from qeeps_cli.types import Box, LabelledCrop, LabelledFrame, LabelledQuery


@dataclass(frozen=True)
class FrameSet:
    """Labelled frames, the queries of a benchmark over them (none in a training set), and notes worth telling."""

    name: str
    frames: tuple[LabelledFrame, ...]
    queries: tuple[LabelledQuery, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, name: str) -> LabelledFrame:
        """The frame of that name. Raises DataError if the set has none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise DataError(f"{self.name} has no frame named {name!r}; it has {len(self.frames)} frames.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, LabelledFrame]:
        return {frame.name: frame for frame in self.frames}

    def names_of(self, path: Path) -> frozenset[str]:
        """What the set calls a picture as its frame, such as a query's own; nothing where it is none."""
        return self._names_by_path.get(path, frozenset())

    @cached_property
    def _names_by_path(self) -> dict[Path, frozenset[str]]:
        names: dict[Path, set[str]] = defaultdict(set)
        for frame in self.frames:
            names[frame.path].add(frame.name)
        return {path: frozenset(found) for path, found in names.items()}

    @cached_property
    def identities(self) -> tuple[int, ...]:
        """Distinct person ids ≥ 0, ascending; ignored boxes do not count."""
        ids = [frame.person_ids[~frame.ignore] for frame in self.frames]
        distinct = np.unique(np.concatenate(ids)) if ids else np.empty(0, np.int64)
        return tuple(distinct[distinct >= 0].tolist())

    @cached_property
    def appearances(self) -> dict[int, dict[str, Box]]:
        """Person id to the frames that hold the person, with the box; the first where an id stands twice in a frame."""
        found: dict[int, dict[str, Box]] = {}
        for frame in self.frames:
            for box, person_id, ignore in zip(
                frame.boxes.tolist(), frame.person_ids.tolist(), frame.ignore, strict=True
            ):
                if person_id >= 0 and not ignore:
                    found.setdefault(person_id, {}).setdefault(frame.name, tuple(box))
        return found

    @property
    def num_boxes(self) -> int:
        """Boxes that count, known identity or not; ignored ones are left out."""
        return sum(int((~frame.ignore).sum()) for frame in self.frames)


@dataclass(frozen=True)
class CropSet:
    """Pictures of one person each, with identities: a re-identification set."""

    name: str
    crops: tuple[LabelledCrop, ...]

    def __len__(self) -> int:
        return len(self.crops)

    @cached_property
    def identities(self) -> tuple[int, ...]:
        """Distinct person ids, ascending."""
        return tuple(sorted({crop.person_id for crop in self.crops}))
