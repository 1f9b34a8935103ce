"""The files that the documentation's commands name, small."""

import json
import shutil
from pathlib import Path

from command_line import SIZE
from PIL import Image

QUERY = "vtest_0550.jpg"
BOX = (169, 367, 57, 146)


def make_samples(folder: Path, examples: Path, frames: Path) -> Path:
    """q.jpg, crop.jpg, crop.png, crops/, people.jsonl, frames/ and a few of examples/cctv/frames."""
    source = examples / "cctv" / "frames"
    gallery = folder / "examples" / "cctv" / "frames"
    gallery.mkdir(parents=True)
    for name in ("vtest_0050.jpg", QUERY):
        shutil.copy(source / name, gallery)
    shutil.copy(source / QUERY, folder / "q.jpg")
    shutil.copytree(frames, folder / "frames")
    (folder / "crops").mkdir()
    x, y, w, h = BOX
    with Image.open(source / QUERY) as picture:
        person = picture.crop((x, y, x + w, y + h))
    for name in ("crop.jpg", "crop.png", "crops/red coat.jpg", "crops/two.jpg"):
        person.save(folder / name)
    query = {"id": "red coat", "image": "q.jpg", "box": [10, 20, 60, 150]}
    (folder / "people.jsonl").write_text(json.dumps(query) + "\n")
    return folder


def make_video(path: Path, frames: Path) -> None:
    """A second of the frames, with ffmpeg."""
    import subprocess

    names = [f"file '{frame.resolve()}'\nduration 0.5\n" for frame in sorted(frames.rglob("*.jpg"))]
    listing = path.with_suffix(".txt")
    listing.write_text("".join(names))
    size = f"scale={SIZE[0]}:{SIZE[1]}"
    line = ["ffmpeg", "-loglevel", "error", "-f", "concat", "-safe", "0", "-i", listing, "-vf", size, "-r", "4", path]
    subprocess.run(line, check=True, stdin=subprocess.DEVNULL)
