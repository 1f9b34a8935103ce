"""Fixtures for all tests, and the rule that tests marked `gpu` skip where there is no GPU."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from qeeps_cli.device import cuda_problem

    problem = cuda_problem()
    for item in marked if problem else []:
        item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {problem}"))


@pytest.fixture(scope="session")
def examples() -> Path:
    """The example galleries that ship with the project."""
    return REPOSITORY / "examples"
