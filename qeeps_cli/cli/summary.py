"""What a search tells on stderr when it is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages, format_box, format_count, format_table, visible_name

if TYPE_CHECKING:
    from qeeps_cli.output.folder import Written
    from qeeps_cli.searching.plan import Plan
    from qeeps_cli.searching.tally import Tally
    from qeeps_cli.types import SearchResult, Skipped

BEST = 10
SIGHTINGS = 10
SKIPPED = 10
NOTES = 10


def tell_result(result: "SearchResult", messages: Messages) -> None:
    """Frames searched, the best match of each of the best frames, what was skipped, and notes."""
    from qeeps_cli.output.wording import not_found

    frames = format_count(result.frames_searched, "frame")
    place = format_box(result.query.box) if result.query.box else "the whole picture"
    person = f"{visible_name(result.query.image)} ({place})"
    if not result.matches:
        messages.say(f"{person}: {not_found(result)}", "bold")
    else:
        matches = format_count(len(result.matches), "match", "matches")
        messages.say(f"{frames} searched for {person}: {matches}", "bold")
        rows = [
            [str(match.rank), f"{match.score:.3f}", format_box(match.box), visible_name(match.frame.name)]
            for match in result.best_of_frames()[:BEST]
        ]
        messages.say(format_table(["rank", "score", "x,y,w,h", "image"], rows))
    if result.sightings is not None:
        tell_sightings(result, messages)
    tell_skipped(result.skipped, messages)
    tell_notes(result.notes, messages)


def tell_sightings(result: "SearchResult", messages: Messages) -> None:
    """By how many cameras the person was seen, and the first sightings, with the rules that made them."""
    from qeeps_cli.output.wording import sighting_end, sightings_found

    messages.say(sightings_found(result.sightings, result.parameters["sightings"]), "bold")
    rows = [
        [
            *(sighting_end(sighting.clock, end) for end in (sighting.first, sighting.last)),
            *(str(len(sighting.matches)), f"{sighting.best.score:.3f}"),
            *(visible_name(sighting.camera), visible_name(sighting.best.frame.name)),
        ]
        for sighting in result.sightings[: None if messages.verbose else SIGHTINGS]
    ]
    if rows:
        messages.say(format_table(["first", "last", "frames", "score", "camera", "best match"], rows, left=2))
    if len(rows) < len(result.sightings):
        messages.say(f"  and {len(result.sightings) - len(rows)} more; -v shows them all")


def tell_results(
    rows: "Sequence[tuple[str, SearchResult]]",
    skipped: "Sequence[Skipped]",
    notes: Sequence[str],
    messages: Messages,
) -> None:
    """Several searches of one gallery: the best match of each. rows: id and result."""
    from qeeps_cli.output.wording import not_found

    frames = format_count(max((result.frames_searched for _, result in rows), default=0), "frame")
    queries = format_count(len(rows), "query", "queries")
    messages.say(f"{frames} searched for {queries}; the best match of each:", "bold")
    table = []
    grouped = any(result.sightings is not None for _, result in rows)
    for id, result in rows:
        best = result.matches[0] if result.matches else None
        shown = [f"{best.score:.3f}", format_box(best.box), best.frame.name] if best else ["", "", not_found(result)]
        sightings = [str(len(result.sightings or ()))] if grouped else []
        table.append([visible_name(id), *sightings, *map(visible_name, shown)])
    heads = ["query", *(["sightings"] if grouped else []), "score", "x,y,w,h", "image"]
    messages.say(format_table(heads, table))
    tell_skipped(skipped, messages)
    tell_notes(notes, messages)


def tell_skipped(skipped: "Sequence[Skipped]", messages: Messages) -> None:
    """What could not be used, and why."""
    if not skipped:
        return
    messages.say(f"{format_count(len(skipped), 'input')} skipped:", "bold")
    lines = [f"{visible_name(item.name)}: {item.reason}" for item in skipped]
    for line in _first_of(lines, SKIPPED, messages):
        messages.say(f"  {line}")


def tell_notes(notes: Sequence[str], messages: Messages) -> None:
    """What is unusual."""
    for note in _first_of(list(notes), NOTES, messages):
        messages.note(note)


def tell_work(plan: "Plan", tally: "Tally", messages: Messages) -> None:
    """How the search was done, and how much of it was cached. Nothing of this is in the results."""
    parts = [f"mode {plan.mode}{f' ({plan.reason})' if plan.reason else ''}"]
    for name, computed, cached in (
        ("frame", tally.frames_computed, tally.frames_cached),
        ("pair", tally.pairs_computed, tally.pairs_cached),
    ):
        if computed + cached:
            parts.append(f"{format_count(computed, name)} computed, {cached} from the cache")
    messages.say("; ".join(parts))


def tell_file(path: Path, messages: Messages) -> None:
    """Where the results are."""
    messages.say(f"results  {visible_name(path)}")


def tell_overview(overview: Path, messages: Messages) -> None:
    """Where the results of several searches are."""
    messages.say(f"look at  {visible_name(overview.parent)}/report.html")
    messages.say(f"         {visible_name(overview.parent)}/*/contact_sheet.jpg")
    messages.say(f"numbers  {visible_name(overview)}, and results.json in the folder of each query")


def tell_files(written: "Written", messages: Messages) -> None:
    """Where the pictures and the numbers are."""
    if written.report is not None:
        messages.say(f"look at  {visible_name(written.report)}")
    messages.say(f"{'look at' if written.report is None else '':7}  {visible_name(written.contact_sheet)}")
    if written.annotated:
        pictures = format_count(len(written.annotated), "frame")
        messages.say(f"         {visible_name(written.annotated[0].parent)}/ ({pictures} with matches)")
    if written.crops:
        crops = format_count(len(written.crops), "match", "matches")
        messages.say(f"         {visible_name(written.crops[0].parent)}/ ({crops} cut out)")
    messages.say(f"numbers  {visible_name(written.results)}")
    if written.sightings is not None:
        messages.say(f"         {visible_name(written.sightings)}")


def _first_of(lines: list[str], limit: int, messages: Messages) -> list[str]:
    """The first ones, and how many more there are; all of them with -v."""
    if messages.verbose or len(lines) <= limit:
        return lines
    return [*lines[:limit], f"and {len(lines) - limit} more; -v shows them all"]
