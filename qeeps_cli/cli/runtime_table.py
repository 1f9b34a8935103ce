"""A measurement of Table 4 as text, beside the paper's rows."""

from typing import TYPE_CHECKING

from qeeps_cli.cli.messages import format_table, visible_name

if TYPE_CHECKING:
    from qeeps_cli.evaluation.runtime_result import EngineRuntime, Published, Ratio, Runtime, Spread, Timing

_NONE = "-"
_JOBS = {
    "new query": "a new query and a new frame",
    "next frame": "the next frame of a query",
    "next query": "the next query for a frame",
}


def runtime_table(runtime: "Runtime") -> str:
    """Lines of ASCII, the last one ended too."""
    height, width = runtime.size
    origin = visible_name(runtime.weights["name"]) if runtime.weights else "random weights"
    blocks = [
        f"Table 4: {runtime.config.variant} on {runtime.config.backbone} ({origin}), {height}x{width} pixels\n"
        f"device   {runtime.device}, torch {runtime.torch}\n"
        f"picture  {runtime.pictures}\n"
        f"timed    preprocessing and network, without decoding; medians of {runtime.rounds}",
        _networks(runtime),
        _other_jobs(runtime.engines),
        "\n".join(_comparison(ratio) for ratio in runtime.ratios),
        "TFLOP: 10^12 multiplications and additions of one pair, in layers; with the paper's 300 proposals and one "
        f"pass, whatever the picture: {runtime.operations_at_300 / 1e12:.3f}.\n"
        f"MiB: {runtime.memory_is}.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _networks(runtime: "Runtime") -> str:
    from qeeps_cli.evaluation.runtime_result import PUBLISHED

    heads = ["M params", "s/pair", "from - to", "proposals", "TFLOP", "TFLOP/s", "MiB", "network"]
    rows = [[f"{row.parameters:g}", f"{row.seconds:g}", *[_NONE] * 5, _published(row)] for row in PUBLISHED]
    return format_table(heads, rows + [_own_row(runtime, engine) for engine in runtime.engines])


def _published(row: "Published") -> str:
    return f"{row.method}, paper, on a {row.gpu} (peak {row.gpu_tflops:g} TFLOP/s)"


def _own_row(runtime: "Runtime", engine: "EngineRuntime") -> list[str]:
    seconds = engine.seconds()
    return [
        f"{runtime.parameters / 1e6:.1f}",
        _seconds(seconds.median),
        _range(seconds),
        str(engine.proposals),
        f"{engine.operations / 1e12:.3f}",
        f"{engine.tflop_per_second:.3g}",
        f"{engine.memory / 2**20:.0f}",
        f"{engine.name}, here" if engine.precision in engine.name else f"{engine.name}, here, {engine.precision}",
    ]


def _other_jobs(engines: "tuple[EngineRuntime, ...]") -> str:
    rows = [
        [_seconds(timing.seconds.median), _range(timing.seconds), f"{engine.name}: {_job(timing)}"]
        for engine in engines
        for timing in engine.timings
    ]
    return format_table(["s/pair", "from - to", "job"], rows)


def _comparison(ratio: "Ratio") -> str:
    times = ratio.times
    job = f"{_JOBS[ratio.job]}{_batch(ratio.batch)}"
    return f"{times.median:.2f} times as fast ({times.low:.2f} - {times.high:.2f}) as {ratio.engine}: {job}"


def _job(timing: "Timing") -> str:
    return f"{_JOBS[timing.job]}{_batch(timing.batch)}"


def _batch(batch: int) -> str:
    return f", {batch} at once" if batch > 1 else ""


def _range(spread: "Spread") -> str:
    return f"{_seconds(spread.low)} - {_seconds(spread.high)}"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
