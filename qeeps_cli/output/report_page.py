"""The HTML of a report: texts and pictures into the page of `report_static/`.

Everything that comes from a results.json or a file's name is escaped, and the page's own Content-Security-Policy lets
nothing run but our script and nothing be fetched at all.
"""

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from qeeps_cli.output.contact_sheet import CELL, QUERY_CELL
from qeeps_cli.output.report_pictures import Person, Pictures
from qeeps_cli.output.report_source import ReportMatch, ReportSearch
from qeeps_cli.output.report_text import shown, wrapping
from qeeps_cli.output.report_timeline import shown_sightings, timeline
from qeeps_cli.output.wording import count

SKIPPED_SHOWN = 20


def render_page(searches: Sequence[ReportSearch], pictures: Pictures, total: int) -> bytes:
    """The page as UTF-8. total: how many searches there are, of which `searches` are the first."""
    style = _static("report.css") + _static("timeline.css")
    script = _static("timeline.js") + _static("report.js")
    low, high = _score_range(searches)
    page = Template(_static("page.html")).substitute(
        title=shown(_title(searches)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        summary=_summary(searches, total),
        low=f"{low:.2f}",
        high=f"{high:.2f}",
        sections="\n".join([*_contents(searches), *_sections(searches, pictures)]),
        limits="\n".join(f"<p>{line}</p>" for line in _limits(searches, pictures, total)),
        data=_data(searches, pictures),
    )
    return page.encode("utf-8")


def _title(searches: Sequence[ReportSearch]) -> str:
    if len(searches) == 1:
        return f"Person search: {os.path.basename(searches[0].query['image'])}"
    return f"Person search: {len(searches)} queries"


def _summary(searches: Sequence[ReportSearch], total: int) -> str:
    frames = max((search.frames_searched for search in searches), default=0)
    matches = sum(search.total for search in searches)
    parts = [count(total, "query", "queries"), f"{count(frames, 'frame')} searched", count(matches, "match", "matches")]
    if searches:
        weights = searches[0].weights
        parts += [f"mode {shown(searches[0].mode)}", f"weights {shown(weights['name'])}"]
    return " · ".join(parts)


def _score_range(searches: Sequence[ReportSearch]) -> tuple[float, float]:
    """Of the slider: 0 to 1, and as much more as the scores need (a cosine may be negative)."""
    scores = [match.score for search in searches for match in search.matches]
    return math.floor(min([0.0, *scores]) * 100) / 100, math.ceil(max([1.0, *scores]) * 100) / 100


def _contents(searches: Sequence[ReportSearch]) -> Iterator[str]:
    """Links to the searches, where there are several."""
    if len(searches) < 2:
        return
    yield '<nav class="contents" aria-label="Queries"><ol>'
    for number, search in enumerate(searches, start=1):
        best = f" <span>{search.matches[0].score:.3f}</span>" if search.matches else " <span>no match</span>"
        yield f'<li><a href="#s{number}"><bdi>{shown(search.id or str(number))}</bdi></a>{best}</li>'
    yield "</ol></nav>"


def _sections(searches: Sequence[ReportSearch], pictures: Pictures) -> Iterator[str]:
    for number, search in enumerate(searches):
        heading = f"Query <bdi>{shown(search.id)}</bdi>" if search.id else "Query"
        yield f'<section class="search" id="s{number + 1}" aria-labelledby="h{number + 1}">'
        yield f'<div class="query"><h2 id="h{number + 1}">{heading}</h2>'
        yield _picture(Person(number, None), pictures, QUERY_CELL, "The person searched for", "query-open")
        yield f"<dl>{''.join(_facts(search))}</dl>"
        yield "".join(_remarks(search))
        yield "</div>"
        yield f'<div class="found"><h2 class="found-heading">{_found(search)}</h2>'
        yield from timeline(search, number + 1, len(searches))
        yield f'<p class="nothing" id="n{number + 1}" hidden></p>'
        yield '<ol class="cards">'
        yield from (_card(number, place, match, pictures) for place, match in enumerate(search.matches))
        yield "</ol></div></section>"


def _found(search: ReportSearch) -> str:
    if search.total:
        return f"{count(search.total, 'match', 'matches')} in {count(search.frames, 'frame')}"
    best = "" if search.best_score is None else f"; the best candidate scored {search.best_score:.3f}"
    return f"Not found in {count(search.frames_searched, 'frame')}{best}"


def _facts(search: ReportSearch) -> Iterator[str]:
    box = search.query["box"]
    facts = [
        ("Picture", search.query["image"]),
        ("Box x, y, w, h", "the whole picture" if box is None else ", ".join(f"{side:g}" for side in box)),
        ("Frames searched", str(search.frames_searched)),
        ("Mode", search.mode),
        ("Weights", f"{search.weights['name']} {search.weights['digest'][:19]}"),
    ]
    for name, text in facts:
        yield f"<div><dt>{name}</dt><dd><bdi>{wrapping(text)}</bdi></dd></div>"


def _remarks(search: ReportSearch) -> Iterator[str]:
    """Notes, and the inputs that were skipped."""
    yield from (f'<p class="note">{shown(note)}</p>' for note in search.notes)
    if not search.skipped:
        return
    yield f'<details class="skipped"><summary>{count(len(search.skipped), "input")} skipped</summary><ul>'
    for image, reason in search.skipped[:SKIPPED_SHOWN]:
        yield f"<li><bdi>{shown(image)}</bdi>: {shown(reason)}</li>"
    if len(search.skipped) > SKIPPED_SHOWN:
        yield f"<li>and {len(search.skipped) - SKIPPED_SHOWN} more, in the results</li>"
    yield "</ul></details>"


def _card(number: int, place: int, match: ReportMatch, pictures: Pictures) -> str:
    person = Person(number, place)
    frame = shown(os.path.basename(match.image) or match.image)
    label = f"Match {match.rank}, score {match.score:.3f}, {frame}"
    path = os.fspath(pictures.paths[person])
    return (
        f'<li class="card" id="m{number + 1}-{match.rank}">'
        f"{_picture(person, pictures, CELL, label, 'open')}"
        f'<p class="head"><span class="rank">{match.rank}</span><span class="score">{match.score:.3f}</span>'
        f'<span class="person">person {match.person_score:.2f}</span></p>'
        f'<p class="name"><bdi>{frame.replace("@", "@<wbr>")}</bdi></p>'
        f'<p class="file" title="{shown(path)}"><bdi>{wrapping(path)}</bdi></p>'
        '<p class="verdict"></p>'
        '<div class="choice" hidden><button type="button" class="reject" aria-pressed="false" '
        f'aria-label="Reject match {match.rank}">Reject</button><button type="button" class="accept" '
        f'aria-pressed="false" aria-label="Accept match {match.rank}">Accept</button></div></li>'
    )


def _picture(person: Person, pictures: Pictures, size: tuple[int, int], label: str, name: str) -> str:
    """A crop that can be clicked, or what stands in its place and why."""
    crop = pictures.crops.get(person)
    if crop is None:
        reason = shown(pictures.missing[person])
        inside = f'<span class="missing"><strong>No picture</strong><span>{reason}</span></span>'
    else:
        inside = f'<img src="{_uri(crop)}" width="{size[0]}" height="{size[1]}" alt="{label}" decoding="async">'
    return f'<button type="button" class="{name}" aria-label="{label}">{inside}</button>'


def _limits(searches: Sequence[ReportSearch], pictures: Pictures, total: int) -> Iterator[str]:
    """What the page leaves out."""
    if total > len(searches):
        yield f"This page holds the first {len(searches)} of {total} searches."
    listed, matches = sum(len(search.matches) for search in searches), sum(search.total for search in searches)
    if listed < matches:
        yield (
            f"To stay small, this page holds {listed} of {count(matches, 'match', 'matches')}: the best of each frame "
            "first, then others by rank. <code>results.json</code> has all, and <code>qeeps report --matches N</code> "
            "shows more."
        )
    frames = len({path for person, path in pictures.paths.items() if person in pictures.crops})
    if len(pictures.large) < frames:
        yield (
            f"Of {count(frames, 'frame')}, it holds {len(pictures.large)} whole, those of the first ranks, and of the "
            "others the crops only. <code>qeeps report --frames N</code> shows more."
        )
    held = sum(len(shown_sightings(search, len(searches))) for search in searches)
    sightings = sum(len(search.sightings or ()) for search in searches)
    if held < sightings:
        yield f"Of {count(sightings, 'sighting')}, it shows {held} in the timelines, those of the first ranks."
    if pictures.missing:
        missing = count(len({pictures.paths[person] for person in pictures.missing}), "picture")
        yield (
            f"{missing} could not be shown. If they moved, <code>qeeps report --images DIR</code> looks for them there."
        )


def _data(searches: Sequence[ReportSearch], pictures: Pictures) -> str:
    """What the script needs, as JSON in ASCII in which nothing can end the script element."""
    places = {path: number for number, path in enumerate(pictures.large)}

    def large(person: Person) -> int | None:
        return places.get(pictures.paths[person]) if person in pictures.crops else None

    document = {
        "searches": [
            {
                "id": search.id,
                "result": search.digest,
                "query": dict(search.query),
                "weights": dict(search.weights),
                "mode": search.mode,
                "large": large(Person(number, None)),
                "sightings": [
                    {"best": sighting.best, "ranks": list(sighting.ranks)}
                    for sighting in shown_sightings(search, len(searches))
                ],
                "matches": [
                    _match_data(match) | {"best": match.best, "large": large(Person(number, place))}
                    for place, match in enumerate(search.matches)
                ],
            }
            for number, search in enumerate(searches)
        ],
        "frames": [
            {"width": frame.size[0], "height": frame.size[1], "src": _uri(frame.jpeg)}
            for frame in pictures.large.values()
        ],
    }
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _match_data(match: ReportMatch) -> dict[str, Any]:
    return {
        "rank": match.rank,
        "image": match.image,
        "box": list(match.box),
        "score": match.score,
        "person_score": match.person_score,
    }


def _uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


@cache
def _static(name: str) -> str:
    return resources.files("qeeps_cli.output").joinpath("report_static", name).read_text("utf-8")
