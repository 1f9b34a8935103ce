"""docs/reliability.md is complete, and names tests that exist."""

import ast
import re

import pytest
from conftest import REPOSITORY

ROW = re.compile(r"\| (\d+) \| (.+?) \| (.+?) \| (`tests/.+`) \|")
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text()
ROWS = {int(number): re.findall("`([^`]+)`", tests) for number, _, _, tests in map(re.Match.groups, ROW.finditer(PAGE))}


def test_all_49_rows_are_there_once_and_in_order():
    assert [int(number) for number, *_ in ROW.findall(PAGE)] == list(range(1, 50))


@pytest.mark.parametrize("number", ROWS)
def test_a_row_names_tests_that_exist(number):
    assert ROWS[number]
    for name in ROWS[number]:
        path, _, function = name.partition("::")
        module = ast.parse((REPOSITORY / path).read_text())
        assert function in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}, name
        assert function.startswith("test_")


def test_files_named_elsewhere_on_the_page_exist():
    named = re.findall(r"`(tests/\w+\.py)`", PAGE)
    assert named and all((REPOSITORY / name).is_file() for name in named)
