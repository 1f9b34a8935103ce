"""File names for the eye: as labels on pictures, and as names of output files that cannot collide."""

import os
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence

MAX_STEM = 100  # characters, so at most 100 bytes: file systems allow 255


def printable(name: str) -> str:
    """The name in printable ASCII, which is all that Pillow's own font draws: accents fall off, the rest becomes `?`.

    For pictures only; results.json holds the exact name.
    """
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in plain)


def annotated_name(rank: int, frame_name: str, digits: int = 3, clock: str = "") -> str:
    """The output file of a match, or of a gallery frame whose best match has this rank: `a/1.png` at rank 7 is
    `007_a_1.png.jpg`.

    A rank occurs once, so the names of a result differ whatever the frames are called, also on a file system that
    ignores case. digits: to which the rank is zero-padded, so that the files sort by rank. clock: with which the name
    of a video's frame ends: `a/1.mp4@00:00:02.500` is `007_a_1.mp4@00-00-02.500.jpg`.
    """
    if clock:
        video = _plain(os.path.normpath(frame_name.removesuffix(f"@{clock}")).lstrip("./\\"))
        return f"{rank:0{digits}d}_{elide(video, MAX_STEM, ellipsis='__')}@{clock.replace(':', '-')}.jpg"
    stem = _plain(os.path.normpath(frame_name).lstrip("./\\"))
    if stem.lower().endswith((".jpg", ".jpeg")):
        stem = stem.rpartition(".")[0]
    return f"{rank:0{digits}d}_{elide(stem, MAX_STEM, ellipsis='__')}.jpg"


def folder_names(ids: Sequence[str]) -> list[str]:
    """A folder's name for each id, that reads like it: `cam 1/a` is `cam_1_a`.

    The names differ, also on a file system that ignores case, and none is that of a file that we write beside them.
    """
    names: list[str] = []
    taken = {"results.json", "report.html", "annotated", "crops"}
    for number, text in enumerate(ids, start=1):
        wanted = elide(_plain(text).strip("."), MAX_STEM, ellipsis="__") or "query"
        name, attempt = wanted, number
        while name.casefold() in taken:
            name, attempt = f"{wanted}-{attempt}", attempt + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _plain(name: str) -> str:
    """With nothing but ASCII letters and digits, `-`, `_` and `.`."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in printable(name))


def elide(text: str, length: int, ellipsis: str = "...") -> str:
    """The text, cut in the middle to at most `length` characters: names differ at their ends more than in between."""
    if len(text) <= length:
        return text
    if length <= len(ellipsis):
        return text[:length]
    kept = length - len(ellipsis)
    tail = kept * 2 // 3
    return text[: kept - tail] + ellipsis + text[len(text) - tail :]


def wrap_elided(text: str, fits: Callable[[str], bool], lines: int) -> list[str]:
    """The text on at most `lines` lines that each satisfy `fits`, cut in the middle where it is too long for them."""
    lengths = range(len(text) + 1)
    too_long = bisect_left(lengths, True, key=lambda length: len(_wrap(elide(text, length), fits, lines)) > lines)
    return _wrap(elide(text, max(too_long - 1, 0)), fits, lines)


def _wrap(text: str, fits: Callable[[str], bool], lines: int) -> list[str]:
    """Greedy lines; breaks after `/`, `_`, `-` or a space where one stands in the second half of a line.

    Stops at one line more than `lines`.
    """
    wrapped: list[str] = []
    while text and len(wrapped) <= lines:
        end = 1
        while end < len(text) and fits(text[: end + 1]):
            end += 1
        if end < len(text):
            end = next((cut for cut in range(end, end // 2, -1) if text[cut - 1] in "/_- "), end)
        wrapped.append(text[:end].strip())
        text = text[end:]
    return wrapped
