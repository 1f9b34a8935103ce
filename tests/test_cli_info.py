"""`qeeps info` and `qeeps --version`."""

import json
import re

import pytest
import torch
from command_line import ROOT

from qeeps_cli.cli.info import info, weights_lines
from qeeps_cli.cli.version import describe_versions
from qeeps_cli.errors import ExitCode, UsageError
from qeeps_cli.weights import DEFAULT_NAME, file_digest

pytest_plugins = ["cli_fixtures", "preloaded"]


@pytest.fixture
def shown(capsysbinary):
    def shown(**options) -> str:
        assert info(**options) == ExitCode.OK
        return capsysbinary.readouterr().out.decode()

    return shown


def test_the_network_of_the_paper_has_49_million_parameters(shown):
    document = json.loads(shown(backbone="resnet50", variant="qeeps", as_json=True))
    assert document["schema"] == "qeeps.info/1" and document["weights"] is None
    assert document["config"]["backbone"] == "resnet50"
    assert round(document["parameters"] / 1e6, 1) == 49.3
    assert sum(block["parameters"] for block in document["blocks"]) == document["parameters"]
    for block in document["blocks"]:
        assert sum(part["parameters"] for part in block["parts"]) == block["parameters"]


def test_a_card_cannot_steer_the_terminal():
    document = {"weights": {"path": "x", "card": {"a\x1b[2J": "b\x1b[2J", "c\x07": {"d\r": [{"e": "\x1b"}]}}}}
    assert all(char.isprintable() for line in weights_lines(document) for char in line)


def test_variants_lack_their_blocks(shown):
    blocks = {block["name"] for block in json.loads(shown(variant="oim", as_json=True))["blocks"]}
    assert blocks == {"basenet", "rpn", "roi_head"}


def test_weights_tell_where_they_come_from(shown, weights):
    document = json.loads(shown(weights=str(weights), as_json=True))
    assert document["config"]["backbone"] == "resnet18" and document["config"]["shorter_side"] == 128
    assert document["weights"]["card"] == {"data": "none", "recipe": {"seed": 0}}
    text = shown(weights=str(weights))
    assert f"{document['parameters']:,}" in text and document["weights"]["digest"] in text and "seed" in text


def test_a_network_or_weights(weights):
    with pytest.raises(UsageError, match="got both"):
        info(weights=str(weights), backbone="resnet50")
    with pytest.raises(UsageError, match="resnet18"):
        info(backbone="vgg")


def test_version(preloaded):
    done = preloaded.run("--version")
    assert done.returncode == 0 and done.stderr == b""
    digest = file_digest(ROOT / "weights" / f"{DEFAULT_NAME}.safetensors")
    torch_version = re.escape(torch.__version__)
    expected = rf"qeeps \S+, torch {torch_version}, torchvision \S+, weights {DEFAULT_NAME} \({digest[:12]}\)\n"
    assert re.fullmatch(expected, done.stdout.decode())


def test_version_of_weights_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("QEEPS_WEIGHTS", str(tmp_path / "gone.safetensors"))
    assert describe_versions().endswith("weights (none usable: `qeeps weights list` tells why)")
