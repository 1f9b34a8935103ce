"""Where the results of a search go: standard output or a file, a folder, or both; and what is told of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import Messages
from qeeps_cli.cli.output_options import OutputOptions
from qeeps_cli.cli.places import File, Folder, FolderOfSeveral, Place

if TYPE_CHECKING:
    from qeeps_cli.searching.request import QueryPicture
    from qeeps_cli.types import Match, SearchResult, Skipped


@contextmanager
def deliver(
    output: OutputOptions,
    pictures: "Sequence[QueryPicture]",
    messages: Messages,
    *,
    several: bool,
    ranked: bool,
    sightings: bool,
    max_pixels: int,
    weights: dict[str, str],
    mode: str,
) -> "Iterator[Delivery]":
    """Gives what takes the results; when the block ends, files are complete and the user is told.

    An exception in the block leaves files as they were; what went to standard output or into a folder stays. several:
    whether matches need to say whose they are. ranked: whether JSONL waits for ranks.
    sightings: whether the results have them. weights: `Checkpoint.describe()`.
    mode: of the plan.
    """
    ids = [picture.id for picture in pictures]
    places: list[Place] = []
    if output.to_stdout or output.file:
        from qeeps_cli.output.writers import get_writer

        writer = get_writer(output.format_name, weights, mode, several=several, flows=not ranked, sightings=sightings)
        places.append(File(writer, output.file))
    if output.out:
        drawing = {"annotate": output.annotate, "crops": output.crops, "max_pixels": max_pixels}
        kind = FolderOfSeveral if several else Folder
        places.append(kind(output.out, ids, weights, mode, drawing))
    delivery = Delivery(places, ids, _Several() if several else _One())
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(place.opened())
        yield delivery
        for place in places:
            place.finish()
    delivery.summary.tell(messages)
    for place in places:
        place.tell(messages)


class Delivery:
    """Takes matches and results as they come."""

    def __init__(self, places: Sequence[Place], ids: Sequence[str], summary: "_One | _Several"):
        self.places = places
        self.ids = ids
        self.summary = summary
        self.has_skipped = False

    @property
    def tell(self) -> "Callable[[int, Sequence[Match]], None] | None":
        """For `run_search`: takes matches of a query as they are found; None where nobody waits for them."""
        flowing = [place for place in self.places if place.flows]
        if not flowing:
            return None

        def tell(number: int, matches: "Sequence[Match]") -> None:
            for place in flowing:
                place.flow(self.ids[number], matches)

        return tell

    @property
    def moves_terminal(self) -> bool:
        """Whether lines appear on the terminal meanwhile, where a bar that moves would be in their way."""
        return any(place.flows and place.is_terminal for place in self.places)

    def take(self, picture: "QueryPicture", result: "SearchResult") -> None:
        """The next result, in the order of the queries."""
        self.has_skipped |= bool(result.skipped)
        notes = [note for place in self.places for note in place.take(picture.id, result)]
        self.summary.add(picture.id, replace(result, notes=[*result.notes, *notes]))


class _One:
    """What is told of the only search."""

    def __init__(self):
        self.result: SearchResult | None = None

    def add(self, id: str, result: "SearchResult") -> None:
        self.result = result

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_result

        if self.result is not None:
            tell_result(self.result, messages)


class _Several:
    """What is told of several searches: a line each, and what they have in common once."""

    def __init__(self):
        self.rows: list[tuple[str, SearchResult]] = []
        self.notes: list[str] = []
        self.skipped: dict[tuple[str, str], Skipped] = {}

    def add(self, id: str, result: "SearchResult") -> None:
        # Of many searches only what a line tells is kept.
        sightings = result.sightings and tuple(replace(sighting, matches=()) for sighting in result.sightings)
        kept = {"matches": result.matches[:1], "sightings": sightings, "skipped": [], "notes": []}
        self.rows.append((id, replace(result, **kept)))
        self.notes += [f"query {id}: {note}" for note in result.notes]
        self.skipped |= {(item.name, item.reason): item for item in result.skipped}

    def tell(self, messages: Messages) -> None:
        from qeeps_cli.cli.summary import tell_results

        tell_results(self.rows, list(self.skipped.values()), self.notes, messages)
