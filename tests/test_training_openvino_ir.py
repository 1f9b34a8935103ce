"""An IR computed by PyTorch operations, against OpenVINO itself."""

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops

from qeeps_cli.errors import UsageError
from qeeps_cli.training.openvino_ir import IRNetwork

CHANNELS = 8


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Every operation that is supported, as networks for re-identification use them; weights of half precision."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return ops.constant(rng.normal(0, 0.3, shape).astype(np.float32))

    images = ops.parameter([1, 3, 16, 8], np.float32, name="data")
    x = ops.gather(images, ops.constant(np.array([2, 1, 0])), ops.constant(np.array([1])))
    x = ops.multiply(ops.subtract(x, weights(1, 3, 1, 1)), weights(1, 3, 1, 1))
    x = ops.mvn(x, np.array([2, 3]), True, 1e-5, "INSIDE_SQRT")
    x = ops.convolution(x, weights(CHANNELS, 3, 3, 3), [1, 2], [1, 0], [1, 2], [1, 1])
    x = ops.max_pool(ops.relu(x), [2, 1], [1, 1], [1, 1], [1, 1], [3, 3], "floor", "explicit", "i64", 0).output(0)
    x = ops.group_convolution(x, weights(CHANNELS, 1, 1, 3, 3), [1, 1], [2, 2], [2, 2], [2, 2])
    gate = ops.reduce_mean(x, np.array([2, 3]), True)
    shape = ops.shape_of(gate)
    gate = ops.mvn(ops.reshape(gate, np.array([0, 2, CHANNELS // 2]), True), np.array([2]), True, 1e-5, "INSIDE_SQRT")
    x = ops.add(ops.multiply(x, ops.sigmoid(ops.reshape(gate, shape, True))), x)
    x = ops.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True)
    flat = ops.reshape(ops.reduce_mean(x, np.array([2, 3]), False), np.array([1, CHANNELS]), True)
    x = ops.matmul(flat, weights(5, CHANNELS), False, True)
    rows = ops.gather(ops.shape_of(flat), ops.constant(np.array([0])), ops.constant(np.int64(0)))
    x = ops.prelu(ops.reshape(x, ops.concat([rows, ops.constant(np.array([5, 1]))], 0), True), weights(1))
    path = tmp_path_factory.mktemp("ir") / "net.xml"
    openvino.save_model(openvino.Model([x], [images]), path)  # compressed to half precision, as such networks come
    return path


def test_it_computes_what_openvino_computes(network):
    images = np.random.default_rng(1).uniform(0, 255, (3, 3, 16, 8)).astype(np.float32)
    reference = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = np.concatenate([reference(image[None])[0] for image in images])
    found = IRNetwork(network, torch.device("cpu"))(torch.from_numpy(images))
    assert expected.shape == found.shape == (3, 5, 1) and np.ptp(expected) > 0.1
    assert found.numpy() == pytest.approx(expected, abs=1e-4)


def test_the_operations_in_it(network):
    """So that none is dropped from the test above unseen."""
    from qeeps_cli.training.openvino_ir import _OPERATIONS

    assert all(f'type="{operation}"' in network.read_text() for operation in _OPERATIONS)


def saved(path, result, images):
    openvino.save_model(openvino.Model([result], [images]), path)
    return path


FORMS = {
    "Erf": lambda x, w: ops.erf(x),
    "AvgPool with pads_begin 1, 1": lambda x, w: ops.avg_pool(x, [1, 1], [1, 1], [1, 1], [2, 2], True),
    "AvgPool with rounding_type ceil": lambda x, w: ops.avg_pool(x, [3, 3], [0, 0], [0, 0], [2, 2], True, "ceil"),
    "MaxPool with dilations 2, 2": lambda x, w: ops.max_pool(x, [1, 1], [2, 2], [0, 0], [0, 0], [2, 2]).output(0),
    "Convolution with auto_pad same_upper": (
        lambda x, w: ops.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1], "same_upper")
    ),
    "MVN with eps_mode OUTSIDE_SQRT": lambda x, w: ops.mvn(x, np.array([2, 3]), True, 1e-5, "OUTSIDE_SQRT"),
    "MVN with normalize_variance false": lambda x, w: ops.mvn(x, np.array([2, 3]), False, 1e-5, "INSIDE_SQRT"),
}


@pytest.mark.parametrize("named", FORMS)
def test_what_cannot_be_computed_is_refused_by_name(tmp_path, named):
    images = ops.parameter([1, 3, 9, 9], np.float32)
    weights = ops.constant(np.ones((4, 3, 3, 3), np.float32))
    path = saved(tmp_path / "net.xml", FORMS[named](images, weights), images)
    with pytest.raises(UsageError, match=rf"net\.xml.*{named}.*--device cpu"):
        IRNetwork(path, torch.device("cpu"))


def test_forms_of_other_exporters(tmp_path):
    """A PReLU of the channels, where there are as many as columns; indices from the end; a constant brought to a
    shape."""
    images = ops.parameter([1, 5, 4, 5], np.float32)
    scale = ops.reshape(ops.constant(np.arange(1, 6, dtype=np.float32)), ops.constant(np.array([1, -1, 1, 1])), False)
    x = ops.prelu(ops.multiply(images, scale), ops.constant(np.linspace(-1, 2, 5).astype(np.float32)))
    x = ops.gather(x, ops.constant(np.array([-1, 0])), ops.constant(np.array([1])))
    path = saved(tmp_path / "net.xml", x, images)
    given = np.random.default_rng(0).normal(0, 1, (2, 5, 4, 5)).astype(np.float32)
    reference = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = np.concatenate([reference(image[None])[0] for image in given])
    assert IRNetwork(path, torch.device("cpu"))(torch.from_numpy(given)).numpy() == pytest.approx(expected, abs=1e-2)


def test_several_results_are_refused(tmp_path):
    images = ops.parameter([1, 3, 4, 4], np.float32)
    openvino.save_model(openvino.Model([ops.relu(images), ops.sigmoid(images)], [images]), tmp_path / "net.xml")
    with pytest.raises(UsageError, match="one input and one result"):
        IRNetwork(tmp_path / "net.xml", torch.device("cpu"))


def test_weights_that_end_early(tmp_path, network):
    (tmp_path / "net.xml").write_bytes(network.read_bytes())
    (tmp_path / "net.bin").write_bytes(network.with_suffix(".bin").read_bytes()[:200])
    with pytest.raises(UsageError, match=r"net\.xml"):
        IRNetwork(tmp_path / "net.xml", torch.device("cpu"))


@pytest.mark.parametrize("content", [None, b"", b"<net>", b"<net/>"])
def test_one_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "net.xml").write_bytes(content)
        (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(UsageError, match=r"cannot .*net\.xml"):
        IRNetwork(tmp_path / "net.xml", torch.device("cpu"))


@pytest.mark.gpu
def test_on_a_gpu(network):
    images = torch.from_numpy(np.random.default_rng(1).uniform(0, 255, (3, 3, 16, 8)).astype(np.float32))
    on_cpu = IRNetwork(network, torch.device("cpu"))(images)
    on_gpu = IRNetwork(network, torch.device("cuda"))(images.cuda())
    assert on_gpu.is_cuda and on_gpu.cpu().numpy() == pytest.approx(on_cpu.numpy(), abs=1e-2)  # TF32
