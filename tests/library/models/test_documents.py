"""YAML of strangers: a key that stands twice is found, wherever it is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catchment.models.documents import repeated_key

KEYS = st.text("abcxyz", min_size=1, max_size=3)
TREES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("ab: -#", max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(TREES, st.booleans())
def test_what_has_every_key_once_has_none_twice(tree: Any, flow: bool) -> None:
    assert repeated_key(yaml.safe_dump(tree, default_flow_style=flow)) == ""


@given(st.lists(st.one_of(KEYS, st.integers(0, 3)), max_size=5), KEYS, TREES, TREES)
def test_a_key_that_stands_twice_is_told_with_its_path(
    path: list[str | int], key: str, first: Any, second: Any
) -> None:
    values = [
        yaml.safe_dump(each, default_flow_style=True).replace("\n...\n", "").strip()
        for each in (first, second)
    ]
    text = f"{{other: 1, {key}x: {values[0]}, {key}: {values[0]}, '{key}': {values[1]}}}"
    for step in reversed(path):
        text = f"{{{step}: {text}}}" if isinstance(step, str) else f"[{'[], ' * step}{text}]"
    assert repeated_key(text) == ".".join(map(str, [*path, key]))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: 1\nb: 2\na: 3", "a"),
        ('{"a": 1, "b": {"c": [], "c": 2}}', "b.c"),
        ("a: [{b: 1}, {b: 1, b: 2}]", "a.1.b"),
        ("? {a: 1}\n: 2\n? {a: 1}\n: 3", ""),
        ("? {a: 1, a: 2}\n: 2", "?.a"),
        ("a: a\nb: a", ""),
        ("", ""),
    ],
)
def test_keys_are_told_from_values(text: str, path: str) -> None:
    assert repeated_key(text) == path
