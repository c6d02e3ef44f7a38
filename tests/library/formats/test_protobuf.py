"""The wire reader gives what the writer wrote, and refuses what is no message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.formats.protobuf import Broken, fields, integers, mapped, numbers, signed, text, varint
from catchment.formats.protobuf_writer import (
    content,
    integer,
    packed_reals,
    real,
    single_integers,
    single_reals,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(INT64)
def test_an_integer_comes_back(value: int) -> None:
    ((number, _, found, _),) = fields(memoryview(integer(7, value)))
    assert (number, signed(found)) == (7, value)


@given(st.lists(INT64, max_size=20), st.booleans())
def test_integers_come_back_packed_or_not(values: list[int], packed: bool) -> None:
    single = single_integers(3, values)
    data = content(3, b"".join(each[1:] for each in (integer(3, v) for v in values))) if packed else single
    assert [each for _, k, v, c in fields(memoryview(data)) for each in integers(k, v, c)] == values


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=300), st.integers(0, 3))
def test_floats_come_back_packed_or_not_and_among_others(values: list[float], way: int) -> None:
    array = np.array(values, np.float32)
    half = len(array) // 2
    data = [
        packed_reals(5, array),
        single_reals(5, array),
        single_reals(5, array[:half]) + content(9, "between") + packed_reals(5, array[half:]),
        integer(1, 300) + real(6, 1.5) + single_reals(5, array),
    ][way]
    np.testing.assert_array_equal(numbers(memoryview(data), 5, "<f4"), array)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (lambda d: list(fields(d)), lambda d: numbers(d, 1, "<f4"), lambda d: numbers(d, 2, "<f8")):
        try:
            read(memoryview(data))
        except Broken:
            continue


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80", "cut off"),
        (b"\xff" * 11, "too long"),
        (b"\x0a\x05ab", "claims 5 bytes, 2 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fab", "claims"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x01", "field number 0"),
    ],
)
def test_a_broken_message_says_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(Broken, match=says):
        list(fields(memoryview(data)))


def test_a_cut_value_a_bad_name_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="cut off"):
        numbers(memoryview(single_reals(5, np.ones(1, np.float32))[:3]), 5, "<f4")
    with pytest.raises(Broken, match="UTF-8"):
        text(memoryview(b"\xff\xfe"))
    with pytest.raises(Broken, match="cut off"):
        varint(memoryview(b""), 0)
    (tmp_path / "empty").touch()
    with pytest.raises(Broken, match="empty"):
        mapped(tmp_path / "empty")
