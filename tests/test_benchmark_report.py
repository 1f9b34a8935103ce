"""What a benchmark shows: published rows only beside the protocol that they belong to, and how long is left."""

import json
from pathlib import Path

import numpy as np
import pytest

from qeeps_cli.cli.benchmark_report import report
from qeeps_cli.cli.progress import Rate, format_rate, format_time
from qeeps_cli.datasets.frames import FrameSet
from qeeps_cli.evaluation.document import Setup, benchmark_document, ranking_lines
from qeeps_cli.evaluation.metrics import QueryScore, RankedDetection, SearchScore
from qeeps_cli.evaluation.published import PUBLISHED, Protocol, published_rows
from qeeps_cli.evaluation.runner import BenchmarkOptions, BenchmarkResult
from qeeps_cli.model.config import InferenceParams, ModelConfig
from qeeps_cli.output.json_writer import dump
from qeeps_cli.types import LabelledQuery

SMALL, LARGE = ModelConfig(), ModelConfig(shorter_side=900, longest_side=1500)
RUN = {
    "seconds": 7500.0,
    "pairs_per_second": 12.345,
    "frames_computed": 0,
    "frames_cached": 0,
    "pairs_computed": 1000,
    "pairs_cached": 234,
    "device": "a device",
    "precision": "float32",
    "batch": 1,
    "peak_memory": 1_500_000_000,
    "peak_gpu_memory": 2_500_000_000,
    "cache": None,
}


def make_document(setup: Setup, config: ModelConfig, **changes) -> dict:
    best = (RankedDetection("f1", (1.0, 2.0, 31.0, 62.0), 0.75, True), RankedDetection("f2", (0, 0, 1, 1), 0.5, False))
    score = QueryScore("q", 0.5, {1: True, 5: True, 10: True}, 2, 1, detections=9, count_covered=2, ranking=best)
    query = LabelledQuery("q", Path("q.jpg"), (1.0, 2.0, 31.0, 62.0), 7, ("f1", "f2"))
    frames = FrameSet(setup.dataset, (), (query,))
    result = BenchmarkResult(SearchScore((score,)), None, pairs=2, frames=2)
    return benchmark_document(
        setup,
        frames,
        BenchmarkOptions(**changes),
        config,
        result,
        weights={"name": "some [x]", "digest": "sha256:0"},
        parameters=InferenceParams().to_dict(),
        versions={"qeeps": "1"},
        run=RUN,
    )


@pytest.mark.parametrize(
    ("setup", "config", "methods"),
    [
        (Setup("coco", Path("r")), SMALL, []),
        (Setup("prw", Path("r")), SMALL, ["OIM", "IAN", "NPSM"]),
        (Setup("prw", Path("r")), LARGE, ["Mask-G", "OIM‡", "QEEPS"]),
        (Setup("prw-mini", Path("r")), LARGE, ["Mask-G", "OIM‡", "QEEPS"]),
        (Setup("prw-mini", Path("r")), SMALL, []),
        (Setup("prw", Path("r"), cross_camera=True), SMALL, []),
        (Setup("prw", Path("r"), queries=5), SMALL, []),
        (Setup("prw", Path("r"), frames=500), SMALL, []),
        (Setup("cuhk-sysu", Path("r"), 50), SMALL, ["OIM", "OIM + QRPN", "OIM + QSimNet", "OIM + QRPN + QSimNet",
                                                     "QEEPS"]),
        (Setup("cuhk-sysu", Path("r"), 100), LARGE, ["Mask-G", "OIM‡", "QEEPS"]),
        (Setup("cuhk-sysu", Path("r"), 4000), SMALL, []),
        (Setup("cuhk-sysu", Path("r"), "all"), SMALL, []),
    ],
)  # fmt: skip
def test_published_rows_stand_beside_their_own_protocol_only(setup, config, methods):
    document = make_document(setup, config)
    assert [row["method"] for row in document["published"]] == methods
    for text in (report(document, terminal=False), report(document, terminal=True)):
        assert all(method in text for method in methods)
        assert ("as printed in" in text) == bool(methods)
        assert ("The published results of this set are for" in text) == bool(document["other_sides"])


def test_the_published_numbers():
    """Tables 1 to 3 of the paper: mAP and top-1."""
    rows = {(p, row.method): (row.mean_ap, row.top1, row.max_recall) for p, own in PUBLISHED.items() for row in own}
    assert rows[Protocol("cuhk-sysu", 100, 600), "QEEPS"] == (84.4, 84.4, 98.8)
    assert rows[Protocol("cuhk-sysu", 100, 900), "QEEPS"] == (88.9, 89.1, None)
    assert rows[Protocol("cuhk-sysu", 50, 600), "OIM"] == (80.0, None, None)
    assert rows[Protocol("prw", None, 900), "QEEPS"] == (37.1, 76.7, None)
    assert rows[Protocol("prw-mini", None, 900), "QEEPS"] == (39.1, 80.0, None)
    assert len(rows) == 5 + 7 + 3 + 3 + 3 + 3
    assert all(0 < value <= 100 for row in rows.values() for value in row if value is not None)
    assert published_rows(Protocol("prw", None, 768)) == ()
    assert all(row.source and 2017 <= row.year <= 2019 for own in PUBLISHED.values() for row in own)


def test_the_table_in_plain_text():
    lines = report(make_document(Setup("prw", Path("r")), LARGE), terminal=False).splitlines()
    table = lines[lines.index("published") - 2 : lines.index("published") + 4]
    assert table == [
        "                   mAP  top-1  top-5  top-10  max recall",
        "some [x], exact   50.0  100.0  100.0   100.0       100.0",
        "published",
        "Mask-G, 2018      32.6   72.1      -       -           -",
        "OIM‡, 2019        36.9   75.7      -       -           -",
        "QEEPS, 2019       37.1   76.7      -       -           -",
    ]
    assert "1,000 pairs run, 234 pairs from the cache in 2 h 5 min (12.3 pairs/s)" in lines
    assert "device      a device, float32; peak memory 1.50 GB and 2.50 GB on the GPU" in lines


def test_what_the_first_lines_say():
    def second_line(**changes):
        return report(make_document(Setup("prw", Path("r")), SMALL, **changes), terminal=False).splitlines()[1]

    assert second_line().endswith("exact: each pair through the network")
    assert second_line(method="oim").endswith(
        "method oim: cosine, person score 0.5 or more, with the weights of a qeeps network"
    )
    assert "the best 0 frames" in second_line(mode="cascade")  # nothing was run in this document


def test_a_terminal_gets_the_same_numbers_and_no_markup_is_read_from_names():
    drawn = report(make_document(Setup("prw", Path("r")), LARGE), terminal=True)
    assert "\x1b[" in drawn and "some [x], exact" in drawn
    assert all(number in drawn for number in ("50.0", "100.0", "32.6", "72.1", "37.1"))


def test_a_limited_run_is_marked_in_text_and_json():
    document = make_document(Setup("prw", Path("r"), queries=1, frames=500), LARGE)
    assert document["comparable"] is False and document["published"] == []
    assert document["warnings"][0].startswith("limited run (only the first query; at most 500 frames for each query")
    text = report(document, terminal=False)
    assert "WARNING: limited run" in text and "some [x], exact (limited)" in text


def test_the_document_is_json_with_the_run_on_one_line():
    text = dump(make_document(Setup("prw", Path("r")), LARGE))
    assert json.loads(text)["queries"][0]["box"] == [1.0, 2.0, 30.0, 60.0]
    assert sum(line.startswith(b'  "run": ') for line in text.splitlines()) == 1


def test_ranking_lines_are_cut_to_what_was_asked_for():
    query = LabelledQuery("q", Path("q.jpg"), (0, 0, 1, 1), 7, ("f",))
    found = [RankedDetection("f", (1.0, 2.0, 31.0, 62.0), 0.9 - 0.1 * i, i == 0) for i in range(5)]
    score = QueryScore("q", 1.0, {}, 1, 1, detections=5, ranking=tuple(found))
    result = BenchmarkResult(SearchScore((score,)), None, pairs=1, frames=1)
    frames = FrameSet("s", (), (query,))
    assert list(ranking_lines(frames, result, keep=0)) == []
    first, second = ranking_lines(frames, result, keep=2)
    assert first == {"query": "q", "rank": 1, "frame": "f", "box": [1, 2, 30, 60], "score": 0.9, "correct": True}
    assert (second["rank"], second["correct"]) == (2, False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_times(seconds, text):
    assert format_time(seconds) == text


def test_the_rate_is_the_present_one():
    rate = Rate()
    assert rate.after(0, now=0.0) is None
    assert rate.after(5000, now=1.0) == pytest.approx(5000)  # from the cache
    for now in np.arange(2.0, 400.0):
        present = rate.after(5000 + int(now), now)  # a pair a second from here on
    assert present == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "rest", "text"),
    [
        (None, 10, ""),
        (0.25, 50, ", 0.25 frames/s, about 3 min 20 s left"),
        (4.2, 21, ", 4.2 frames/s, about 5 s left"),
        (1234.5, 0, ", 1234 frames/s, about 0 s left"),
    ],
)
def test_what_a_rate_means(rate, rest, text):
    assert format_rate(rate, rest, "frames compared") == text
