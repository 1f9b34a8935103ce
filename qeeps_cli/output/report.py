"""`report.html`: the results of a search as one page that needs nothing else, to look through and to judge.

The page holds the pictures themselves and fetches nothing. Its size is bounded, and it says what it leaves out:

- at most 200 matches of a search, 600 of all searches (but one of each): the best of each frame first, then others
- at most 30 whole frames, those of the queries and of the first ranks
- at most 600 searches

Verdicts that are given in the page stay in the browser; it exports them as JSON, schema `qeeps.verdicts/1`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from qeeps_cli.images import MAX_PIXELS
from qeeps_cli.output.report_page import render_page
from qeeps_cli.output.report_pictures import Located, locate, make_pictures
from qeeps_cli.output.report_source import make_search, parse_results, read_searches
from qeeps_cli.types import SearchResult

MATCHES, ALL_MATCHES, SEARCHES, WHOLE_FRAMES = 200, 600, 600, 30


@dataclass(frozen=True)
class Report:
    """A page as HTML. searches, matches: how many it holds. missing: pictures that it could not show, and why."""

    html: bytes
    searches: int
    matches: int
    missing: dict[Path, str]


def report_of_results(
    data: bytes,
    name: str,
    read_other: Callable[[str], bytes],
    *,
    images: Path | None = None,
    matches: int | None = None,
    whole_frames: int = WHOLE_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> Report:
    """The page of a results.json.

    data: its bytes, of schema qeeps.search/1, qeeps.searches/1 or qeeps.overview/1; name: of the file, for messages.
    read_other: gives the bytes of the other files that an overview names. images: a folder where the pictures lie, if
    they moved. matches: how many to show of each search; None: see `matches_of_each`. Raises UsageError where `data`
    is something else.
    """
    limit = matches_of_each if matches is None else lambda count: matches
    total, searches = read_searches(parse_results(data, name), name, limit, read_other)
    located = [locate(search, images) for search in islice(searches, SEARCHES)]
    return make_report(located, total=total, whole_frames=whole_frames, max_pixels=max_pixels)


def locate_result(document: Mapping[str, Any], result: SearchResult, id: str = "", searches: int = 1) -> Located:
    """One of some searches, of which this many are made, for `make_report`. document: of `result`."""
    search = make_search(document, matches_of_each(searches), id=id)
    shown = {match.image for match in search.matches}
    found = {match.frame.name: match.frame for match in result.matches if match.frame.name in shown}
    frames = {name: frame if frame.moment else frame.path for name, frame in found.items()}
    return Located(search, result.query.image, frames)


def make_report(
    located: Sequence[Located],
    *,
    total: int | None = None,
    whole_frames: int = WHOLE_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> Report:
    """The page of some searches. total: how many there are, where that is more than are given."""
    pictures = make_pictures(located, whole_frames, max_pixels)
    searches = [one.search for one in located]
    html = render_page(searches, pictures, len(searches) if total is None else total)
    missing = {pictures.paths[person]: reason for person, reason in pictures.missing.items()}
    return Report(html, len(searches), sum(len(search.matches) for search in searches), missing)


def matches_of_each(searches: int) -> int:
    """How many matches of each search a page holds where nobody says."""
    return max(1, min(MATCHES, ALL_MATCHES // max(searches, 1)))
