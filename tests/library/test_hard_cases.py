"""The table of hard cases names tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = [line for line in (ROOT / "docs/hard_cases.md").read_text().splitlines() if line.startswith("| ")]
CASES = [row for row in ROWS if not row.startswith("| case |")]


@cache
def functions_in(path: str) -> set[str]:
    """Functions that pytest may collect from a file below tests/, also those of its classes."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    found = [node for each in (tree, *classes) for node in each.body]
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", CASES, ids=[row[2:50] for row in CASES])
def test_each_case_names_tests_that_are_there(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
    assert row.count("::") == len(named) > 0
    for path, name in named:
        assert name.startswith("test_")
        assert name in functions_in(path), f"{path} has no {name}"


def test_the_table_is_read_whole() -> None:
    assert len(CASES) >= 65
