"""Quantities as Kubernetes spells them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InvalidField
from catchment.serving.quantities import read_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2.0),
        ("500m", 0.5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("128974848", 128974848.0),
        ("129e6", 129e6),
        ("129M", 129e6),
        ("123Mi", 123 * 2.0**20),
        ("1k", 1e3),
        ("1Ki", 1024.0),
        ("2Gi", 2.0**31),
    ],
)
def test_a_quantity_is_its_number(text: str, value: float) -> None:
    assert read_quantity(text, "cpu") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "many", "-1", "1 Gi", "1K", "1gi", "0x10", "1e", "nan", "inf", "1Mi2"])
def test_anything_else_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidField, match=r"resources\.limits\.cpu: .* must be a quantity"):
        read_quantity(text, "resources.limits.cpu")


@given(st.text())
def test_any_text_is_a_number_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidField):
        assert read_quantity(text, "cpu") >= 0
