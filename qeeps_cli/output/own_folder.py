"""A folder that we fill. What in it is ours is listed: a later run replaces and removes that and nothing else."""

import os
from contextlib import suppress
from pathlib import Path

from qeeps_cli.gallery import OUTPUT_MARKER
from qeeps_cli.output.atomic import reporting, write_file

RESULTS, CONTACT_SHEET, QUERY, REPORT = "results.json", "contact_sheet.jpg", "query.jpg", "report.html"
SIGHTINGS = "sightings.csv"
ANNOTATED, CROPS = "annotated", "crops"
FILES, FOLDERS = (RESULTS, CONTACT_SHEET, QUERY, REPORT, SIGHTINGS), (ANNOTATED, CROPS)


class OwnFolder:
    """The files of one result, or the folders of several, and the marker file that lists them.

    Names are relative; that of a folder, which is itself an OwnFolder, ends in a slash.
    """

    def __init__(self, out: Path):
        self.out = out
        self.listed: set[str] = set()
        self.written: set[str] = set()

    def begin(self, planned: set[str]) -> None:
        """Marks the folder before anything else: whatever interrupts us, its files are known as ours."""
        with reporting(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            self.listed = self._listed()
        self._mark(self.listed | planned)

    def write(self, name: str, data: bytes) -> None:
        path = self.out / name
        if path.parent != self.out and not path.parent.exists():
            with reporting(path.parent):
                path.parent.mkdir()
            write_file(path.parent / OUTPUT_MARKER, b"")  # for a gallery that starts inside our folder
        write_file(path, data)
        self.written.add(name)

    def finish(self) -> None:
        """Removes what an earlier run wrote and this one did not."""
        with reporting(self.out):
            self._remove(self.listed - self.written)
        self._mark(self.written)

    def _remove(self, names: set[str]) -> None:
        for name in names:
            if name.endswith("/"):
                OwnFolder(self.out / name)._remove_all()
            else:
                (self.out / name).unlink(missing_ok=True)

    def _remove_all(self) -> None:
        """Everything that is ours, and the folders that are empty then."""
        if not (self.out / OUTPUT_MARKER).is_file() or self.out.is_symlink():
            return
        self._remove(self._listed())
        for folder in (*(self.out / name for name in FOLDERS), self.out):
            others = set(os.listdir(folder)) - {OUTPUT_MARKER} if folder.is_dir() else {"absent"}
            if not others:
                (folder / OUTPUT_MARKER).unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()

    def _listed(self) -> set[str]:
        marker = self.out / OUTPUT_MARKER
        lines = marker.read_text("ascii", "replace").splitlines() if marker.is_file() else []
        # Only names that we could have written: the marker is a plain text file, and what it lists may be removed.
        return {line for line in lines if line in FILES or _is_ours(line)}

    def _mark(self, names: set[str]) -> None:
        write_file(self.out / OUTPUT_MARKER, "".join(f"{name}\n" for name in sorted(names)).encode("ascii"))


def _is_ours(name: str) -> bool:
    folder, _, file = name.partition("/")
    if not file:  # a folder of several results
        return name.endswith("/") and folder not in ("", ".", "..", *FOLDERS) and os.sep not in folder
    return folder in FOLDERS and file.endswith(".jpg") and "/" not in file and os.sep not in file
