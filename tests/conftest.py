"""Fixtures for all tests, the order of their files, and the rule that tests marked `gpu` skip without a GPU."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# Files are dealt out to several processes: what takes longest comes first, so that none of them works alone in the end.
LONGEST = """
    ray docs_readme benchmark_resume cli_index cli_benchmark training_resume reliability_runs cli_calibrate runtime
    cli_formats cli_search cli_train
""".split()


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    gone = [name for name in places if not (REPOSITORY / "tests" / name).is_file()]
    assert not gone, f"LONGEST names files that are not there: {gone}"
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
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
