"""Table 4: what is counted, what is timed, what is said."""

import json

import numpy as np
import pytest
import torch
from networks import FEW, small_config, small_network

from qeeps_cli.cli.runtime_table import runtime_table
from qeeps_cli.errors import UsageError
from qeeps_cli.evaluation.flops import count_operations, pair_operations
from qeeps_cli.evaluation.memory import PeakMemory, process_peak
from qeeps_cli.evaluation.pictures import example_pictures, pattern
from qeeps_cli.evaluation.runtime import FAST, PLAIN, PLAIN_PAPER, measure_runtime, random_model
from qeeps_cli.evaluation.runtime_result import NEW_QUERY, NEXT_FRAME, NEXT_QUERY
from qeeps_cli.images import read_image, resize
from qeeps_cli.model.config import VARIANTS, InferenceParams
from qeeps_cli.searching.engine import Engine, QueryPerson

CPU = torch.device("cpu")
SIZE = (64, 96)


def conv(c_in, c_out, kernel, height, width):
    """Multiply-adds of a convolution whose output has this height and width."""
    return c_out * c_in * kernel**2 * height * width


def resnet18_stage(c_in, c_out, height, width):
    first = conv(c_in, c_out, 3, height, width) + (conv(c_in, c_out, 1, height, width) if c_in != c_out else 0)
    return first + 3 * conv(c_out, c_out, 3, height, width)


def by_hand(variant, proposals):
    """Multiply-adds of a pair of 64x96 images through `small_config()`: ResNet-18, D = 32, RoIs of 4x4, 15 anchors."""
    has_qsse, has_qrpn, has_qsimnet = VARIANTS[variant]
    trunk = conv(3, 64, 7, 32, 48) + resnet18_stage(64, 64, 16, 24)
    trunk += resnet18_stage(64, 128, 8, 12) + resnet18_stage(128, 256, 4, 6)
    qsse = 2 * sum(2 * c * c // 8 + c // 8 * c for c in (64, 128, 256))
    rpn = conv(256, 32, 3, 4, 6) + conv(32, 15, 1, 4, 6)
    qrpn = 256 * 4 * 4 * 16 + 16 * 256 + rpn
    roi = resnet18_stage(256, 512, 2, 2) + 512 * 32
    return (
        2 * trunk
        + has_qsse * qsse
        + (rpn + conv(32, 60, 1, 4, 6))
        + has_qrpn * qrpn
        + proposals * (roi + 512 * 2 + 512 * 8 + has_qsimnet * 32 * 2)
        + roi  # the query's
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("proposals", [0, 1, 7])
def test_operations_of_a_pair_as_counted_by_hand(variant, proposals):
    assert pair_operations(small_config(variant), SIZE, proposals) == 2 * by_hand(variant, proposals)


def test_the_papers_network_needs_a_teraflop_for_300_proposals():
    config = random_model("resnet50").config
    assert pair_operations(config, (900, 1500)) == pytest.approx(0.945e12, rel=1e-3)


def test_matrix_products_that_are_no_layers_do_not_count():
    layer = torch.nn.Linear(10, 20)
    result, operations = count_operations(lambda: layer(torch.ones(3, 10)) @ torch.ones(20, 50))
    assert result.shape == (3, 50) and operations == 2 * 3 * 10 * 20


# the fast engine may save work, or do some of it elsewhere, but not go uncounted
@pytest.mark.parametrize(("plain", "tolerance"), [(False, 0.3), (True, 1e-6)])
def test_a_search_does_what_was_counted_without_running_it(plain, tolerance):
    model = small_network(shorter_side=64, longest_side=96)
    params = InferenceParams(proposals=9, min_objectness=0.0, min_person_score=0.0, second_pass=False)
    pictures = pattern(SIZE)
    engine = Engine(model, CPU, params, plain=plain)
    query = QueryPerson(pictures.query, pictures.box)
    (found,), operations = count_operations(lambda: engine.search(query, [pictures.frame], proposals=True))
    assert len(found.proposals) == 9
    assert operations == pytest.approx(pair_operations(model.config, SIZE, 9), rel=tolerance)


@pytest.fixture(scope="module")
def measured():
    model = small_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told = []
    runtime = measure_runtime(
        model,
        CPU,
        FEW,
        size=SIZE,
        pictures=pattern(SIZE),
        batches=(1, 3),
        compare_eager=True,
        rounds=3,
        progress=lambda *done: told.append(done),
    )
    assert model.config == small_network().config
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return runtime, told


def test_every_engine_does_every_job_in_every_round(measured):
    runtime, told = measured
    assert [engine.name for engine in runtime.engines] == [FAST, PLAIN, PLAIN_PAPER]
    for engine in runtime.engines:
        jobs = [(timing.job, timing.batch) for timing in engine.timings]
        assert jobs == [(NEW_QUERY, 1), (NEXT_FRAME, 1), (NEXT_FRAME, 3), (NEXT_QUERY, 1)]
        assert all(0 < t.seconds.low <= t.seconds.median <= t.seconds.high for t in engine.timings)
    assert runtime.rounds == 3 and told[-1] == (36, 36, "measurements") and len(told) == 36


def test_what_the_engines_did(measured):
    fast, plain, paper = measured[0].engines
    assert (plain.precision, paper.precision) == ("float32", "float32")
    assert (fast.params, plain.params) == (FEW, FEW)
    assert (paper.params.proposals, paper.params.min_objectness, paper.params.second_pass) == (300, 0.0, False)
    assert 0 < plain.proposals <= FEW.proposals < paper.proposals <= 300
    # a second pass pools the people once more
    assert plain.operations == pytest.approx(
        pair_operations(measured[0].config, SIZE, plain.proposals + plain.people), rel=1e-3
    )
    parameters = sum(p.numel() for p in small_network().parameters())
    assert plain.memory > 2 * parameters and fast.memory > 2 * parameters  # float32 and bfloat16, and what is computed
    assert plain.tflop_per_second == pytest.approx(plain.operations / plain.seconds().median / 1e12)


def test_the_frame_is_neither_enlarged_nor_shrunk(measured):
    config = measured[0].config
    assert (config.shorter_side, config.longest_side) == SIZE


def test_ratios_are_of_medians_with_the_spread_of_the_rounds(measured):
    runtime = measured[0]
    fast, plain, _ = runtime.engines
    assert len(runtime.ratios) == 8
    for ratio, job in zip(runtime.ratios, [*plain.timings, *plain.timings], strict=True):
        assert (ratio.job, ratio.batch) == (job.job, job.batch)
        assert 0 < ratio.times.low <= ratio.times.high
    assert runtime.ratios[2].times.median == plain.seconds(NEXT_FRAME, 3).median / fast.seconds(NEXT_FRAME, 3).median


def test_the_document_is_json_and_holds_the_papers_rows(measured):
    document = json.loads(json.dumps(measured[0].to_json(), allow_nan=False))
    assert document["network_parameters"] == sum(p.numel() for p in small_network().parameters())
    assert document["published"][1] == {
        "method": "QEEPS",
        "parameters": 49,
        "seconds": 0.3,
        "gpu": "P6000",
        "gpu_tflops": 12.0,
    }
    engine = document["engines"][0]
    assert engine["seconds_per_pair"][0]["job"] == NEW_QUERY and engine["proposals"] > 0
    assert document["threads"] == torch.get_num_threads() and document["weights"] is None


def test_the_table_shows_own_and_published_rows_and_the_ratio(measured):
    runtime = measured[0]
    table = runtime_table(runtime)
    assert table.isascii() and table.endswith(".\n")
    for row in ("Mask-G, paper, on a K80", "QEEPS, paper, on a P6000", f"{PLAIN}, here", f"{PLAIN_PAPER}, here"):
        assert row in table
    assert f"{runtime.ratios[0].times.median:.2f} times as fast" in table
    assert "random weights" in table and "64x96" in table and f"medians of {runtime.rounds}" in table
    assert "the next frame of a query, 3 at once" in table


def test_a_table_without_comparison():
    weights = {"name": "mine", "digest": "sha256:0"}
    runtime = measure_runtime(small_network(), CPU, FEW, size=SIZE, rounds=3, weights=weights)
    table = runtime_table(runtime)
    assert "(mine)" in table and "times as fast" not in table and "of the example frames" in table


def test_rounds_end_when_the_time_is_over_but_never_before_three():
    assert measure_runtime(small_network(), CPU, FEW, size=SIZE, rounds=50, seconds=0.0).rounds == 3
    assert measure_runtime(small_network(), CPU, FEW, size=SIZE, rounds=1).rounds == 3


@pytest.mark.parametrize("options", [{"size": (0, 0)}, {"size": (900, 20)}, {"batches": (4, 0)}])
def test_sizes_and_batches_too_small(options):
    with pytest.raises(UsageError, match="expected a size of 64x64 pixels or more and batches of 1 or more"):
        measure_runtime(small_network(), CPU, **options)


def test_a_random_network_is_always_the_same_and_disturbs_no_other_random_numbers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = random_model("resnet18"), random_model("resnet18", "qeeps")
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with pytest.raises(UsageError, match="backbone"):
        random_model("resnet19")


@pytest.mark.parametrize(
    ("size", "window"),
    [((900, 1500), (57, 518, 0, 768)), ((1500, 900), (0, 576, 211, 557)), ((64, 640), (249, 326, 0, 768))],
)
def test_the_example_frame_is_cut_to_shape_not_stretched(size, window, examples):
    pictures = example_pictures(size)
    assert pictures.frame.shape == (*size, 3)
    top, bottom, left, right = window
    part = read_image(examples / "cctv" / "frames" / "vtest_0050.jpg").rgb[top:bottom, left:right]
    again = resize(pictures.frame, *part.shape[:2])
    assert np.abs(again.astype(float) - part).mean() < 4
    x1, y1, x2, y2 = pictures.box
    assert 0 <= x1 < x2 <= pictures.query.shape[1] and 0 <= y1 < y2 <= pictures.query.shape[0]


def test_without_example_frames_a_pattern_serves_and_is_named(tmp_path):
    pictures = example_pictures(SIZE, tmp_path)
    assert pictures.frame.shape == (*SIZE, 3) and "pattern" in pictures.what
    assert np.array_equal(pictures.frame, pattern(SIZE).frame)


def test_peak_memory_sees_what_is_given_back_at_once():
    memory = PeakMemory(CPU)
    np.ones(64 << 20, np.uint8)
    assert 60 << 20 < memory.read() < 256 << 20
    assert process_peak() > 64 << 20


@pytest.mark.gpu
def test_on_a_gpu():
    runtime = measure_runtime(small_network(), torch.device("cuda", 0), FEW, size=SIZE, compare_eager=True, rounds=3)
    assert [timing.batch for timing in runtime.engines[0].timings] == [1, 1, 4, 16, 1]
    weights = 2 * runtime.parameters  # bytes, in bfloat16
    assert all(weights < engine.memory < 1 << 30 for engine in runtime.engines)
    assert "GPU memory" in runtime.memory_is
