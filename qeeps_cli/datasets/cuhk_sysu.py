"""CUHK-SYSU (Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017).

    Image/SSM/*.jpg
    annotation/Images.mat                          [Img]: (imname, nAppear, box[(idlocate, ishard)])
    annotation/pool.mat                            [pool]: names of the test frames; all others are for training
    annotation/test/train_test/Train.mat           [Train]: 5,532 x (idname, nAppear, scene[(imname, idlocate, ishard)])
    annotation/test/train_test/TestG{size}.mat     [TestG{size}]: 2,900 x (Query, Gallery[(imname, idlocate, ishard)])

Identities meet the boxes of Images.mat by exact equality. A gallery lists the frames with the person first, then frames
with an empty box; a frame that stands twice in it counts twice, as in the original script.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from qeeps_cli.datasets.files import Listing, find_root, require_all
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.mat import field, read_mat, records, strings, text, xywh
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.types import Box, LabelledFrame, LabelledQuery

GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
SPLITS = ("train", "test")
FOLDERS = ("Image/SSM", "annotation")
XYWH = tuple[int, int, int, int]
Appearance = tuple[int, str, XYWH]  # person, frame, box: who was seen where


def load_cuhk_sysu(root: Path, split: str = "test", gallery_size: int | str = 100) -> FrameSet:
    """Reads CUHK-SYSU.

    split: "train" (no queries) or "test". gallery_size: one of GALLERY_SIZES, or "all": the frames with the person,
    then every other test frame but the query's own. Person ids count the entries of Train.mat or of the TestG file from
    0. Images are not opened: width and height are 0. TestG4000.mat takes about 10 GB of memory to parse.

    Raises DataError, saying what was looked for and where, if anything of the layout is missing or malformed, and
    UsageError for an unknown split or gallery size.
    """
    if split not in SPLITS:
        raise UsageError(f"CUHK-SYSU has the splits {SPLITS}, got {split!r}.")
    if gallery_size != "all" and gallery_size not in GALLERY_SIZES:
        raise UsageError(f'CUHK-SYSU has galleries of {GALLERY_SIZES} frames, or "all", got {gallery_size!r}.')
    root = find_root(Path(root), FOLDERS, f"the folder of CUHK-SYSU, which holds {' and '.join(FOLDERS)}", ("dataset",))
    boxes = _read_boxes(root / "annotation" / "Images.mat")
    names = _split_names(root, split, boxes)
    if split == "train":
        return _build_frames(root, names, boxes, _read_train(root / "annotation" / "test" / "train_test" / "Train.mat"))
    queries, appearances = _read_test(root, gallery_size)
    frames = _build_frames(root, names, boxes, appearances)
    _require_gallery(root, queries, frames)
    if gallery_size == "all":
        queries = [_with_all_frames(query, frames) for query in queries]
    return replace(frames, queries=tuple(queries))


def _read_boxes(path: Path) -> dict[str, list[XYWH]]:
    """Frame name to its boxes, those without area left out, in the file's order."""
    boxes = {}
    for image in records(read_mat(path, ("Img",), "CUHK-SYSU's boxes"), str(path)):
        name = text(field(image, "imname", str(path)))
        where = f"{path}: {name}"
        people = (
            xywh(field(person, "idlocate", where), where) for person in records(field(image, "box", where), where)
        )
        boxes[name] = [box for box in people if box is not None and box[2] > 0 and box[3] > 0]
    if not boxes:
        raise DataError(f"{path}: expected a struct array Img with a record per image, found none.")
    return boxes


def _split_names(root: Path, split: str, boxes: dict[str, list[XYWH]]) -> list[str]:
    path = root / "annotation" / "pool.mat"
    pool = dict.fromkeys(strings(read_mat(path, ("pool",), "the names of CUHK-SYSU's test frames")))
    require_all([name for name in pool if name not in boxes], path, "test frames are not in Images.mat")
    names = list(pool) if split == "test" else [name for name in boxes if name not in pool]
    listing = Listing()
    missing = [name for name in names if not listing.holds(root / "Image" / "SSM" / name)]
    require_all(missing, root / "Image" / "SSM", f"of the {len(names)} {split} images are missing")
    return names


def _read_train(path: Path) -> list[Appearance]:
    appearances = []
    for person, entry in enumerate(records(read_mat(path, ("Train",), "CUHK-SYSU's train identities"), str(path))):
        appearances += _read_scenes(person, field(entry, "scene", str(path)), path)
    return appearances


def _read_scenes(person: int, scenes: np.ndarray, path: Path) -> list[Appearance]:
    """The scenes that hold the person; those with an empty box are left out."""
    where = f"{path}: identity {person}"
    found = [
        (person, text(field(scene, "imname", where)), xywh(field(scene, "idlocate", where), where))
        for scene in records(scenes, where)
    ]
    return [appearance for appearance in found if appearance[2] is not None]


def _read_test(root: Path, gallery_size: int | str) -> tuple[list[LabelledQuery], list[Appearance]]:
    # The frames with the person are the same in every TestG file, so "all" takes them from the smallest.
    key = f"TestG{GALLERY_SIZES[0] if gallery_size == 'all' else gallery_size}"
    path = root / "annotation" / "test" / "train_test" / f"{key}.mat"
    queries, appearances = [], []
    for person, entry in enumerate(records(read_mat(path, (key,), "CUHK-SYSU's queries and galleries"), str(path))):
        query = _read_query(root, path, person, entry)
        queries.append(query)
        appearances.append((person, query.path.name, _to_xywh(query.box)))
        appearances += [(person, query.gallery[position], _to_xywh(box)) for position, box in query.truth]
    if not queries:
        raise DataError(f"{path}: expected a struct array {key} with a record per query, found none.")
    return queries, appearances


def _read_query(root: Path, path: Path, person: int, entry: np.void) -> LabelledQuery:
    where = f"{path}: query {person}"
    own = records(field(entry, "Query", where), where)
    box = xywh(field(own[0], "idlocate", where), where) if own else None
    if box is None:
        raise DataError(f"{where}: expected a Query with imname and idlocate [x, y, w, h].")
    name = text(field(own[0], "imname", where))
    gallery, truth = [], []
    for position, scene in enumerate(records(field(entry, "Gallery", where), where)):
        gallery.append(sys.intern(text(field(scene, "imname", where))))  # up to 11.6 million, of 6,978 names
        place = xywh(field(scene, "idlocate", where), where)
        if place is not None:
            truth.append((position, _to_xyxy(place)))
    image = root / "Image" / "SSM" / name
    return LabelledQuery(f"{person} {name}", image, _to_xyxy(box), person, tuple(gallery), tuple(truth))


def _require_gallery(root: Path, queries: list[LabelledQuery], frames: FrameSet) -> None:
    unknown = {name for query in queries for name in query.gallery if name not in frames}
    require_all(
        sorted(unknown), root / "annotation" / "pool.mat", "frames of the galleries are not among its test frames"
    )
    listing = Listing()
    missing = {query.path.name for query in queries if not listing.holds(query.path)}
    require_all(sorted(missing), root / "Image" / "SSM", "query images are missing")


def _with_all_frames(query: LabelledQuery, frames: FrameSet) -> LabelledQuery:
    held = tuple(query.gallery[position] for position, _ in query.truth)
    left_out = {*held, query.path.name}
    others = tuple(frame.name for frame in frames.frames if frame.name not in left_out)
    truth = tuple((position, box) for position, (_, box) in enumerate(query.truth))
    return replace(query, gallery=held + others, truth=truth)


def _build_frames(
    root: Path, names: list[str], boxes: dict[str, list[XYWH]], appearances: list[Appearance]
) -> FrameSet:
    ids = {name: np.full(len(boxes[name]), -1, np.int64) for name in names}
    unmatched = 0
    for person, name, box in appearances:
        if name in ids and box in boxes[name]:
            ids[name][boxes[name].index(box)] = person
        else:
            unmatched += 1
    frames = tuple(
        LabelledFrame(
            path=root / "Image" / "SSM" / name,
            name=name,
            boxes=np.array([_to_xyxy(box) for box in boxes[name]], np.float32).reshape(-1, 4),
            person_ids=ids[name],
            ignore=np.zeros(len(ids[name]), bool),
        )
        for name in names
    )
    notes = [f"{unmatched} labelled people equal no box of the {len(names)} frames' annotations"] if unmatched else []
    return FrameSet(name="cuhk-sysu", frames=frames, notes=tuple(notes))


def _to_xyxy(box: XYWH) -> Box:
    x, y, w, h = box
    return float(x), float(y), float(x + w), float(y + h)


def _to_xywh(box: Box) -> XYWH:
    x1, y1, x2, y2 = (int(v) for v in box)
    return x1, y1, x2 - x1, y2 - y1
