"""What a search tells on stderr when it is done."""

from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages, format_box, format_count, format_table, visible_name

if TYPE_CHECKING:
    from qeeps_cli.output.folder import Written
    from qeeps_cli.types import SearchResult

BEST = 10
SKIPPED = 10
NOTES = 10


def tell_result(result: "SearchResult", messages: Messages) -> None:
    """Frames searched, the best match of each of the best frames, what was skipped, and notes."""
    frames = format_count(result.frames_searched, "frame")
    matches = format_count(len(result.matches), "match", "matches")
    place = format_box(result.query.box) if result.query.box else "the whole picture"
    messages.say(f"{frames} searched for {visible_name(result.query.image)} ({place}): {matches}", "bold")
    if result.matches:
        rows = [
            [str(match.rank), f"{match.score:.3f}", format_box(match.box), visible_name(match.frame.name)]
            for match in result.best_of_frames()[:BEST]
        ]
        messages.say(format_table(["rank", "score", "x,y,w,h", "image"], rows))
    if result.skipped:
        messages.say(f"{format_count(len(result.skipped), 'input')} skipped:", "bold")
        skipped = [f"{visible_name(item.name)}: {item.reason}" for item in result.skipped]
        for line in _first_of(skipped, SKIPPED, messages):
            messages.say(f"  {line}")
    for note in _first_of(result.notes, NOTES, messages):
        messages.note(note)


def tell_files(written: "Written", messages: Messages) -> None:
    """Where the pictures and the numbers are."""
    messages.say(f"look at  {visible_name(written.contact_sheet)}")
    if written.annotated:
        pictures = format_count(len(written.annotated), "frame")
        messages.say(f"         {visible_name(written.annotated[0].parent)}/ ({pictures} with matches)")
    messages.say(f"numbers  {visible_name(written.results)}")
    for note in written.notes:
        messages.note(note)


def _first_of(lines: list[str], limit: int, messages: Messages) -> list[str]:
    """The first ones, and how many more there are; all of them with -v."""
    if messages.verbose or len(lines) <= limit:
        return lines
    return [*lines[:limit], f"and {len(lines) - limit} more; -v shows them all"]
