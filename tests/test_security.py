"""Each promise of the security page names tests, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| threat"))
]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The name of every test function of the project."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_the_page_makes_its_promises_in_a_table() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_promise_names_tests_that_exist(row: list[str], known: set[str]) -> None:
    threat, defence, tests = row
    named = re.findall(r"`(test_\w+)`", tests)
    assert threat and defence and named
    assert [name for name in named if name not in known] == []
