"""COCO-style sets: `frames/`, an annotation file, and optionally queries.

    annotations.json  {"images": [{id, file_name, width, height, camera, time}],
                       "annotations": [{id, image_id, bbox [x, y, w, h], person_id (-1 unknown), ignore}]}
    queries.json      [{image, bbox, person_id, ignore_images: [...]}]

`time_s` is read for `time`, `query_image` for `image`, and `iscrowd` counts as `ignore`. Other keys are left alone.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qeeps_cli.datasets.files import Listing, read_json, require_all, require_folder
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.errors import DataError
from qeeps_cli.types import Box, LabelledFrame, LabelledQuery

QUERIES = "queries.json"
OVERHANG = 10  # pixels: labels drawn by hand pass the edge by a few; more is a wrong box or a wrong image size
ANNOTATIONS_FORMAT = 'a COCO-style file {"images": [...], "annotations": [...]}'
QUERIES_FORMAT = "a list of queries [{image, bbox, person_id, ignore_images}, ...]"


def load_coco(
    root: Path, annotations: str = "annotations.json", queries: str | None = QUERIES, extra: Sequence[str] = ()
) -> FrameSet:
    """Reads a COCO-style set.

    root: the folder with the annotation files and `frames/`. `file_name` is resolved under root/frames/ or root/; the
    frame's name is the path without `frames/`. queries: a file under root; the default one may be absent, any other
    must be there; None: no queries. extra: more files under root whose annotations are appended (`images` are not
    needed). A box that passes the edge by at most OVERHANG pixels is clipped. A query's gallery is every frame but its
    own, its `ignore_images`, and those where the person is marked `ignore`.

    Raises DataError, with file, annotation id and what was expected, for a missing or malformed file, a missing image,
    a duplicate id, and a box that is empty or lies outside its image.
    """
    root = require_folder(Path(root), f"the root of a COCO-style set, with frames/ and {annotations}")
    path = root / annotations
    images, labels = _parse_annotations(path)
    sources = [(path, labels)] + [(root / name, _parse_extra(root / name)) for name in extra]
    frames = _build_frames(root, path, images, _group_by_image(sources, {image["id"]: image for image in images}))
    frame_set = FrameSet(name=root.name, frames=frames)
    if queries is None or (queries == QUERIES and not (root / queries).exists()):
        return frame_set
    return FrameSet(name=root.name, frames=frames, queries=_read_queries(root / queries, frame_set))


def _parse_annotations(path: Path) -> tuple[list[dict], list[dict]]:
    content = read_json(path, ANNOTATIONS_FORMAT)
    images = _list_of_dicts(content, "images", path)
    _require_unique([image.get("id") for image in images], f"{path}: image")
    for image in images:
        where = f"{path}: image {image['id']}"
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise DataError(f"{where}: expected a file_name, got {image.get('file_name')!r}.")
        for side in ("width", "height"):
            if not _is_number(image.get(side)) or image[side] < 1:
                raise DataError(f"{where}: expected a positive {side} in pixels, got {image.get(side)!r}.")
    return images, _list_of_dicts(content, "annotations", path)


def _parse_extra(path: Path) -> list[dict]:
    return _list_of_dicts(read_json(path, 'a file {"annotations": [...]}'), "annotations", path)


def _group_by_image(sources: list[tuple[Path, list[dict]]], images: dict) -> dict:
    """Image id to its parsed labels (xyxy box, person id, ignore), in file order."""
    grouped, seen = defaultdict(list), set()
    for path, labels in sources:
        for label in labels:
            where = f"{path}: annotation {label.get('id')}"
            _require_new_id(label.get("id"), seen, f"{path}: annotation")
            image_id = label.get("image_id")
            if not isinstance(image_id, (int, str)) or image_id not in images:
                raise DataError(f"{where}: image_id {image_id!r} is not the id of any image.")
            image = images[image_id]
            box = _parse_bbox(label.get("bbox"), image["width"], image["height"], where)
            ignore = bool(label.get("ignore") or label.get("iscrowd"))
            grouped[image["id"]].append((box, _parse_person_id(label.get("person_id"), where), ignore))
    return grouped


def _build_frames(root: Path, path: Path, images: list[dict], labels: dict) -> tuple[LabelledFrame, ...]:
    listing, frames, missing = Listing(), [], []
    for image in images:
        image_path = _locate(root, image["file_name"], listing)
        if image_path is None:
            missing.append(image["file_name"])
            continue
        frames.append(_build_frame(image, image_path, labels.get(image["id"], [])))
    require_all(missing, path, f"image files exist neither under {root / 'frames'} nor under {root}")
    _require_unique([frame.name for frame in frames], f"{path}: file_name")
    return tuple(frames)


def _build_frame(image: dict, path: Path, labels: list[tuple[Box, int, bool]]) -> LabelledFrame:
    time = image.get("time", image.get("time_s"))
    return LabelledFrame(
        path=path,
        name=_frame_name(image["file_name"]),
        boxes=np.array([box for box, _, _ in labels], np.float32).reshape(-1, 4),
        person_ids=np.array([person for _, person, _ in labels], np.int64),
        ignore=np.array([ignore for _, _, ignore in labels], bool),
        width=int(image["width"]),
        height=int(image["height"]),
        camera=str(image.get("camera") or ""),
        time=float(time) if _is_number(time) else None,
    )


def _read_queries(path: Path, frames: FrameSet) -> tuple[LabelledQuery, ...]:
    entries = read_json(path, QUERIES_FORMAT)
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected {QUERIES_FORMAT}, got {type(entries).__name__}.")
    queries = tuple(_parse_query(entry, index, path, frames) for index, entry in enumerate(entries))
    _require_unique([query.name for query in queries], f"{path}: query")
    return queries


def _parse_query(entry: dict, index: int, path: Path, frames: FrameSet) -> LabelledQuery:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: query {index}: expected an object, got {type(entry).__name__}.")
    name = str(entry.get("id", index))
    where = f"{path}: query {name}"
    image = entry.get("image", entry.get("query_image"))
    if not isinstance(image, str) or _frame_name(image) not in frames:
        raise DataError(f"{where}: image {image!r} is not among the annotated images.")
    ignored = [_frame_name(str(other)) for other in entry.get("ignore_images") or ()]
    require_all([other for other in ignored if other not in frames], path, f"ignore_images of query {name} are unknown")
    person_id = _parse_person_id(entry.get("person_id"), where)
    if person_id < 0:
        raise DataError(f"{where}: expected a person_id of 0 or more, got {entry.get('person_id')!r}.")
    frame = frames[_frame_name(image)]
    left_out = {frame.name, *ignored} | _ignored_frames(person_id, frames)
    return LabelledQuery(
        name=name,
        path=frame.path,
        box=_parse_bbox(entry.get("bbox"), frame.width, frame.height, where),
        person_id=person_id,
        gallery=tuple(other.name for other in frames.frames if other.name not in left_out),
    )


def _ignored_frames(person_id: int, frames: FrameSet) -> set[str]:
    """Frames that hold the person as an ignored box only: finding it there is neither right nor wrong."""
    marked = {f.name for f in frames.frames if ((f.person_ids == person_id) & f.ignore).any()}
    return marked - set(frames.appearances.get(person_id, ()))


def _parse_bbox(bbox, width: float, height: float, where: str) -> Box:
    """x,y,w,h as found in a file to an xyxy box inside the image."""
    if not (isinstance(bbox, (list, tuple)) and len(bbox) == 4 and all(_is_number(v) for v in bbox)):
        raise DataError(f"{where}: expected bbox [x, y, w, h] of four finite numbers in pixels, got {bbox!r}.")
    x, y, w, h = (float(v) for v in bbox)
    if w <= 0 or h <= 0:
        raise DataError(f"{where}: expected a bbox [x, y, w, h] of positive width and height, got {bbox!r}.")
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    overhang = max(-x, -y, x + w - width, y + h - height)
    if overhang > OVERHANG or x2 <= x1 or y2 <= y1:
        raise DataError(
            f"{where}: bbox [x, y, w, h] = {bbox!r} reaches outside its image, which is {width} pixels wide "
            f"and {height} high; up to {OVERHANG} pixels of overhang are clipped. Correct the box or the size."
        )
    return x1, y1, x2, y2


def _parse_person_id(value, where: str) -> int:
    """Absent and negative ids are all -1, unknown."""
    if value is None:
        return -1
    if not _is_number(value) or value != int(value):
        raise DataError(f"{where}: expected an integer person_id (-1 for unknown), got {value!r}.")
    return max(int(value), -1)


def _locate(root: Path, file_name: str, listing: Listing) -> Path | None:
    return next((p for p in (root / "frames" / file_name, root / file_name) if listing.holds(p)), None)


def _frame_name(file_name: str) -> str:
    return file_name.removeprefix("./").removeprefix("frames/")


def _list_of_dicts(content, key: str, path: Path) -> list[dict]:
    items = content.get(key) if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{path}: expected a JSON object with a list of objects {key!r}.")
    return items


def _require_unique(values: list, where: str) -> None:
    seen: set = set()
    for value in values:
        _require_new_id(value, seen, where)


def _require_new_id(value, seen: set, where: str) -> None:
    if not isinstance(value, (int, str)):
        raise DataError(f"{where}: expected an id (integer or string), got {value!r}.")
    if value in seen:
        raise DataError(f"{where} {value}: this id stands twice; ids must be unique.")
    seen.add(value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
