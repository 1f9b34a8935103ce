"""`--dry-run`: what a command would do, on stdout. Nothing is written, and the network runs on a few frames only."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qeeps_cli.cli.messages import Messages, format_count, visible_name
from qeeps_cli.cli.progress import format_time
from qeeps_cli.cli.stdout import write_stdout
from qeeps_cli.cli.summary import tell_notes, tell_skipped
from qeeps_cli.errors import ExitCode

if TYPE_CHECKING:
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.searching.estimate import Estimate
    from qeeps_cli.searching.galleries import Gallery
    from qeeps_cli.searching.plan import Plan
    from qeeps_cli.searching.preview import Preview

SCHEMA = "qeeps.plan/1"


def show_plan(
    engine: "Engine",
    gallery: "Gallery",
    preview: "Preview",
    estimate: "Estimate | None",
    cache: Path | None,
    messages: Messages,
    *,
    plan: "Plan | None" = None,
    queries: int | None = None,
    notes: Sequence[str] = (),
    as_json: bool = False,
) -> ExitCode:
    """plan, queries: of a search; None: of an index. notes: of the queries."""
    from qeeps_cli.device import describe
    from qeeps_cli.output.json_writer import dump

    document: dict[str, Any] = {
        "schema": SCHEMA,
        "frames": len(gallery.frames),
        "first": gallery.frames[0].name,
        "last": gallery.frames[-1].name,
        **gallery.to_dict(),
        "queries": queries,
        "mode": plan.mode if plan else None,
        "mode_reason": plan.reason if plan else None,
        "shortlist": plan.shortlist if plan else None,
        "device": describe(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "cache": None if cache is None else os.fspath(cache),
        "frames_to_index": preview.frames,
        "frames_cached": preview.frames_cached,
        "pairs_to_compare": preview.pairs,
        "pairs_cached": preview.pairs_cached,
        "seconds_roughly": None if estimate is None else round(estimate.seconds, 3),
        "seconds_range": None if estimate is None else [round(estimate.least, 3), round(estimate.most, 3)],
        "frames_tried": 0 if estimate is None else estimate.tried,
    }
    write_stdout(dump(document) if as_json else _as_text(document).encode("utf-8", "backslashreplace"))
    tell_skipped(gallery.skipped, messages)
    tell_notes([*notes, *(estimate.notes if estimate else []), *gallery.notes], messages)
    return ExitCode.SKIPPED if gallery.skipped else ExitCode.OK


def _as_text(plan: dict[str, Any]) -> str:
    several = plan["frames"] > 1
    span = f"{plan['first']}{' to ' + plan['last'] if several else ''}"
    rows = [("frames", f"{plan['frames']:,}: {visible_name(span)}")]
    if plan["mode"]:
        reason = f" ({plan['mode_reason']})" if plan["mode_reason"] else ""
        rows += [("queries", str(plan["queries"])), ("mode", f"{plan['mode']}{reason}")]
    rows += [
        ("device", f"{plan['device']}, {plan['precision']}"),
        ("cache", "none" if plan["cache"] is None else visible_name(plan["cache"])),
        ("compute", "; ".join(_work(plan))),
        ("time", _time(plan)),
    ]
    return "".join(f"{name:<8} {text}\n" for name, text in rows)


def _work(plan: dict[str, Any]) -> list[str]:
    """What remains to be computed, and what is known to be cached."""
    work = []
    if plan["frames_to_index"]:
        rest, cached = plan["frames_to_index"] - plan["frames_cached"], plan["frames_cached"]
        work.append(f"{format_count(rest, 'frame')} to index, {cached} from the cache")
    if plan["pairs_to_compare"]:
        cached = plan["pairs_cached"]
        if cached is None:
            work.append(f"at most {format_count(plan['pairs_to_compare'], 'pair')} to compare")
        else:
            rest = plan["pairs_to_compare"] - cached
            work.append(f"{format_count(rest, 'pair')} to compare, {cached} from the cache")
    return work


def _time(plan: dict[str, Any]) -> str:
    if plan["seconds_range"] is None:
        return "not known: no frame that was tried can be decoded"
    if not plan["frames_tried"]:
        return "next to none"
    least, most = map(format_time, plan["seconds_range"])
    span = f"about {most}" if least == most else f"{least} to {most}"
    tried = format_count(plan["frames_tried"], "frame")
    return f"{span}, going by {tried} that {'was' if plan['frames_tried'] == 1 else 'were'} tried; others may differ"
