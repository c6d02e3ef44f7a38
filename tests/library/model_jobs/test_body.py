"""What is JSON is read as JSON, and YAML as Kubernetes reads it; what the store cannot keep is named."""

from __future__ import annotations

import json

import pytest

from catchment.errors import InvalidField
from catchment.model_jobs.body import read_body


@pytest.mark.parametrize(
    "tree",
    [
        {"spec": {"tolerance": 1e-05}},
        {"metadata": {"annotations": {"note": "a 😀 with a \t and a /"}}},
        {
            "spec": {
                "options": {"a": 12, "b": 1.5, "c": True, "d": None, "e": "1e-5", "f": []},
                "inputs": [{}],
            }
        },
    ],
)
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_every_json_is_read_as_it_was_meant(tree: object, indent: int | str | None) -> None:
    assert read_body(json.dumps(tree, indent=indent).encode(), "application/json") == tree


def test_dates_are_texts_and_exponents_numbers_in_yaml() -> None:
    found = read_body(b"a: 2020-01-01\nb: 1e-5\nc: 2.5E3\nd: 7\ne: 1.0e-5\nf: 1e5x", "")
    assert found == {"a": "2020-01-01", "b": 1e-5, "c": 2500.0, "d": 7, "e": 1e-5, "f": "1e5x"}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"spec: {initContainer: [{cpu: .nan}]}", "spec.initContainer.0.cpu"),
        (b'{"spec": {"tolerance": 1e999}}', "spec.tolerance"),
        (b'{"spec": {"tolerance": NaN}}', "body"),
        (b'{"a": {"b": "\\ud83d"}}', "a.b"),
        (b'{"a": ["x\\u0000y"]}', "a.0"),
        (b'{"a": {"b": 1, "b": 2}}', "a.b"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "body"),
        (b"[" * 100_000, "body"),
        (b'{"a": 1', "body"),
    ],
)
def test_what_no_store_keeps_is_named(raw: bytes, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_body(raw, "application/json")
    assert refused.value.field == field
