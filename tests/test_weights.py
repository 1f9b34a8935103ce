"""Checkpoints: what is written, what is refused, and that no file is ever run (docs/reliability.md, rows 14–18)."""

import json
import os
import pickle
import resource
import socket
import stat
from io import BytesIO
from pathlib import Path

import pytest
import torch
from networks import FEW, person_boxes, pictures, small_config, small_network
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qeeps_cli.errors import ExitCode, OutputError, WeightsError
from qeeps_cli.model.qeeps import QEEPS
from qeeps_cli.weights import (
    ENVIRONMENT,
    FORMAT,
    file_digest,
    find_weights,
    load_model,
    load_tensors,
    read_checkpoint,
    save_checkpoint,
)

CARD = {"data": ["rendered frames"], "terms": "research", "results": {"mAP": 0.5}}


@pytest.fixture(scope="module")
def trained() -> QEEPS:
    return small_network("qeeps")


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory) -> Path:
    """A checkpoint in half precision."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(path, trained, CARD)
    return path


@pytest.fixture(scope="module")
def metadata(saved) -> dict[str, str]:
    with safe_open(saved, framework="pt") as file:
        return file.metadata()


def refused(path: Path) -> str:
    """The message with which a checkpoint is refused, by the first step or the second."""
    with pytest.raises(WeightsError) as caught:
        load_model(read_checkpoint(path))
    assert caught.value.exit_code == ExitCode.WEIGHTS == 5
    assert str(path) in str(caught.value)
    return str(caught.value)


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
def test_a_saved_network_gives_the_same_results(trained, tmp_path, half):
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, trained, CARD, half=half)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.config, checkpoint.card, checkpoint.name) == (trained.config, CARD, "again")
    assert checkpoint.describe() == {"name": "again", "digest": f"sha256:{file_digest(path)}"}
    before = torch.get_rng_state()
    again = load_model(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn for what is overwritten
    assert {tensor.device.type for tensor in again.state_dict().values()} == {"cpu"}
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in trained.parameters()]
    assert not again.training and all(p.dtype == torch.float32 for p in again.parameters())

    image, query = pictures(1, seed=1), pictures(1, seed=2)
    maps = [m.basenet(image, m.basenet.stem(query)) for m in (trained, again)]
    found = [m(image, m.encode_query(query, person_boxes(1)), FEW)[0] for m in (trained, again)]
    if half:
        assert path.stat().st_size < 2.2 * sum(p.numel() for p in trained.parameters())
        torch.testing.assert_close(maps[1], maps[0], rtol=0.02, atol=0.02)
        torch.testing.assert_close(found[1].scores.max(), found[0].scores.max(), rtol=0, atol=0.02)
    else:
        for one, other in zip(*maps, strict=True):
            assert torch.equal(one.conv3, other.conv3) and torch.equal(one.conv4, other.conv4)
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_half_precision_is_for_weights_and_neither_for_statistics_nor_for_qsimnet(trained, saved):
    stored, own = load_file(saved), trained.state_dict()
    assert stored.keys() == own.keys()
    for name, tensor in stored.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")) or name.startswith("qsimnet."):
            assert tensor.dtype == own[name].dtype and torch.equal(tensor, own[name]), name
        else:
            assert tensor.dtype == torch.float16 and torch.equal(tensor, own[name].half()), name


def test_metadata_tells_format_config_preprocessing_and_card(metadata):
    assert metadata["format"] == FORMAT
    assert json.loads(metadata["config"]) == json.loads(json.dumps(small_config().to_dict()))
    assert json.loads(metadata["card"]) == CARD
    assert json.loads(metadata["preprocessing"])["mean"] == [0.485, 0.456, 0.406]


def test_saving_leaves_one_file_with_usual_permissions(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    umask = os.umask(0o022)
    try:
        save_checkpoint(path, trained, {})
        save_checkpoint(path, trained, CARD)  # over the old one
    finally:
        os.umask(umask)
    assert os.listdir(tmp_path) == ["w.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert read_checkpoint(path).card == CARD


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"the old file")
    with pytest.raises(TypeError):
        save_checkpoint(path, trained, {"card": object()})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # as a full disk: the write fails midway
    try:
        with pytest.raises(OutputError, match=f"cannot write {path}: File too large. Free some space"):
            save_checkpoint(path, trained, CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"the old file" and os.listdir(tmp_path) == ["w.safetensors"]


def test_a_place_that_cannot_be_written_is_an_output_error(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent" / "w.safetensors", tmp_path / "folder", tmp_path / "file" / "w.safetensors"):
        with pytest.raises(OutputError, match=f"cannot write {path}"):
            save_checkpoint(path, trained, CARD)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and not os.listdir(tmp_path / "folder")


@pytest.mark.parametrize("kept", [0, 7, 8, 500, 0.5, -1])
def test_truncated_files_are_refused(saved, tmp_path, kept):
    data = saved.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(kept * len(data))] if isinstance(kept, float) else data[:kept])
    assert "is not a whole safetensors file" in refused(path)


def test_a_file_with_more_behind_its_tensors_is_refused(saved, tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(saved.read_bytes() + b"\0" * 64)
    assert "is not a whole safetensors file" in refused(path)


class TouchesAFile:
    """What pickle runs when it loads this leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["evil.safetensors", "evil.pt", "evil.pth"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, name, writer):
    path, harm = tmp_path / name, tmp_path / "harm"
    if writer == "torch":
        torch.save(TouchesAFile(harm), path)
    else:
        path.write_bytes(pickle.dumps(TouchesAFile(harm)))
    assert "PyTorch .pt/.pth files are not read (they can run code)" in refused(find_weights(path))
    with pytest.raises(WeightsError):
        load_tensors(small_network("oim"), path)
    assert not harm.exists()

    content = path.read_bytes()
    torch.load(BytesIO(content), weights_only=False) if writer == "torch" else pickle.loads(content)
    assert harm.exists()  # what was refused was live


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n", b"\xff" * 4096, b"\x02\0\0\0\0\0\0\0{}"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused(path)


def test_a_folder_or_an_absent_file_is_refused(tmp_path):
    refused(tmp_path)
    refused(tmp_path / "absent.safetensors")


def test_safetensors_of_other_programs_are_refused(saved, metadata, tmp_path):
    path = tmp_path / "resnet.safetensors"
    tensors = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    for foreign in (None, {"format": "pt"}, metadata | {"format": "qeeps.weights/2"}):
        save_file(tensors, path, foreign)
        message = refused(path)
        assert "holds no qeeps checkpoint: expected the format 'qeeps.weights/1'" in message
        assert repr((foreign or {}).get("format")) in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": ""}, "cannot be used"),
        ({"config": "{"}, "cannot be used"),
        ({"config": "[]"}, "cannot be used"),
        ({"config": "3"}, "cannot be used"),
        ({"config": '{"depth": 3}'}, "unknown model settings depth"),
        ({"config": '{"backbone": "vgg16"}'}, "backbone must be one of"),
        ({"card": "{"}, "cannot be used"),
        ({"card": "[]"}, "expected a JSON object as its card"),
        ({"card": "[" * 100_000}, "cannot be used"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(metadata, tmp_path, changes, expected):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata | changes)
    assert expected in refused(path)
    save_file({"a": torch.zeros(1)}, path, {"format": FORMAT})
    assert "cannot be used" in refused(path)


@pytest.mark.parametrize("damage", ["missing", "mis-shaped", "extra", "all"])
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(saved, metadata, tmp_path, damage):
    tensors = load_file(saved)
    expected = []
    if damage in ("missing", "all"):
        del tensors["qrpn.fc2.bias"]
        expected.append("missing: qrpn.fc2.bias (256,)")
    if damage in ("mis-shaped", "all"):
        tensors["roi_head.id_net.weight"] = torch.zeros(256, 512)
        expected.append("shape of roi_head.id_net.weight: expected (32, 512), got (256, 512)")
    if damage in ("extra", "all"):
        tensors["roi_head.mask_net.weight"] = torch.zeros(2, 3)
        expected.append("not expected: roi_head.mask_net.weight (2, 3)")
    path = tmp_path / "unfit.safetensors"
    save_file(tensors, path, metadata)
    message = refused(path)
    assert all(f"\n  {line}" in message for line in expected)
    assert message.count("\n") == len(expected)  # and nothing else is named

    model = small_network("qeeps", seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError):
        load_tensors(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_digest_that_is_not_the_listed_one_is_refused(saved, tmp_path):
    path, sums = tmp_path / "shipped.safetensors", tmp_path / "SHA256SUMS"
    path.write_bytes(saved.read_bytes())
    digest = file_digest(path)
    sums.write_text(f"{'0' * 64}  another.safetensors\n{digest}  {path.name}\n")
    assert read_checkpoint(path).digest == digest

    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # one bit of one weight: still a whole safetensors file
    path.write_bytes(data)
    message = refused(path)
    assert digest in message and file_digest(path) in message
    sums.write_text(f"{'0' * 64}  another.safetensors\n")
    assert read_checkpoint(path).digest == file_digest(path)  # a file that is not listed is taken as it is


def test_weights_are_those_given_then_the_environments(saved, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    other.touch()
    monkeypatch.setenv(ENVIRONMENT, str(other))
    assert find_weights(saved) == saved
    assert find_weights(str(saved)) == saved
    assert find_weights() == other
    monkeypatch.chdir(tmp_path)
    assert find_weights("other.safetensors") == Path("other.safetensors")
    assert find_weights("qeeps-r18.safetensors") == find_weights("qeeps-r18")  # shipped: there is none here


@pytest.mark.parametrize("given", ["no-such-weights", "no-such-weights.safetensors"])
def test_absent_weights_list_the_places_searched_and_no_network_is_asked(tmp_path, monkeypatch, given):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    package = Path(__file__).parent.parent
    with pytest.raises(WeightsError) as caught:
        find_weights(given)
    assert caught.value.exit_code == 5
    lines = str(caught.value).splitlines()
    assert lines[0] == f"no weights found for '{given}' (--weights). Looked for:"
    assert [Path(line.strip()) for line in lines[1:4]] == [
        Path(given),
        package / "qeeps_cli" / "weights" / "no-such-weights.safetensors",
        package / "weights" / "no-such-weights.safetensors",
    ]
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.safetensors"))
    with pytest.raises(WeightsError, match=r"\(\$QEEPS_WEIGHTS\). Looked for:\n  .*gone.safetensors\nGive a"):
        find_weights()
