"""What `qeeps benchmark` gives: the document, the text, and the files that were asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qeeps_cli.cli.messages import Messages, visible_name
from qeeps_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from qeeps_cli.datasets.frames import FrameSet
    from qeeps_cli.evaluation.document import Setup
    from qeeps_cli.evaluation.metrics import QueryScore
    from qeeps_cli.evaluation.runner import BenchmarkOptions, BenchmarkResult
    from qeeps_cli.searching.engine import Engine
    from qeeps_cli.types import LabelledQuery
    from qeeps_cli.weights import Checkpoint

FIGURE_MATCHES = 5
PICTURE_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Outputs:
    """Files to write. keep: detections of a query in the rankings. figure_queries: rows of the figure."""

    rankings: Path | None
    rankings_keep: int
    figure: Path | None
    figure_queries: int

    @property
    def keep(self) -> int:
        """How many of the best detections of each query are needed."""
        return max(self.rankings_keep if self.rankings else 0, FIGURE_MATCHES if self.figure else 0)

    def check(self, overwrite: bool) -> None:
        """Raises OutputError or UsageError, before anything runs, for a file that cannot be written at the end."""
        if self.figure and self.figure.suffix.lower() not in PICTURE_SUFFIXES:
            raise UsageError(f"--figure expects a name that ends in .jpg, got {visible_name(self.figure)}.")
        for path, option in ((self.rankings, "--save-rankings"), (self.figure, "--figure")):
            if path is None:
                continue
            if path.is_dir():
                raise OutputError(f"{option} expects a file, but {visible_name(path)} is a folder.")
            if path.is_file() and not overwrite:
                raise OutputError(f"{option} {visible_name(path)} exists. Use --overwrite or another name.")
            if not path.parent.is_dir():
                raise OutputError(f"{option} {visible_name(path)}: there is no folder {visible_name(path.parent)}.")

    def write(self, frames: "FrameSet", result: "BenchmarkResult", messages: Messages) -> None:
        from qeeps_cli.output.atomic import write_file

        if self.rankings:
            write_file(self.rankings, _rankings(frames, result, self.rankings_keep))
            messages.say(f"rankings  {visible_name(self.rankings)}")
        if self.figure:
            write_file(self.figure, _figure(frames, result, self.figure_queries))
            messages.say(f"figure    {visible_name(self.figure)}")


def describe(
    setup: "Setup",
    frames: "FrameSet",
    options: "BenchmarkOptions",
    checkpoint: "Checkpoint",
    engine: "Engine",
    result: "BenchmarkResult",
    how: dict[str, Any],
) -> dict[str, Any]:
    """The JSON document."""
    from qeeps_cli.evaluation.document import benchmark_document

    return benchmark_document(
        setup,
        frames,
        options,
        checkpoint.config,
        result,
        weights=checkpoint.describe(),
        parameters=engine.params.to_dict(),
        versions=_versions(),
        run=how,
    )


def encode(document: dict[str, Any], as_json: bool) -> bytes:
    """For stdout."""
    if as_json:
        from qeeps_cli.output.json_writer import dump

        return dump(document)
    from qeeps_cli.cli.benchmark_report import is_terminal, report

    return report(document, is_terminal()).encode("utf-8", "backslashreplace")


def _rankings(frames: "FrameSet", result: "BenchmarkResult", keep: int) -> bytes:
    from qeeps_cli.evaluation.document import ranking_lines
    from qeeps_cli.output.json_writer import dump_line

    return b"".join(dump_line(line) for line in ranking_lines(frames, result, keep))


def _figure(frames: "FrameSet", result: "BenchmarkResult", rows: int) -> bytes:
    from qeeps_cli.output.drawing import jpeg
    from qeeps_cli.output.search_figure import search_figure

    pairs = list(zip(frames.queries, result.search.queries, strict=True))[:rows]
    return jpeg(search_figure([_figure_row(frames, query, score) for query, score in pairs]))


def _figure_row(frames: "FrameSet", query: "LabelledQuery", score: "QueryScore"):
    from qeeps_cli.output.search_figure import FigureRow, Shown

    title = f"query {query.name}: AP {100 * score.ap:.1f}, found in {score.count_tp} of {score.count_gt} frames"
    matches = [
        Shown(frames[found.frame].path, found.frame, found.box, found.score, found.correct)
        for found in score.ranking[:FIGURE_MATCHES]
    ]
    return FigureRow(Shown(query.path, query.path.name, query.box), matches, title)


def _versions() -> dict[str, str]:
    """Of qeeps and torch."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    try:
        own = version("qeeps-cli")
    except PackageNotFoundError:
        own = "(not installed)"
    return {"qeeps": own, "torch": torch.__version__}
