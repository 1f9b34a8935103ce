"""The files that the documentation's commands name, small."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from video_files import make_video

QUERY = "vtest_0550.jpg"
BOX = (169, 367, 57, 146)


def make_samples(folder: Path, examples: Path, frames: Path) -> Path:
    """q.jpg, crop.jpg, crop.png, crops/, people.jsonl, frames/, video.mp4 and a few of examples/cctv/frames."""
    source = examples / "cctv" / "frames"
    gallery = folder / "examples" / "cctv" / "frames"
    gallery.mkdir(parents=True)
    for name in ("vtest_0050.jpg", QUERY):
        shutil.copy(source / name, gallery)
    shutil.copy(source / QUERY, folder / "q.jpg")
    shutil.copytree(frames, folder / "frames")
    make_samples_video(folder / "video.mp4", frames)
    (folder / "crops").mkdir()
    x, y, w, h = BOX
    with Image.open(source / QUERY) as picture:
        person = picture.crop((x, y, x + w, y + h))
    for name in ("crop.jpg", "crop.png", "crops/red coat.jpg", "crops/two.jpg"):
        person.save(folder / name)
    query = {"id": "red coat", "image": "q.jpg", "box": [10, 20, 60, 150]}
    (folder / "people.jsonl").write_text(json.dumps(query) + "\n")
    return folder


def make_samples_video(path: Path, frames: Path) -> Path:
    """The frames, one a second, and the first one again."""
    pictures = [np.asarray(Image.open(frame)) for frame in sorted(frames.rglob("*.jpg"))]
    times = range(0, 1000 * len(pictures) + 1, 1000)
    return make_video(path, [*pictures, pictures[0]], times=times)
