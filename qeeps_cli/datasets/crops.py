"""Re-identification sets: pictures of one person each, listed in `index.csv` (file,person_id,camera)."""

import csv
from pathlib import Path

from qeeps_cli.datasets.files import Listing, require_all, require_file, require_folder
from qeeps_cli.datasets.frames import CropSet
from qeeps_cli.errors import DataError
from qeeps_cli.types import LabelledCrop

COLUMNS = ("file", "person_id", "camera")


def load_crops(root: Path) -> CropSet:
    """Reads root/index.csv, whose files are relative to root.

    Raises DataError, with file and line, for a missing index, column or image and for an id that is no integer ≥ 0.
    """
    root = require_folder(Path(root), "the root of a crop set, with index.csv")
    index = require_file(root / "index.csv", f"the crop set's index with the columns {','.join(COLUMNS)}")
    with index.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        rows = csv.DictReader(lines)
        lacking = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        require_all(lacking, index, "columns are missing from the first line")
        crops = tuple(_parse_row(row, root, f"{index}, line {rows.line_num}") for row in rows)
    listing = Listing()
    require_all([str(crop.path) for crop in crops if not listing.holds(crop.path)], index, "crop files do not exist")
    return CropSet(name=root.name, crops=crops)


def _parse_row(row: dict, root: Path, where: str) -> LabelledCrop:
    person_id = row["person_id"] or ""
    if not row["file"] or not person_id.isdecimal():
        raise DataError(f"{where}: expected a file and an integer person_id of 0 or more, got {dict(row)!r}.")
    return LabelledCrop(path=root / row["file"], person_id=int(person_id), camera=row["camera"] or "")
