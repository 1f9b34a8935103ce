"""`qeeps benchmark`: the published protocols on a labelled set."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qeeps_cli.cli import options
from qeeps_cli.cli.messages import Messages
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.model.config import InferenceParams

if TYPE_CHECKING:
    from qeeps_cli.datasets.frames import FrameSet
    from qeeps_cli.evaluation.runner import BenchmarkResult

SCHEMA = "qeeps.benchmark/1"
_DEFAULTS = InferenceParams()

Dataset = Annotated[str, typer.Option(metavar="NAME", help="coco (own labels), prw, prw-mini or cuhk-sysu.")]
Root = Annotated[Path, typer.Option(metavar="DIR", help="The folder of the set.")]
Annotations = Annotated[
    str | None, typer.Option(metavar="FILE", help="coco: the labels, under DIR. Default: annotations.json.")
]
QueriesFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="coco: the queries, under DIR. Default: queries.json.")
]
Extra = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="coco: more labels, under DIR, such as people to ignore; may be repeated."),
]
Method = Annotated[
    str, typer.Option(metavar="qeeps|oim", help="Rank by the network's score, or by the cosine of embeddings.")
]
Mode = Annotated[
    str, typer.Option(metavar="exact|cached", help="qeeps: each pair through the network, or each frame once.")
]
DetThresh = Annotated[
    float, typer.Option(metavar="F", min=0, max=1, help="oim: do not rank people less probable than this.")
]
Queries = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N queries.")]
Frames = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Only N frames a query: those with the person, then others.")
]


def benchmark(
    dataset: Dataset,
    root: Root,
    annotations: Annotations = None,
    queries_file: QueriesFile = None,
    extra: Extra = None,
    method: Method = "qeeps",
    mode: Mode = "exact",
    det_thresh: DetThresh = 0.5,
    queries: Queries = None,
    frames: Frames = None,
    proposals: options.Proposals = _DEFAULTS.proposals,
    min_objectness: options.MinObjectness = _DEFAULTS.min_objectness,
    second_pass: options.SecondPass = _DEFAULTS.second_pass,
    weights: options.Weights = None,
    device: options.Device = "auto",
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Score weights on a labelled set: mAP and top-1, 5, 10.

    Figures with --queries or --frames are not comparable with published ones.
    """
    messages = Messages(quiet, verbose)
    from qeeps_cli.cli.loading import load
    from qeeps_cli.cli.stdout import write_stdout
    from qeeps_cli.evaluation.protocols import limit
    from qeeps_cli.output.json_writer import dump

    frame_set = limit(_read_set(dataset, root, annotations, queries_file, extra), queries, frames)
    for note in frame_set.notes:
        messages.note(note)
    params = InferenceParams(proposals=proposals, min_objectness=min_objectness, second_pass=second_pass)
    engine, checkpoint = load(weights, device, params, messages)
    from qeeps_cli.evaluation.runner import run_benchmark

    began = time.monotonic()
    with messages.progress("done") as show:
        result = run_benchmark(
            engine,
            frame_set,
            method=method,
            mode=mode,
            det_thresh=det_thresh,
            progress=lambda done, total, what: show(done, total),
        )
    settings = {
        "dataset": dataset,
        "set": frame_set.name,
        "weights": checkpoint.describe(),
        "method": method,
        "mode": mode if method == "qeeps" else None,
        "det_thresh": det_thresh if method == "oim" else None,
        "first_queries": queries,
        "frames_per_query": frames,
        "parameters": engine.params.to_dict(),
    }
    write_stdout(dump(_as_document(settings, result)) if as_json else _as_text(settings, result).encode())
    for warning in result.search.warnings:
        messages.note(warning)
    messages.say(f"{result.pairs} pairs, {result.forward_passes} frames run in {time.monotonic() - began:.0f} s")
    return ExitCode.OK


def _read_set(
    dataset: str, root: Path, annotations: str | None, queries: str | None, extra: list[str] | None
) -> "FrameSet":
    from qeeps_cli.datasets.registry import load

    given = {"annotations": annotations, "queries": queries, "extra": extra}
    files = {key: value for key, value in given.items() if value}
    if files and dataset != "coco":
        raise UsageError(
            f"--annotations, --queries-file and --extra belong to --dataset coco; {dataset} has its own files."
        )
    return load(dataset, root, **files)


def _as_document(settings: dict[str, Any], result: "BenchmarkResult") -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **settings,
        "search": result.search.to_json(),
        "detection": result.detection.to_json() if result.detection else None,
        "pairs": result.pairs,
        "forward_passes": result.forward_passes,
        "queries": [query.to_json() for query in result.search.queries],
    }


def _as_text(settings: dict[str, Any], result: "BenchmarkResult") -> str:
    means = result.search.to_json()
    how = settings["mode"] or f"detections of person score {settings['det_thresh']:g} or more"
    lines = [
        f"{settings['set']}: {means['queries']} queries, {result.pairs} pairs; {settings['method']}, {how}",
        "  ".join(f"{name} {100 * means[name]:.1f}" for name in ("mAP", "top1", "top5", "top10")),
    ]
    if result.detection:
        people = result.detection.to_json()
        lines.append(f"detection at IoU 0.5: recall {100 * people['recall']:.1f}  AP {100 * people['ap']:.1f}")
    return "\n".join(lines) + "\n"
