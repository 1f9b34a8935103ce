"""PRW (Zheng et al., "Person Re-identification in the Wild", CVPR 2017), and PRW-mini, in the layout of PRW-v16.04.20.

    frames/<name>.jpg           name = c{camera}s{sequence}_{frame}
    annotations/<name>.jpg.mat  rows [id, x, y, w, h]; id -2: unknown
    frame_train.mat, frame_test.mat, ID_train.mat, query_info.txt

Protocol: each query against all test frames but its own; matches of the same camera count. Boxes are truncated to whole
pixels, x2 = x + w, and are not clipped, although some coordinates are negative: so the published scripts have it.
"""

import re
from pathlib import Path

import numpy as np

from qeeps_cli.datasets.files import Listing, find_root, require_all, require_file
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.datasets.mat import read_mat, strings
from qeeps_cli.datasets.prw_mini import PRW_MINI
from qeeps_cli.errors import DataError, UsageError
from qeeps_cli.types import Box, LabelledFrame, LabelledQuery

FOLDER = "PRW-v16.04.20"
FOLDERS = ("frames", "annotations")
BOX_KEYS = ("box_new", "anno_file", "anno_previous")  # which of them a file has varies; this is the order to try
SPLITS = ("train", "test")
QUERY_SETS = ("all", "mini", None)


def load_prw(root: Path, split: str = "test", queries: str | None = "all", cross_camera: bool = False) -> FrameSet:
    """Reads PRW.

    root: the folder PRW-v16.04.20 or the one that holds it. split: "train" or "test"; only "test" has queries. queries:
    "all" (2,057), "mini" (PRW-mini's 30) or None. cross_camera: galleries keep only frames of other cameras than the
    query's; off in the published protocol. Frame names are file names (`c1s1_000151.jpg`); identities that ID_train.mat
    does not list are unknown (-1) in the train split. Images are not opened: width and height are 0.

    Raises DataError, saying what was looked for and where, if anything of the layout is missing or malformed, and
    UsageError for an unknown split or query set.
    """
    if split not in SPLITS or queries not in QUERY_SETS:
        raise UsageError(f"PRW has the splits {SPLITS} and the query sets {QUERY_SETS}, got {split!r} and {queries!r}.")
    root = find_root(Path(root), FOLDERS, f"the folder {FOLDER}, which holds {' and '.join(FOLDERS)}", (FOLDER,))
    names = _read_names(root, split)
    _require_files(root, names, split)
    known = _read_train_ids(root) if split == "train" else None
    empty: list[str] = []
    frames = tuple(_read_frame(root, name, known, empty) for name in names)
    notes = (f"{len(empty)} boxes without area were dropped, the first in {empty[0]}",) if empty else ()
    frame_set = FrameSet(name="prw", frames=frames, notes=notes)
    if split == "train" or queries is None:
        return frame_set
    return FrameSet(
        name="prw-mini" if queries == "mini" else "prw",
        frames=frame_set.frames,
        queries=_read_queries(root / "query_info.txt", frame_set, queries == "mini", cross_camera),
        notes=frame_set.notes,
    )


def _read_names(root: Path, split: str) -> list[str]:
    path = root / f"frame_{split}.mat"
    names = strings(read_mat(path, (f"img_index_{split}",), f"the names of PRW's {split} frames"))
    if not names:
        raise DataError(f"{path}: expected the names of PRW's {split} frames, found none.")
    return [f"{name.removesuffix('.jpg')}.jpg" for name in dict.fromkeys(names)]


def _require_files(root: Path, names: list[str], split: str) -> None:
    listing = Listing()
    for folder, suffix in (("frames", ""), ("annotations", ".mat")):
        missing = [name + suffix for name in names if not listing.holds(root / folder / (name + suffix))]
        require_all(missing, root / folder, f"of the {len(names)} files that frame_{split}.mat asks for are missing")


def _read_train_ids(root: Path) -> np.ndarray:
    ids = read_mat(root / "ID_train.mat", ("ID_train",), "the identities of PRW's train split")
    return ids.astype(np.int64).ravel()


def _read_frame(root: Path, name: str, known: np.ndarray | None, empty: list[str]) -> LabelledFrame:
    """empty: grows by the name of the frame for each box without area."""
    path = root / "annotations" / f"{name}.mat"
    rows = read_mat(path, BOX_KEYS, "the boxes of a PRW frame")
    rows = np.asarray(rows, np.float64) if rows.size else np.empty((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5 or not np.isfinite(rows).all():
        raise DataError(f"{path}: expected finite rows [id, x, y, w, h], got an array of shape {rows.shape}.")
    whole = np.trunc(rows[:, 1:])
    solid = (whole[:, 2:] > 0).all(axis=1)
    empty += [name] * int((~solid).sum())
    ids = np.maximum(rows[solid, 0].astype(np.int64), -1)
    if known is not None:
        ids = np.where(np.isin(ids, known), ids, -1)
    boxes = np.concatenate([whole[solid, :2], whole[solid, :2] + whole[solid, 2:]], axis=1)
    return LabelledFrame(
        path=root / "frames" / name,
        name=name,
        boxes=boxes.astype(np.float32),
        person_ids=ids,
        ignore=np.zeros(len(ids), bool),
        camera=camera_of(name),
    )


def camera_of(name: str) -> str:
    """`c3` of `c3s1_012345.jpg`; empty for a name that PRW would not give."""
    match = re.match(r"c\d+(?=s)", name)
    return match.group() if match else ""


def _read_queries(path: Path, frames: FrameSet, mini: bool, cross_camera: bool) -> tuple[LabelledQuery, ...]:
    require_file(path, 'PRW\'s queries, lines "id x y w h frame"')
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    parsed = [_parse_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if mini:
        parsed = _choose_mini(parsed, path)
    missing = sorted({frame for _, _, frame in parsed if frame not in frames})
    require_all(missing, path, "query frames are not among the frames of frame_test.mat")
    names = tuple(frame.name for frame in frames.frames)
    position = {name: index for index, name in enumerate(names)}
    return tuple(
        LabelledQuery(
            name=f"{person_id} {frame.removesuffix('.jpg')}",
            path=frames[frame].path,
            box=box,
            person_id=person_id,
            gallery=_gallery(names, position[frame], cross_camera),
        )
        for person_id, box, frame in parsed
    )


def _gallery(names: tuple[str, ...], own: int, cross_camera: bool) -> tuple[str, ...]:
    if cross_camera:
        return tuple(name for name in names if camera_of(name) != camera_of(names[own]))
    return names[:own] + names[own + 1 :]


def _parse_line(line: str, where: str) -> tuple[int, Box, str]:
    try:
        person_id, x, y, w, h, frame = line.split()
        x, y, w, h = (int(float(v)) for v in (x, y, w, h))
        person_id = int(person_id)
        if w <= 0 or h <= 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise DataError(
            f'{where}: expected "id x y w h frame" with a width and height of 1 or more, got {line.strip()!r}.'
        ) from None
    return person_id, (float(x), float(y), float(x + w), float(y + h)), f"{frame.removesuffix('.jpg')}.jpg"


def _choose_mini(parsed: list[tuple[int, Box, str]], path: Path) -> list[tuple[int, Box, str]]:
    by_key: dict[tuple[int, str], tuple[int, Box, str]] = {}
    for query in parsed:
        by_key.setdefault((query[0], query[2]), query)
    wanted = [(person_id, f"{frame}.jpg") for person_id, frame in PRW_MINI]
    missing = [f"{person_id} in {frame}" for person_id, frame in wanted if (person_id, frame) not in by_key]
    require_all(missing, path, f"of PRW-mini's {len(wanted)} queries are missing")
    return [by_key[key] for key in wanted]
