"""The text of `qeeps benchmark`, drawn from its JSON document: aligned columns, and lines on a terminal."""

import io
import os
import sys
from typing import Any

from qeeps_cli.cli.messages import visible_name
from qeeps_cli.cli.progress import format_time
from qeeps_cli.output.wording import mode_name

HEADS = ("mAP", "top-1", "top-5", "top-10", "max recall")
MEASURES = ("mAP", "top1", "top5", "top10", "max_recall")
Row = tuple[str, list[str]]  # a name and its numbers


def report(document: dict[str, Any], terminal: bool) -> str:
    """All of it. terminal: with lines and emphasis; else plain text in the same order."""
    sections = [
        "\n".join(_heading(document)),
        _warnings(document),
        _scores(document, terminal),
        "\n".join(_published_note(document)),
        "\n".join(_detection(document)),
        "\n".join(_how(document)),
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections if section) + "\n"


def is_terminal() -> bool:
    """Whether stdout is a terminal that can show more than plain text."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _heading(document: dict[str, Any]) -> list[str]:
    counts = document["counts"]
    named = document["dataset"]
    details = [_count(counts[key], key) for key in ("queries", "frames", "pairs")]
    if named["gallery_size"] is not None:
        details.insert(0, f"gallery {named['gallery_size']}")
    if named["cross_camera"]:
        details.insert(0, "across cameras")
    model = document["model"]
    return [
        f"{visible_name(named['set'])}: {', '.join(details)}",
        f"{visible_name(document['weights']['name'])}: {document['variant']} on {model['backbone']}, frames of "
        f"{model['shorter_side']} to {model['longest_side']} pixels; {_ranking(document)}",
    ]


def _ranking(document: dict[str, Any]) -> str:
    if document["method"] == "oim":
        note = "" if document["variant"] == "oim" else f", with the weights of a {document['variant']} network"
        return f"method oim: cosine, person score {document['det_thresh']:g} or more{note}"
    ways = {
        "exact": "exact: each pair through the network",
        "cached": "cached: each frame once, without the query",
        "cascade": f"cascade: cached, then the best {_rescored(document)} frames of each query exactly",
    }
    return ways[document["mode"]] + ("; expanded by each query's best match" if document["expand"] else "")


def _rescored(document: dict[str, Any]) -> str:
    """How many frames of a query, for a reader; a mean where galleries differ in size."""
    mean = document["counts"]["pairs_exact"] / max(document["counts"]["queries"], 1)
    return f"{mean:.0f}" if mean == round(mean) else f"{mean:.1f} (mean)"


def _warnings(document: dict[str, Any]) -> str:
    return "\n".join(f"WARNING: {visible_name(text)}" for text in document["warnings"])


def _scores(document: dict[str, Any], terminal: bool) -> str:
    way = "oim" if document["method"] == "oim" else mode_name(document["mode"], document)
    own = f"{visible_name(document['weights']['name'])}, {way}"
    if not document["comparable"]:
        own += " (limited)"
    rows = [(own, [_percent(document["search"][key]) for key in MEASURES])]
    published = [
        (f"{row['method']}, {row['year']}", [_number(row.get(key)) for key in MEASURES])
        for row in document["published"]
    ]
    return _drawn(rows, published) if terminal else _aligned(rows, published)


def _aligned(rows: list[Row], published: list[Row]) -> str:
    first = max(len(name) for name, _ in [*rows, *published])
    widths = [max(len(head), 5) for head in HEADS]

    def line(name: str, cells: list[str]) -> str:
        return "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])

    lines = [line("", list(HEADS)), *(line(*row) for row in rows)]
    if published:
        lines += ["published", *(line(*row) for row in published)]
    return "\n".join(text.rstrip() for text in lines)


def _drawn(rows: list[Row], published: list[Row]) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for name, cells in rows:
        table.add_row(Text(name, "bold"), *(Text(cell, "bold") for cell in cells), end_section=True)
    if published:
        table.add_row(Text("published", "dim"))
    for name, cells in published:
        table.add_row(Text(name), *map(Text, cells))
    console = Console(file=io.StringIO(), force_terminal=True, markup=False, highlight=False, emoji=False)
    console.print(table)
    return console.file.getvalue()


def _published_note(document: dict[str, Any]) -> list[str]:
    lines = []
    sources = sorted({row["source"] for row in document["published"]})
    if sources:
        lines.append(f"published: as printed in {'; '.join(sources)}")
        if any("‡" in row["method"] for row in document["published"]):
            lines.append("OIM‡: the OIM baseline of that paper on frames of 900 to 1500 pixels")
    if document["other_sides"]:
        sides = " and ".join(str(side) for side in document["other_sides"])
        lines.append(
            f"The published results of this set are for frames of {sides} pixels (shorter side), not "
            f"{document['model']['shorter_side']}; docs/benchmark.md lists them."
        )
    return lines


def _detection(document: dict[str, Any]) -> list[str]:
    found = document["detection"]
    if found is None:
        return [
            "detection: not measured: the exact mode makes no query-independent detections. --detection makes them, "
            f"with a pass through the network for each of {_count(document['counts']['frames'], 'frames')}."
        ]
    rows = [
        (f"person score {found['confident']['person_score']:g} or more", found["confident"]),
        (f"person score {document['parameters']['min_person_score']:g} or more", found["all"]),
    ]
    width = max(len(name) for name, _ in rows)
    return [
        f"detection at IoU 0.5 of {_count(found['all']['people'], 'people')}",
        *(f"  {name.ljust(width)}  recall {_percent(s['recall']):>5}  AP {_percent(s['ap']):>5}" for name, s in rows),
    ]


def _how(document: dict[str, Any]) -> list[str]:
    run = document["run"]
    done = [f"{run[key]:,} {what}" for key, what in _WORK if run[key]]
    speed = f" ({run['pairs_per_second']:.3g} pairs/s)" if run["pairs_per_second"] else ""
    memory = [f"{run[key] / 1e9:.2f} GB{what}" for key, what in _MEMORY if run[key]]
    return [
        f"{', '.join(done) or 'nothing run'} in {format_time(run['seconds'])}{speed}",
        f"device      {run['device']}, {run['precision']}; peak memory {' and '.join(memory) or 'not known'}",
        f"weights     {document['weights']['digest']}",
        f"parameters  {', '.join(f'{key} {value}' for key, value in document['parameters'].items())}",
        f"versions    {', '.join(f'{key} {value}' for key, value in document['versions'].items())}",
    ]


_MEMORY = (("peak_memory", ""), ("peak_gpu_memory", " on the GPU"))
_WORK = (
    ("pairs_computed", "pairs run"),
    ("pairs_cached", "pairs from the cache"),
    ("frames_computed", "frames run"),
    ("frames_cached", "frames from the cache"),
)


def _count(number: int, things: str) -> str:
    """`1 query`, `24 queries`."""
    one = {"queries": "query", "frames": "frame", "pairs": "pair", "people": "person"}[things]
    return f"{number:,} {one if number == 1 else things}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
