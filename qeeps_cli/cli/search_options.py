"""The options of `qeeps search` that no other command has, and the queries that they ask for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qeeps_cli.cli.gallery_options import STDIN
from qeeps_cli.errors import UsageError

if TYPE_CHECKING:
    from qeeps_cli.searching.queries import QueryRequest

Query = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="IMAGE|VIDEO@TIME",
        help="A picture of the person, or a moment of a video: video.mp4@00:01:02; may be repeated.",
    ),
]
BoxText = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,W,H", help="Where the person is in it, in pixels; once for each --query. Default: the whole of it."
    ),
]
Person = Annotated[
    list[int] | None,
    typer.Option(metavar="N", help="Instead of --box: the person's number in `qeeps detect`, from 1 on."),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|-",
        help='Many queries: a JSON object a line, {"image": path, "box": [x, y, w, h], "id": text}; -: standard input.',
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar="exact|cached|cascade|auto",
        help="exact: the network runs on each pair of query and frame. cached: on each frame once, for all queries. "
        "cascade: cached, then exact for the best frames. auto: exact up to 200 pairs (10,000 on a GPU), else cascade.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Keep only the N best matches. Default: each frame's best and the 10,000 best of all."
    ),
]
MinScore = Annotated[
    float | None, typer.Option(metavar="F", help="Keep only matches that score at least this, 0 to 1. Default: all.")
]
ExcludeQuery = Annotated[
    bool, typer.Option("--exclude-query", help="Leave out gallery frames that are the query picture itself.")
]


def read_requests_of(
    query: list[Path] | None, box: list[str] | None, person: list[int] | None, queries: Path | None
) -> "list[QueryRequest]":
    """The queries that the options ask for. Raises UsageError."""
    from qeeps_cli.searching.queries import parse_requests, requests_of_options

    if queries is None:
        if not query:
            raise UsageError("expected --query IMAGE, or a list of queries: --queries FILE.")
        return requests_of_options(query, box or [], person or [])
    if query or box or person:
        raise UsageError("expected either --queries or --query with --box or --person, got both.")
    if queries == STDIN and sys.stdin is None:
        raise UsageError("--queries - reads standard input, which is closed.")
    try:
        data = sys.stdin.buffer.read() if queries == STDIN else queries.read_bytes()
    except OSError as error:
        raise UsageError(f"--queries {queries} cannot be read: {error.strerror or error}.") from None
    return parse_requests(data, "standard input" if queries == STDIN else str(queries), queries.parent)
