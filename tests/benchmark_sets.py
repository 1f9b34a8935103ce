"""Small sets in the original layouts of PRW and CUHK-SYSU, with pictures that a network can look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from training_sets import HEIGHT, WIDTH, Standing, dress, ground

CAMERAS = ("c1s1", "c2s1")
QUERY_LINE = "{0} {1:.4f} {2:.4f} {3:.4f} {4:.4f} {5}\r\n"


def people_of(number: int, identities: int) -> list[Standing]:
    """Three named people in a row; who they are goes round with the number of the frame."""
    return [Standing(1 + (number + slot) % identities, 14 + 46 * slot + number % 5, 20 + 3 * slot) for slot in range(3)]


def save_frame(path: Path, people: Sequence[Standing]) -> None:
    rgb = ground(HEIGHT, WIDTH)
    for person in people:
        dress(rgb, person)
    Image.fromarray(rgb).save(path, quality=95)


def cells(names: Sequence[str]) -> np.ndarray:
    return np.array(names, dtype=object).reshape(-1, 1)


def write_prw(root: Path, frames: int = 8, identities: int = 4, queries: Sequence[tuple[int, str]] = ()) -> Path:
    """PRW-v16.04.20 with frames of two cameras, and a query for each identity, from the first frame that holds it.

    queries: instead, (identity, frame name) pairs, such as PRW-mini's; each gets a frame of its own.
    """
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    if queries:
        content = {name: [Standing(person, 60, 30)] for person, name in queries}
        content |= {f"c6s1_{900000 + i}": [Standing(queries[i][0], 30, 40)] for i in range(frames)}
    else:
        content = {f"{CAMERAS[i % 2]}_{i:06d}": people_of(i, identities) for i in range(frames)}
        queries = [(person, first_with(content, person)) for person in range(1, identities + 1)]
    for name, people in content.items():
        save_frame(root / "frames" / f"{name}.jpg", people)
        rows = [[p.person_id, p.x, p.y, p.w, p.h] for p in people]
        savemat(root / "annotations" / f"{name}.jpg.mat", {"box_new": np.array(rows, float)})
    savemat(root / "frame_test.mat", {"img_index_test": cells(list(content))})
    lines = [QUERY_LINE.format(person, *place_of(content[name], person), name) for person, name in queries]
    (root / "query_info.txt").write_bytes("".join(lines).encode())
    return root


def first_with(content: dict[str, list[Standing]], person_id: int) -> str:
    return next(name for name, people in content.items() if person_id in [p.person_id for p in people])


def place_of(people: Sequence[Standing], person_id: int) -> tuple[float, float, float, float]:
    person = next(p for p in people if p.person_id == person_id)
    return person.x, person.y, person.w, person.h


def struct(fields: Sequence[str], rows: Sequence[tuple]) -> np.ndarray:
    """A MATLAB struct array, (1, N)."""
    array = np.empty(len(rows), dtype=[(name, object) for name in fields])
    for index, row in enumerate(rows):
        for name, value in zip(fields, row, strict=True):
            array[name][index] = value
    return array.reshape(1, -1)


def scenes(entries: Sequence[tuple[str, tuple | None]]) -> np.ndarray:
    rows = [(name, np.empty((0, 0)) if box is None else np.array([box], np.int16), 0) for name, box in entries]
    return struct(["imname", "idlocate", "ishard"], rows)


def write_cuhk(root: Path, frames: int = 6, identities: int = 4, sizes: Sequence[int] = (50, 100)) -> Path:
    """CUHK-SYSU, all of it test frames; each gallery: the other frames with the person, then all frames without."""
    (root / "Image" / "SSM").mkdir(parents=True)
    (root / "annotation" / "test" / "train_test").mkdir(parents=True)
    content = {f"s{i}.jpg": people_of(i, identities) for i in range(frames)}
    boxes = {name: [(p.person_id, tuple(round(v) for v in (p.x, p.y, p.w, p.h))) for p in people]
             for name, people in content.items()}  # fmt: skip
    for name, people in content.items():
        save_frame(root / "Image" / "SSM" / name, people)
    images = [
        (name, len(own), struct(["idlocate", "ishard"], [(np.array([box], np.int16), 0) for _, box in own]))
        for name, own in boxes.items()
    ]
    savemat(root / "annotation" / "Images.mat", {"Img": struct(["imname", "nAppear", "box"], images)})
    savemat(root / "annotation" / "pool.mat", {"pool": cells(list(content))})
    entries = []
    for person in range(1, identities + 1):
        held = [(name, dict(own)[person]) for name, own in boxes.items() if person in dict(own)]
        without = [(name, None) for name, own in boxes.items() if person not in dict(own)]
        entries.append((scenes(held[:1]), scenes([*held[1:], *without])))
    for size in sizes:
        path = root / "annotation" / "test" / "train_test" / f"TestG{size}.mat"
        savemat(path, {f"TestG{size}": struct(["Query", "Gallery"], entries)})
    return root
