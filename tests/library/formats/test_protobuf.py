"""The wire reader gives what the writer wrote, and refuses what is no message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.formats.protobuf import Broken, Message, exact_text, mapped, message, numbers, signed, text
from catchment.formats.protobuf_reals import reals
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
    ((number, found),) = Message(integer(7, value))
    assert (number, signed(found)) == (7, value)


@given(st.lists(INT64, max_size=20), st.booleans())
def test_integers_come_back_packed_or_not(values: list[int], packed: bool) -> None:
    single = single_integers(3, values)
    data = content(3, b"".join(each[1:] for each in (integer(3, v) for v in values))) if packed else single
    assert [each for _, value in Message(data) for each in numbers(value)] == values


@given(st.text(max_size=200).filter(lambda words: words.isprintable()))
def test_text_comes_back(words: str) -> None:
    ((_, value),) = Message(content(5, words))
    assert text(value) == exact_text(value) == words


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=300), st.integers(0, 4))
def test_floats_come_back_packed_or_not_and_among_others(values: list[float], way: int) -> None:
    array = np.array(values, np.float32)
    half = len(array) // 2
    data = [
        packed_reals(5, array),
        single_reals(5, array),
        single_reals(5, array[:half]) + content(9, "between") + packed_reals(5, array[half:]),
        integer(1, 300) + real(6, 1.5) + single_reals(5, array),
        b"".join(real(5, value) + integer(1, 300) for value in values),
    ][way]
    np.testing.assert_array_equal(reals(Message(memoryview(data)), 5, "<f4"), array)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (list, lambda found: reals(found, 1, "<f4"), lambda found: reals(found, 2, "<f8")):
        try:
            read(Message(memoryview(data)))
        except Broken:
            continue


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80", "does not end"),
        (b"\xff" * 11, "does not end"),
        (b"\x0a\x05ab", "ends 3 bytes behind what holds it"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fab", "behind what holds it"),
        (b"\x0b", "of kind 3"),
        (b"\x00\x01", "has the number 0"),
        (b"\x0d\x00", "behind what holds it"),
    ],
)
def test_a_broken_message_says_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(Broken, match=says):
        list(Message(data))


def test_a_cut_value_a_bad_name_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="behind what holds it"):
        reals(Message(single_reals(5, np.ones(1, np.float32))[:3]), 5, "<f4")
    with pytest.raises(Broken, match="no <f4 values"):
        reals(Message(content(5, b"abc")), 5, "<f4")
    with pytest.raises(Broken, match="whole number"):
        reals(Message(integer(5, 1)), 5, "<f4")
    bad = Message(b"\xff\xfe")
    assert text(bad) == "\ufffd\ufffd"
    with pytest.raises(Broken, match="UTF-8"):
        exact_text(bad)
    (tmp_path / "empty").touch()
    with pytest.raises(Broken, match="empty"):
        mapped(tmp_path / "empty")


def test_a_value_of_another_kind_and_more_than_is_sensible_are_refused() -> None:
    with pytest.raises(Broken, match="a number where a message belongs"):
        message(3)
    with pytest.raises(Broken, match="bytes where a number belongs"):
        signed(Message(b"a"))
    with pytest.raises(Broken, match="a name has 70000 bytes"):
        text(Message(b"a" * 70_000))
    with pytest.raises(Broken, match="far more numbers"):
        list(numbers(Message(bytes(2000))))


def test_a_span_of_a_mapped_file_is_a_message_as_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(2, content(5, "name") + packed_reals(3, np.arange(4.0))) + integer(1, 9))
    ((two, inner), (one, nine)) = Message(mapped(path))
    assert (two, one, nine) == (2, 1, 9)
    assert exact_text(next(value for number, value in message(inner) if number == 5)) == "name"
    np.testing.assert_array_equal(reals(message(inner), 3, "<f4"), np.arange(4.0))
