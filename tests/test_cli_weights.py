"""`qeeps weights`, and weights that no command takes (docs/reliability.md, rows 14–18 and 49), as processes."""

import json
import os
from pathlib import Path

import pytest
import torch
from command_line import FEW
from networks import small_network
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qeeps_cli.checkpoints.catalogue import list_weights
from qeeps_cli.checkpoints.verify import verify
from qeeps_cli.cli.weights import info, list_
from qeeps_cli.cli.weights import verify as verify_command
from qeeps_cli.errors import ExitCode, WeightsError
from qeeps_cli.weights import file_digest

pytest_plugins = ["cli_fixtures", "preloaded"]


class Payload:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


def changed(weights: Path, place: Path, change) -> Path:
    """A copy whose tensors were changed."""
    tensors = load_file(weights)
    change(tensors)
    with safe_open(weights, framework="np") as file:
        save_file(tensors, place, file.metadata())
    return place


def with_nan(tensors):
    tensors["qsimnet.fc.bias"][0] = torch.nan


def without_a_tensor(tensors):
    del tensors["qrpn.fc2.bias"]


@pytest.fixture
def damaged(weights, tmp_path):
    """Weights with a damage of that name, and the folder that a payload in them would make."""

    def damaged(damage: str) -> Path:
        place = tmp_path / f"{damage}.safetensors"
        if damage == "absent":
            pass
        elif damage == "truncated":
            place.write_bytes(weights.read_bytes()[:-1])
        elif damage == "pickle":
            torch.save(Payload(tmp_path / "harm"), place)
        elif damage == "unlisted":
            place.write_bytes(weights.read_bytes())
            (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {place.name}\n")
        else:
            changed(weights, place, {"nan": with_nan, "incomplete": without_a_tensor}[damage])
        return place

    return damaged


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("absent", b"no weights found"),
        ("truncated", b"is not a whole safetensors file"),
        ("pickle", b"is not a whole safetensors file"),
        ("unlisted", b"is not the file that SHA256SUMS beside it lists: expected sha256 000000"),
        ("incomplete", b"missing: qrpn.fc2.bias (256,)"),
    ],
)
def test_no_search_takes_them(damaged, frames, tmp_path, damage, told, preloaded):
    query = ("--query", frames / "vtest_0000.jpg", "--box", "100,60,60,140", "--gallery", frames, "--no-cache")
    done = preloaded.run("search", *query, *FEW, "--weights", damaged(damage), "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (5, b"") and told in done.stderr
    assert not (tmp_path / "harm").exists() and not (tmp_path / "out" / "results.json").exists()


def test_a_network_that_gives_no_numbers_writes_nothing(damaged, frames, tmp_path, preloaded):
    query = ("--query", frames / "vtest_0000.jpg", "--box", "100,60,60,140", "--gallery", frames, "--no-cache")
    done = preloaded.run("search", *query, *FEW, "--weights", damaged("nan"), "--out", tmp_path / "out")
    assert done.returncode == 1 and b"not numbers" in done.stderr or b"not a number" in done.stderr
    assert done.stdout == b"" and not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("truncated", "is not a whole safetensors file"),
        ("pickle", "is not a whole safetensors file"),
        ("unlisted", "is not the file that SHA256SUMS beside it lists"),
        ("incomplete", "missing: qrpn.fc2.bias (256,)"),
        ("nan", "not finite: qsimnet.fc.bias (1 of 2 values are NaN or infinite)"),
    ],
)
def test_verify_tells_what_is_wrong(damaged, capsysbinary, damage, told):
    place = damaged(damage)
    assert verify_command([str(place)], as_json=True) == ExitCode.WEIGHTS
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "qeeps.weights-verify/1"
    [entry] = document["weights"]
    assert entry["path"] == str(place) and len(entry["problems"]) == 1 and told in entry["problems"][0]


def test_verify_tells_all_that_is_wrong(weights, tmp_path):
    def spoil(tensors):
        with_nan(tensors)
        without_a_tensor(tensors)
        tensors["rpn.conv.bias"] = tensors["rpn.conv.bias"].long()

    place = changed(weights, tmp_path / "w.safetensors", spoil)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {place.name}\n")
    problems = "\n".join(verify(place).problems)
    assert all(
        part in problems for part in ("SHA256SUMS", "missing: qrpn", "not finite: qsimnet", "type of rpn.conv.bias")
    )


def test_verify_says_what_the_digest_was_compared_with(weights, tmp_path, capsysbinary):
    assert verify_command([str(weights)]) == ExitCode.OK
    assert b"whole and finite" in (out := capsysbinary.readouterr().out) and b"not listed anywhere" in out
    place = tmp_path / "w.safetensors"
    place.write_bytes(weights.read_bytes())
    (tmp_path / "SHA256SUMS").write_text(f"{file_digest(place)}  {place.name}\n")
    assert verify(place).is_listed and verify(place).problems == ()


def test_the_shipped_weights_are_whole(monkeypatch):
    monkeypatch.delenv("QEEPS_WEIGHTS", raising=False)
    shipped = [listing for listing in list_weights() if listing.is_shipped]
    assert [listing.is_default for listing in shipped].count(True) == 1
    for listing in shipped:
        assert listing.problem is None
        found = verify(listing.path)
        assert found.is_listed and found.problems == ()


def test_list_has_shipped_ones_those_of_the_environment_and_others(weights, tmp_path, monkeypatch, capsysbinary):
    (tmp_path / "broken.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").touch()
    monkeypatch.setenv("QEEPS_WEIGHTS", str(weights))
    assert list_([tmp_path, weights], as_json=True) == ExitCode.OK
    entries = json.loads(capsysbinary.readouterr().out)["weights"]
    own, broken = entries[-2:]
    assert own["path"] == str(weights) and own["default"] and not own["shipped"]
    assert (own["name"], own["variant"], own["backbone"]) == ("random", "qeeps", "resnet18")
    assert own["bytes"] == weights.stat().st_size and own["digest"] == f"sha256:{file_digest(weights)}"
    assert broken["digest"] is None and "not a whole safetensors file" in broken["problem"]
    assert all(entry["shipped"] and not entry["default"] for entry in entries[:-2]) and len(entries) > 2

    assert list_([tmp_path]) == ExitCode.OK
    text = capsysbinary.readouterr().out.decode()
    assert "random (default)" in text and file_digest(weights)[:12] in text and "not usable" in text
    with pytest.raises(WeightsError, match="there is no"):
        list_([tmp_path / "gone"])


def test_info_begins_with_the_terms(weights, capsysbinary):
    assert info(None) == ExitCode.OK
    text = capsysbinary.readouterr().out.decode()
    assert text.index("sha256:") < text.index("terms") < text.index("recipe") < text.index("parameters")
    info(str(weights), as_json=True)
    assert json.loads(capsysbinary.readouterr().out)["weights"]["card"]["data"] == "none"


def test_convert(tmp_path, preloaded):
    source, out = tmp_path / "net.pth", tmp_path / "net.safetensors"
    torch.save({"state_dict": small_network().state_dict()}, source)
    (tmp_path / "config.json").write_text('{"pool_size": 4, "max_rpn_channels": 32, "shorter_side": 128}')
    given = ("weights", "convert", source, "--out", out)
    done = preloaded.run(*given, "--config", tmp_path / "config.json", "--fp16", "--terms", "for tests")
    assert done.returncode == 0 and b"qeeps on resnet18" in done.stderr and done.stdout == b""
    assert verify(out).problems == ()
    done = preloaded.run(*given)
    assert done.returncode == 7 and b"--overwrite" in done.stderr
    torch.save({"model": Payload(tmp_path / "harm")}, source)
    done = preloaded.run(*given, "--overwrite", "--variant", "oim")
    assert done.returncode == 5 and b"is refused" in done.stderr and not (tmp_path / "harm").exists()
    assert verify(out).problems == ()  # what was there stays


def test_no_weights_at_all_are_listed_as_absent(tmp_path, preloaded):
    done = preloaded.run("weights", "list", QEEPS_WEIGHTS=str(tmp_path / "gone.safetensors"))
    assert done.returncode == 5 and b"($QEEPS_WEIGHTS). Looked for:" in done.stderr
