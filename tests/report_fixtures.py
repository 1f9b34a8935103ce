"""Pictures to report on, and what a search found in them. A plugin of the tests that ask for them."""

from pathlib import Path

import pytest
from report_samples import WEIGHTS, make_gallery, make_result

from qeeps_cli.output.json_writer import search_document


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With the gallery and the query of `make_gallery`."""
    folder = tmp_path_factory.mktemp("report")
    make_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def document(folder) -> dict:
    """The JSON of a search in it."""
    return search_document(make_result(folder), WEIGHTS, "exact")
