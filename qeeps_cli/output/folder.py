"""`--out DIR`: one search as a folder that can be looked through.

- `results.json`: everything, schema qeeps.search/1
- `report.html`: the query and its best matches as a page, to look through and to judge (see `report`)
- `contact_sheet.jpg`: the query beside its best matches
- `query.jpg`: the query picture with its box
- `sightings.csv`: where sightings were asked for, one a row
- `annotated/`: each gallery picture that has matches, named by its best rank
- `crops/`: matches cut out of their pictures, named by rank, where they are asked for; results.json names them
- `.qeeps-output`: marks the folder as ours and lists the files above
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qeeps_cli.errors import ImageError, OutputError
from qeeps_cli.frames import FrameReader, in_reading_order
from qeeps_cli.gallery import OUTPUT_MARKER
from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.output import json_writer
from qeeps_cli.output.annotate import annotate_frame, annotate_query, cropped_matches, cut_out, shown_matches
from qeeps_cli.output.atomic import reporting
from qeeps_cli.output.contact_sheet import contact_sheet, match_tile, query_tile
from qeeps_cli.output.csv_table import sightings_csv
from qeeps_cli.output.drawing import jpeg
from qeeps_cli.output.names import annotated_name
from qeeps_cli.output.own_folder import ANNOTATED, CONTACT_SHEET, CROPS, QUERY, REPORT, RESULTS, SIGHTINGS, OwnFolder
from qeeps_cli.output.report import locate_result, make_report
from qeeps_cli.output.wording import count, mode_name, not_found
from qeeps_cli.types import Decoded, GalleryFrame, Match, SearchResult


@dataclass(frozen=True)
class Written:
    """What a folder got. report, sightings: None where none were asked for. annotated, crops: by rank. notes: pictures
    that could not be drawn, and why."""

    results: Path
    contact_sheet: Path
    report: Path | None = None
    sightings: Path | None = None
    annotated: list[Path] = field(default_factory=list)
    crops: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_folder(out: Path, overwrite: bool = False) -> None:
    """Raises OutputError unless `write_folder` can use `out`; creates nothing. For use before the model is loaded.

    Good are a folder that does not exist yet, an empty one, and one that an earlier search wrote; any other only with
    `overwrite`.
    """
    out = Path(out)
    with reporting(out):
        if out.exists() and not out.is_dir():
            raise OutputError(f"--out expects a folder, but {out} is a file. Name another place.")
        if out.exists() and not overwrite:
            names = os.listdir(out)
            if names and OUTPUT_MARKER not in names:
                raise OutputError(
                    f"--out expects a new or empty folder, or one of an earlier search, but {out} holds other files. "
                    "Use --overwrite or another folder."
                )
        folder = next(place for place in (out, *out.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_folder(
    out: Path,
    result: SearchResult,
    weights: Mapping[str, str],
    mode: str,
    *,
    annotate: bool = True,
    crops: bool = False,
    report: bool = True,
    top: int = 50,
    min_score: float = 0.0,
    sheet_top: int = 15,
    max_pixels: int = MAX_PIXELS,
) -> Written:
    """Writes the layout above into `out`, which `check_folder` has accepted; each file whole or not at all.

    Annotated frames show the matches of ranks 1 to `top` that score at least `min_score`, the contact sheet the best of
    each frame for the first `sheet_top` frames; results.json holds all. annotate=False leaves annotated/ out and
    report=False report.html; crops=True adds crops/ with the matches of `cropped_matches`. Of files already there,
    those that an earlier search wrote are replaced or removed and no others. A picture that cannot be read again is a
    note. weights, mode: as in `search_document`. Raises OutputError, and NotANumberError before anything is written.
    """
    shown = shown_matches(result, top, min_score)
    names = _picture_names(shown) if annotate else {}
    cut = cropped_matches(result, top) if crops else []
    crop_names = _crop_names(cut)
    document = json_writer.search_document(result, weights, mode)
    encoded = _with_crops(document, crop_names)
    table = None if result.sightings is None else sightings_csv(result.sightings)
    folder = OwnFolder(Path(out))
    folder.begin({RESULTS, SIGHTINGS, REPORT, CONTACT_SHEET, QUERY, *names.values(), *crop_names.values()})
    folder.write(RESULTS, encoded)
    if table is not None:
        folder.write(SIGHTINGS, table)

    notes: list[str] = []
    with FrameReader(max_pixels) as reader:
        query, query_cell = result.query, None
        picture = _read(reader, query.image, "the query picture", notes)
        if picture is not None:
            folder.write(QUERY, jpeg(annotate_query(picture.rgb, query.box)))
            query_cell = query_tile(picture.rgb, query.box, query.image.name)
        tiles = []
        on_sheet = [match for match in result.best_of_frames() if match.score >= min_score][:sheet_top]
        on_annotated, of_crops = _by_frame(shown) if annotate else {}, _by_frame(cut)
        for frame in in_reading_order(match.frame for match in [*shown, *on_sheet, *cut]):
            drawn, cropped = on_annotated.get(frame, []), of_crops.get(frame, [])
            wanted = [match for match in on_sheet if match.frame == frame]
            if not drawn and not wanted and not cropped:
                continue
            picture = _read(reader, frame, frame.name, notes)
            if picture is None:
                continue
            if drawn:
                folder.write(names[frame], jpeg(annotate_frame(picture.rgb, drawn, shown[0].score)))
            for match in cropped:
                folder.write(crop_names[match.rank], jpeg(cut_out(picture.rgb, match.box)))
            tiles += [match_tile(picture.rgb, match.box, match.rank, match.score, frame.name) for match in wanted]
    tiles.sort(key=lambda tile: tile.rank)
    summary = _summary(result, weights, mode, len(tiles))
    folder.write(CONTACT_SHEET, jpeg(contact_sheet(query_cell, tiles, summary, _message(result, min_score))))
    if report:
        folder.write(REPORT, make_report([locate_result(document, result)], max_pixels=max_pixels).html)
    made = {rank: name for rank, name in crop_names.items() if name in folder.written}
    if made != crop_names:
        folder.write(RESULTS, _with_crops(document, made))
    folder.finish()
    annotated = [folder.out / name for name in names.values() if name in folder.written]
    cut_files = [folder.out / name for name in made.values()]
    page = folder.out / REPORT if report else None
    rows = None if table is None else folder.out / SIGHTINGS
    return Written(folder.out / RESULTS, folder.out / CONTACT_SHEET, page, rows, annotated, cut_files, notes)


def _picture_names(shown: list[Match]) -> dict[GalleryFrame, str]:
    """The annotated picture of each frame, relative to the folder."""
    digits = max(3, len(str(shown[-1].rank))) if shown else 3
    return {
        frame: f"{ANNOTATED}/{_name_of(matches[0], digits)}"
        for frame, matches in _by_frame(shown).items()
    }


def _crop_names(cut: list[Match]) -> dict[int, str]:
    """The crop of each rank, relative to the folder."""
    digits = max(3, len(str(cut[-1].rank))) if cut else 3
    return {match.rank: f"{CROPS}/{_name_of(match, digits)}" for match in cut}


def _name_of(match: Match, digits: int) -> str:
    moment = match.frame.moment
    return annotated_name(match.rank, match.frame.name, digits, clock=moment.clock if moment else "")


def _with_crops(document: dict, names: Mapping[int, str]) -> bytes:
    """The document, in which each match that has a crop names it."""
    matches = [
        {**match, "crop": names[match["rank"]]} if match["rank"] in names else match for match in document["matches"]
    ]
    return json_writer.dump({**document, "matches": matches})


def _by_frame(matches: list[Match]) -> dict[GalleryFrame, list[Match]]:
    """The matches of each frame, and the frames, in the order of ranks."""
    frames: dict[GalleryFrame, list[Match]] = {}
    for match in matches:
        frames.setdefault(match.frame, []).append(match)
    return frames


def _read(reader: FrameReader, place: GalleryFrame | Path, name: str, notes: list[str]) -> Decoded | None:
    try:
        return reader.read(place)
    except ImageError as error:
        notes.append(f"{name} was not drawn: {error.reason}")
        return None


def _summary(result: SearchResult, weights: Mapping[str, str], mode: str, drawn: int) -> list[str]:
    lines = [f"{count(result.frames_searched, 'frame')} searched"]
    if drawn:
        lines.append(f"{count(len(result.matches), 'match', 'matches')}")
        lines.append(f"the best of {count(drawn, 'frame')} shown")
    if result.skipped:
        lines.append(f"{count(len(result.skipped), 'input')} skipped")
    return [*lines, f"mode {mode_name(mode, result.parameters)}", f"weights {weights['name']}"]


def _message(result: SearchResult, min_score: float) -> str:
    """What the contact sheet says where it has no match to show."""
    if not result.matches:
        return not_found(result)
    best = result.matches[0].score
    if best >= min_score:
        return "no matches shown"  # none was asked for, or none of their pictures could be read again
    return f"no match scores {min_score:.2f} or more; the best scores {best:.2f}"
