"""Matches as a COCO dataset (cocodataset.org, "Data format"), for the tools that show or evaluate such files.

The people who are searched for are the categories, frames with matches the images, and each match is an annotation
with the further keys `score`, `person_score` and `rank`. The list under "annotations" is also what COCO calls results:
`image_id, category_id, bbox, score` for each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qeeps_cli.errors import ImageError
from qeeps_cli.frames import read_frame_size
from qeeps_cli.output import json_writer
from qeeps_cli.output.json_writer import BOX_DECIMALS
from qeeps_cli.types import GalleryFrame, SearchResult


class CocoDataset:
    """Grows by a category with each search. weights, mode: as in `search_document`."""

    def __init__(self, weights: Mapping[str, str], mode: str):
        self._info = {"weights": {"name": weights["name"], "digest": weights["digest"]}, "mode": mode}
        self._images: dict[str, dict[str, Any]] = {}
        self._sizes: dict[Path, tuple[int | None, int | None]] = {}  # a video's frames have one size
        self._annotations: list[dict[str, Any]] = []
        self._categories: list[dict[str, Any]] = []

    def add(self, name: str, result: SearchResult) -> None:
        """A search as the category `name`. Raises NotANumberError when a score or a box is not finite."""
        category = {"id": len(self._categories) + 1, "name": name, "supercategory": "person"}
        self._categories.append({**category, "query": json_writer.query_document(result.query)})
        for match in result.matches:
            document = json_writer.match_document(match)
            box = document["box"]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": self._image_id(match.frame),
                    "category_id": category["id"],
                    "bbox": box,
                    "area": round(box[2] * box[3], 2 * BOX_DECIMALS),
                    "iscrowd": 0,
                    **{key: document[key] for key in ("score", "person_score", "rank")},
                }
            )

    def encode(self) -> bytes:
        """The dataset as ASCII JSON, an image and an annotation a line."""
        return json_writer.dump(
            {
                "info": {"description": "qeeps search", **self._info},
                "licenses": [],
                "categories": self._categories,
                "images": list(self._images.values()),
                "annotations": self._annotations,
            }
        )

    def _image_id(self, frame: GalleryFrame) -> int:
        image = self._images.get(frame.name)
        if image is None:
            width, height = self._size(frame)
            number = len(self._images) + 1
            image = {"id": number, "file_name": frame.name, "width": width, "height": height}
            image |= json_writer.moment_document(frame)
            self._images[frame.name] = image
        return image["id"]

    def _size(self, frame: GalleryFrame) -> tuple[int | None, int | None]:
        """(width, height) of the upright picture; nulls where the file has gone since it was searched."""
        if frame.path not in self._sizes:
            try:
                self._sizes[frame.path] = read_frame_size(frame)[::-1]
            except ImageError:
                self._sizes[frame.path] = None, None
        return self._sizes[frame.path]
