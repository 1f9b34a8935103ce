"""A picture of a run's curves, from its log: losses by name, and the validation's metrics."""

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from qeeps_cli.output.atomic import write_file
from qeeps_cli.training.run_state import LOG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = "curves.png"
NOT_LOSSES = {"stage", "step", "total", "gradient_norm", "lr", "validation"}
WINDOWS, MIN_WINDOW = 60, 5  # single steps are noise: means over 1/60 of the log, but over no fewer than 5 steps
# Okabe and Ito's palette, which people with any common colour blindness can tell apart; then dashed.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A900")


class Series(NamedTuple):
    """A curve. steps: (N,), counted over all stages; values: (N,)."""

    steps: np.ndarray
    values: np.ndarray


class Curves(NamedTuple):
    """A log as curves by name, and the step at which each stage begins."""

    losses: dict[str, Series]
    validation: dict[str, Series]
    stages: dict[str, int]


def draw_curves(folder: Path) -> Path | None:
    """Draws the log of a run's folder into its curves.png; None while there is nothing to draw.

    Raises ImportError without matplotlib, OutputError when the picture cannot be written.
    """
    curves = read_curves(Path(folder) / LOG)
    if not curves.losses:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 2 if curves.validation else 1
    figure = Figure(figsize=(11, 4.5 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
    _draw_losses(axes[0], curves)
    if curves.validation:
        _draw_validation(axes[1], curves)
    axes[-1].set_xlabel("step")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(picture, format="png", dpi=110)
    path = Path(folder) / CURVES
    write_file(path, picture.getvalue())
    return path


def read_curves(log: Path) -> Curves:
    """A run's log. Lines that are no JSON, as a killed run may leave one, are passed over."""
    losses: dict[str, list[tuple[int, float]]] = defaultdict(list)
    validation: dict[str, list[tuple[int, float]]] = defaultdict(list)
    stages: dict[str, int] = {}
    latest = 0
    for record in _records(log):
        start = stages.setdefault(record["stage"], latest)
        step = latest = start + record["step"]
        for name, value in record.get("validation", {}).items():
            if isinstance(value, (int, float)):
                validation[name].append((step, value))
        for name in record.keys() - NOT_LOSSES:
            losses[name].append((step, record[name]))
        if "total" in record:
            losses["total"].append((step, record["total"]))
    return Curves(_as_series(losses), _as_series(validation), stages)


def smooth(series: Series, window: int) -> Series:
    """Means over each `window` neighbours, at their middles."""
    window = max(1, min(window, len(series.values)))
    kernel = np.full(window, 1 / window)
    return Series(np.convolve(series.steps, kernel, "valid"), np.convolve(series.values, kernel, "valid"))


def _records(log: Path) -> list[dict]:
    records = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"stage", "step"} <= record.keys():
            records.append(record)
    return records


def _as_series(points: dict[str, list[tuple[int, float]]]) -> dict[str, Series]:
    return {name: Series(*np.array(points[name], np.float64).T) for name in sorted(points)}


def _draw_losses(axes: "Axes", curves: Curves) -> None:
    from matplotlib.ticker import LogFormatter

    for index, (name, series) in enumerate(curves.losses.items()):
        curve = smooth(series, max(MIN_WINDOW, round(len(series.steps) / WINDOWS)))
        style = {"color": "black", "linewidth": 2.2} if name == "total" else _style(index)
        above = np.where(curve.values > 0, curve.values, np.nan)  # a term without samples is 0: a gap on a log scale
        axes.plot(curve.steps, above, label=f"{name}  {curve.values[-1]:.3g}", **style)
    axes.set_yscale("log")
    for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        ticks(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    axes.set_ylabel("loss, smoothed")
    _finish(axes, curves, "at the end")


def _draw_validation(axes: "Axes", curves: Curves) -> None:
    for index, (name, series) in enumerate(curves.validation.items()):
        axes.plot(*series, label=f"{name}  {series.values[-1]:.3g}", marker="o", markersize=4, **_style(index))
    axes.set_ylabel("validation")
    _finish(axes, curves, "last")


def _style(index: int) -> dict:
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": ("-", "--", ":")[index // len(COLOURS) % 3]}


def _finish(axes: "Axes", curves: Curves, legend: str) -> None:
    for name, start in curves.stages.items():
        axes.axvline(start, color="0.7", linewidth=1, zorder=0)
        axes.text(start, 1.01, f" {name}", transform=axes.get_xaxis_transform(), color="0.35", va="bottom")
    axes.grid(alpha=0.25)
    axes.legend(title=legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
