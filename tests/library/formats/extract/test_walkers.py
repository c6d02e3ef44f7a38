"""What walks files in place finds what their own readers find."""

from __future__ import annotations

import io
import json
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import ExtractionFailed
from catchment.formats.extract.json_spans import JsonSpans
from catchment.formats.extract.pickles import Call, Global, Machine
from catchment.formats.extract.ubjson import Ubjson

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)
DOCUMENTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=6)


@given(DOCUMENTS, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_members_are_jsons_own(document: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    spans = JsonSpans(json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    if all(key.isascii() for key in document):
        assert {name: spans.value(at) for name, at in spans.members(spans.root)} == json.loads(
            json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "replace")
        )


def ubjson(value: Any) -> bytes:  # noqa: PLR0911 - a case for each type
    """Written as XGBoost writes it: 64-bit lengths, lists of whole numbers with one type."""
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
        return b"SL" + struct.pack(">q", len(data)) + data
    if isinstance(value, dict):
        return b"{" + b"".join(ubjson(key)[1:] + ubjson(item) for key, item in value.items()) + b"}"
    if value and all(type(item) is int for item in value):
        head = b"[$L#L" + struct.pack(">q", len(value))
        return head + b"".join(struct.pack(">q", item) for item in value)
    return b"[" + b"".join(ubjson(item) for item in value) + b"]"


@given(st.dictionaries(st.text("abcé", max_size=8), VALUES, max_size=6))
def test_ubjson_members_are_what_was_written(document: dict[str, Any]) -> None:
    walked = Ubjson(ubjson(document))
    found = {name: walked.value(at) for name, at in walked.members(walked.root)}
    assert json.dumps(found) == json.dumps(document).encode("utf-8", "replace").decode()


@pytest.mark.parametrize("cut", range(1, 60))
def test_ubjson_that_is_cut_off_is_refused(cut: int) -> None:
    content = ubjson({"a": [1, 2, 3], "b": {"c": "text"}})
    walked = Ubjson(content[: -min(cut, len(content) - 1)])
    with pytest.raises(ExtractionFailed):
        [walked.value(at) for _, at in walked.members(0)]


PLAIN = st.recursive(
    SCALARS | st.binary(max_size=10) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(PLAIN, st.integers(3, 5))
def test_plain_values_come_out_of_a_pickle_as_they_are(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert Machine(io.BytesIO(content), lambda _: None).run() == value


def test_calls_of_a_pickle_are_told_and_not_made() -> None:
    seen: list[Global] = []
    found = Machine(io.BytesIO(b"\x80\x02cnowhere\nnothing\nK\x01\x85R}b."), seen.append).run()
    assert isinstance(found, Call)
    assert (found.function, found.arguments, found.state) == (Global("nowhere", "nothing"), (1,), {})
    assert seen == [Global("nowhere", "nothing")]


@pytest.mark.parametrize(
    "content", [b"", b".", b"\x80\x02h\x09.", b"\x80\x02(", b"\x80\x02\x82\x01.", b"\x80\x02R."]
)
def test_damaged_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(ExtractionFailed):
        Machine(io.BytesIO(content), lambda _: None).run()
