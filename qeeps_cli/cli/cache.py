"""`qeeps cache`: look into a cache, verify it, compact it, clear it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages, format_count, format_size, format_table, visible_name
from qeeps_cli.cli.process import command
from qeeps_cli.errors import CacheError, ExitCode, UsageError

if TYPE_CHECKING:
    from qeeps_cli.cache.folder import Survey
    from qeeps_cli.cache.maintenance import Change, Group

SCHEMA = "qeeps.cache/1"

Place = Annotated[
    Path | None,
    typer.Argument(
        metavar="CACHE|GALLERY", help="A cache folder, or the gallery that it is of. Default: $QEEPS_CACHE."
    ),
]
KeepWeights = Annotated[
    list[str] | None,
    typer.Option(metavar="DIGEST", help="Remove what other weights found; the first digits will do. May be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

app = typer.Typer(no_args_is_help=True, help="Look into the cache of a gallery, verify it, compact it, clear it.")


def info(place: Place = None, as_json: options.AsJson = False, verbose: options.Verbose = False) -> ExitCode:
    """Show what a cache holds, and which files in it are not used and why."""
    from qeeps_cli.cache.maintenance import describe, inspect

    folder = _folder(place)
    found = inspect(folder)
    groups = describe(found.segments)
    _write(_as_document(folder, found, groups), _as_text(folder, found, groups), as_json)
    return ExitCode.OK


def verify(place: Place = None, as_json: options.AsJson = False, verbose: options.Verbose = False) -> ExitCode:
    """Check every byte of a cache. Exit code 6 when something is damaged; the next run computes it again."""
    from qeeps_cli.cache.maintenance import inspect, problems

    folder = _folder(place)
    found = inspect(folder)
    damaged = problems(found)
    document = {
        "schema": SCHEMA,
        "folder": os.fspath(folder),
        "segments": len(found.segments),
        "damaged": [{"name": name, "reason": reason} for name, reason in damaged.items()],
    }
    intact = f"{format_count(len(found.segments), 'segment')} of {visible_name(folder)} intact"
    lines = [*(f"{visible_name(name)}: {reason}" for name, reason in damaged.items()), intact]
    _write(document, lines, as_json)
    return ExitCode.CACHE if damaged else ExitCode.OK


def compact(
    place: Place = None,
    keep_weights: KeepWeights = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Merge a cache's segments and drop what is superseded, damaged or left over; no result changes."""
    from qeeps_cli.cache import maintenance

    folder = _folder(place)
    if not keep_weights:
        change = maintenance.compact(folder)
    else:
        _check_weights(keep_weights, maintenance.describe(maintenance.inspect(folder).segments))
        change = maintenance.compact(folder, lambda fingerprint: _is_of(fingerprint, keep_weights))
    _tell(change, folder, Messages(quiet, verbose))
    return ExitCode.OK


def clear(
    place: Place = None, yes: Yes = False, quiet: options.Quiet = False, verbose: options.Verbose = False
) -> ExitCode:
    """Remove a cache. Files in its folder that are not its own stay."""
    from qeeps_cli.cache import maintenance

    folder = _folder(place)
    if not yes:
        _ask(folder)
    _tell(maintenance.clear(folder), folder, Messages(quiet, verbose))
    return ExitCode.OK


for function in (info, verify, compact, clear):
    app.command()(command(function))


def _folder(place: Path | None) -> Path:
    from qeeps_cli.cache.location import find_folder

    usual = os.environ.get("QEEPS_CACHE")
    named = place or usual
    if not named:
        raise UsageError("expected a cache folder or a gallery, got nothing. `qeeps cache info GALLERY` shows one.")
    folder = find_folder(Path(named))
    is_gallery = place is not None and os.path.isdir(place) and folder != place
    if is_gallery and not os.path.isdir(folder) and usual and os.path.isdir(find_folder(Path(usual))):
        raise CacheError(
            f"the gallery {visible_name(place)} has no cache of its own. $QEEPS_CACHE is set to {visible_name(usual)}, "
            "where runs keep what they compute: name that, or nothing."
        )
    return folder


def _write(document: dict[str, Any], lines: list[str], as_json: bool) -> None:
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.output.json_writer import dump

    text = "".join(f"{line}\n" for line in lines)
    write_stdout(dump(document) if as_json else text.encode("utf-8", "backslashreplace"))


def _as_document(folder: Path, found: "Survey", groups: "list[Group]") -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "folder": os.fspath(folder),
        "bytes": sum(group.size for group in groups),
        "contents": [
            {
                "kind": group.kind,
                "segments": group.segments,
                "rows": group.rows,
                "superseded": group.superseded,
                "people": group.people,
                "bytes": group.size,
                "fingerprint": group.fingerprint,
            }
            for group in groups
        ],
        "unused": [{"name": name, "reason": reason} for name, reason in _unused(found)],
    }


def _as_text(folder: Path, found: "Survey", groups: "list[Group]") -> list[str]:
    total = f"{format_count(len(found.segments), 'segment')}, {format_size(sum(group.size for group in groups))}"
    lines = [f"{visible_name(folder)}: {total}"]
    if groups:
        rows = [
            [
                str(group.rows),
                str(group.people),
                str(group.superseded),
                str(group.segments),
                format_size(group.size),
                _title(group),
            ]
            for group in groups
        ]
        lines.append(format_table(["rows", "people", "superseded", "segments", "size", "of"], rows))
    unused = _unused(found)
    if unused:
        lines.append("not used:")
    return lines + [f"  {visible_name(name)}: {reason}" for name, reason in unused]


def _title(group: "Group") -> str:
    """What tells the groups of a usual cache apart; --json has the whole fingerprint."""
    from qeeps_cli.cache.pairs import PAIR_COMPUTATION

    computed = [group.fingerprint.get(name) for name in ("weights", "device", "precision")]
    words = [group.kind, *(str(value)[:12] for value in computed if value)]
    if group.kind == "pairs" and group.fingerprint.get("pair_computation") != PAIR_COMPUTATION:
        words.append("as another version compares")
    return ", ".join(words)


def _unused(found: "Survey") -> list[tuple[str, str]]:
    """Names and reasons."""
    from qeeps_cli.cache.maintenance import problems

    reasons = problems(found) | {item.name: item.reason for item in found.ignored}
    reasons |= {
        path.name: "written by an older version of qeeps; `qeeps cache compact` removes it" for path in found.older
    }
    reasons |= {
        path.name: "written by a newer version of qeeps; update qeeps to use this cache" for path in found.newer
    }
    reasons |= {path.name: "damaged, set aside; `qeeps cache compact` removes it" for path in found.aside}
    reasons |= {path.name: "unfinished: in the making, or left by a killed process" for path in found.temporaries}
    return sorted(reasons.items())


def _is_of(fingerprint: dict[str, Any], digests: list[str]) -> bool:
    return any(str(fingerprint.get("weights", "")).startswith(digest.lower()) for digest in digests if digest)


def _check_weights(digests: list[str], groups: "list[Group]") -> None:
    """A digest with a typing error must not empty the cache."""
    there = sorted({str(group.fingerprint["weights"]) for group in groups if "weights" in group.fingerprint})
    for digest in digests:
        if not any(_is_of({"weights": weights}, [digest]) for weights in there):
            raise UsageError(
                f"--keep-weights expects the first digits of a digest in the cache, got {digest!r}; there are: "
                f"{', '.join(there) or 'none'}. Nothing was removed."
            )


def _ask(folder: Path) -> None:
    """Raises UsageError unless the user, on a terminal, agrees."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise UsageError(f"this would remove the cache {visible_name(folder)}. Give --yes where nobody can be asked.")
    sys.stderr.write(f"Remove the cache {visible_name(folder)}? [y/N] ")  # typer.confirm writes to standard output
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was removed.")


def _tell(change: "Change", folder: Path, messages: Messages) -> None:
    before = f"{format_count(change.files_before, 'file')}, {format_size(change.size_before)}"
    after = f"{format_count(change.files_after, 'file')}, {format_size(change.size_after)}"
    messages.say(f"{visible_name(folder)}: {before}; now {after}")
