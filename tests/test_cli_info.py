"""`qeeps info` and `qeeps --version`."""

import json

import pytest
import torch
from command_line import qeeps

from qeeps_cli.cli.info import info
from qeeps_cli.errors import ExitCode, UsageError

pytest_plugins = ["cli_fixtures"]


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


def test_version():
    done = qeeps("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"qeeps ") and f"torch {torch.__version__}".encode() in done.stdout
    assert b"qeeps-r18" in done.stdout
