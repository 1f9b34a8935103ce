"""`qeeps calibrate`: weights whose score is a probability, from a labelled set."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli import benchmark_options, options
from qeeps_cli.cli.groups import flat
from qeeps_cli.cli.messages import Messages, visible_name
from qeeps_cli.errors import DataError, ExitCode, UsageError

if TYPE_CHECKING:
    from qeeps_cli.datasets.listed import ListedSet
    from qeeps_cli.evaluation.calibration import Reliability

SCHEMA = "qeeps.calibration/1"

Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE.safetensors", help="Write calibrated weights. Default: only measure those given."),
]
Sets = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Several labelled sets that count alike, instead of one: tables [[set]] with name, kind, root and options "
        "(docs/benchmark.md). Their roots are relative to --root, or to FILE's folder.",
    ),
]
Mode = Annotated[str, typer.Option(metavar="exact|cached", help="As in qeeps benchmark; cached takes far less time.")]
Prior = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        min=0.001,
        max=0.999,
        help="The share of frames with the person in the galleries that the score is for. Default: as in the set; of "
        "several, the mean.",
    ),
]
Spread = Annotated[
    float,
    typer.Option(
        metavar="F",
        min=0,
        max=1,
        help="How much of the difference that QSimNet makes between dimensions to keep. 0: it ranks as the cosine.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --out.")]


@flat
def calibrate(
    *,
    labelled: benchmark_options.SetOptions,
    sets: Sets = None,
    out: Out = None,
    overwrite: Overwrite = False,
    mode: Mode = "cached",
    prior: Prior = None,
    spread: Spread = 1.0,
    network: options.EngineOptions,
    caching: options.CacheOptions,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Measure how often the best detection of a frame is the person, by score; with --out, make the score say so.

    Rankings stay as they are, but for --spread. What is reported for --out is of queries that the fit did not see (five
    folds).
    """
    messages = Messages(quiet, verbose)
    if mode not in ("exact", "cached"):
        raise UsageError(f"--mode expects exact or cached, got {mode!r}.")
    if spread != 1 and mode != "cached":
        raise UsageError("--spread needs --mode cached: exact pairs are kept under the weights that they came from.")
    if out is not None:
        from qeeps_cli.output.atomic import check_file

        check_file(out, overwrite)
    listed = _read(labelled, sets)

    from qeeps_cli.cli.benchmark_run import run
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.evaluation.calibration import (
        NothingToTellApartError,
        apart,
        collect,
        fit,
        held_out,
        join,
        measure,
    )
    from qeeps_cli.evaluation.runner import BenchmarkOptions
    from qeeps_cli.output.json_writer import dump
    from qeeps_cli.searching.loading import batch_size

    engine, checkpoint = network.load(messages)
    if engine.model.qsimnet is None:
        raise UsageError(
            f"the variant {checkpoint.config.variant} has no QSimNet: its score is a cosine, and cannot be calibrated."
        )
    engine.model.qsimnet.even_out(spread)
    everything = 2**31
    ranking = BenchmarkOptions(mode=mode, keep=everything, batch=batch_size(engine, network.batch), detection=False)
    of_sets = []
    with caching.open([each.root for each in listed], messages) as kept:
        for each in listed:
            result, _ = run(engine, each.frames, ranking, kept, messages)
            try:
                of_sets.append(collect(result.search.queries))
            except NothingToTellApartError as error:
                raise DataError(f"{each.name}: {error}") from None
    names, found = [each.name for each in listed], join(of_sets)
    given = [measure(own, prior) for own in (found, *of_sets)]
    fitted: list[Reliability] = []
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "weights": checkpoint.describe(),
        "dataset": labelled.name if sets is None else None,
        "set": ", ".join(names),
        "sets": [
            {"set": each.name, "queries": len(each.frames.queries), "as_given": asdict(own)}
            for each, own in zip(listed, given[1:], strict=True)
        ],
        "mode": mode,
        "queries": sum(len(each.frames.queries) for each in listed),
        "prior": prior,
        "spread": spread,
        "as_given": asdict(given[0]),
    }
    if out is not None:
        calibration, unseen = fit(found, prior), held_out(found, prior)
        fitted = [measure(own, prior) for own in (unseen, *apart(unseen, of_sets))]
        document["calibration"] = asdict(calibration)
        document["held_out"] = asdict(fitted[0])
        for about, own in zip(document["sets"], fitted[1:], strict=True):
            about["held_out"] = asdict(own)
        _write(out, checkpoint, calibration, document)
        messages.say(f"calibrated weights: {visible_name(out)}")
    write_stdout(dump(document) if as_json else _report(names, given, fitted).encode())
    return ExitCode.OK


def _read(labelled: benchmark_options.SetOptions, sets: Path | None) -> "list[ListedSet]":
    """Raises UsageError for options of one set beside a list of sets, and what reading them raises."""
    from qeeps_cli.datasets.listed import ListedSet, read_sets

    if sets is None:
        frames, setup = labelled.read()
        return [ListedSet(frames.name, setup.root, frames)]
    if replace(labelled, dataset=labelled.name) != benchmark_options.SetOptions("examples", labelled.root):
        raise UsageError(
            "--sets lists sets with their options: of the options that name one set, only --root goes with it, the "
            "folder that their roots are relative to."
        )
    return read_sets(sets, labelled.root)


def _write(out: Path, checkpoint, calibration, document: dict[str, Any]) -> None:
    from qeeps_cli.weights import holds_halves, load_model, save_checkpoint

    model = load_model(checkpoint)
    model.qsimnet.even_out(document["spread"])
    model.qsimnet.calibrate(calibration.slope, calibration.offset)
    about = {key: document[key] for key in ("set", "mode", "queries", "prior", "spread", "calibration")}
    about |= {"pairs": document["as_given"]["pairs"], "of": checkpoint.digest}
    # In the precision that it has: rounding would change the rankings.
    save_checkpoint(out, model, {**checkpoint.card, "calibrated": about}, half=holds_halves(checkpoint.path))


def _report(names: list[str], given: "list[Reliability]", fitted: "list[Reliability]") -> str:
    """given, fitted: of all sets together, then of each by its name; fitted is empty without --out."""
    parts = [_table("as given", given[0]) + _each(names, given[1:])]
    if fitted:
        unseen = "calibrated, on queries that the fit did not see"
        parts.append(_table(unseen, fitted[0]) + _each(names, fitted[1:]))
    return "\n".join(parts)


def _each(names: list[str], measured: "list[Reliability]") -> str:
    """Of several sets, a line each."""
    if len(names) == 1:
        return ""
    pairs = zip(names, measured, strict=True)
    return "".join(f"{name}, {_from_threshold(own)}, calibration error {own.error:.3f}\n" for name, own in pairs)


def _from_threshold(measured: "Reliability") -> str:
    from qeeps_cli.evaluation.calibration import THRESHOLD

    precision = "-" if measured.precision is None else f"{100 * measured.precision:.1f} %"
    return f"from {THRESHOLD} on: precision {precision}, recall {100 * measured.recall:.1f} %"


def _table(name: str, measured: "Reliability") -> str:
    lines = [
        f"{name}: {measured.pairs} best detections of a frame, {measured.with_person} frames with the person",
        f"{'score':>11} {'detections':>11} {'mean score':>11} {'the person':>11}",
        *(
            f"{f'{b.low:.1f} to {b.high:.1f}':>11} {b.count:>11} {b.mean:>11.3f} {100 * b.right:>9.1f} %"
            for b in measured.bins
        ),
        f"calibration error {measured.error:.3f}, Brier score {measured.brier:.3f}",
        _from_threshold(measured),
    ]
    return "\n".join(lines) + "\n"
