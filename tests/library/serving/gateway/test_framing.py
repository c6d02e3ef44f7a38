"""Replies in whatever pieces they come, and heads that cannot be bent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InvalidField, TransferError
from catchment.serving.gateway.framing import HEAD_BYTES, Head, ReplyReader, chunk, request_head


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    places = [0, *sorted(each % (len(data) + 1) for each in at), len(data)]
    return [data[one:other] for one, other in pairwise(places) if one < other]


def read(pieces: list[bytes], *, closes: bool = False) -> tuple[Head, bytes]:
    reader = ReplyReader()
    body = b"".join([reader.feed(piece) for piece in pieces])
    if closes:
        reader.end()
    assert reader.over
    assert reader.head is not None
    return reader.head, body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.lists(st.integers(0), max_size=30))
def test_a_chunked_body_is_whole_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(map(chunk, parts)) + b"0;last\r\nTrailer: x\r\n\r\n"
    head, body = read(cut(data, cuts))
    assert (head.status, head.length, head.keeps, body) == (200, None, True, b"".join(parts))


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=30), st.booleans())
def test_a_body_of_known_length_is_whole_however_it_is_cut(
    sent: bytes, cuts: list[int], invited: bool
) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" * invited
    data += b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nConnection: close, X-A\r\nx-a: 1\r\n" % len(
        sent
    )
    head, body = read(cut(data + b"X-B: 2\r\n\r\n" + sent, cuts))
    assert (head.status, body, head.keeps) == (404, sent, False)
    assert head.headers == ((b"content-length", b"%d" % len(sent)), (b"x-b", b"2"))


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=30))
def test_a_body_may_end_with_the_connection(sent: bytes, cuts: list[int]) -> None:
    head, body = read(cut(b"HTTP/1.0 200 OK\r\n\r\n" + sent, cuts), closes=True)
    assert (head.keeps, body) == (False, sent)


@given(st.binary(max_size=400))
def test_whatever_comes_is_a_reply_or_refused(data: bytes) -> None:
    reader = ReplyReader()
    try:
        body = reader.feed(b"HTTP/1.1 200 OK\r\n" + data)
    except TransferError:
        return
    assert len(body) <= len(data)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: gzip, chunked",
        b"X y: z",
        b"no colon",
        b" folded: x",
        b"A: b\nEvil: yes",
    ],
)
def test_a_reply_of_two_minds_is_refused(headers: bytes) -> None:
    with pytest.raises(TransferError):
        ReplyReader().feed(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\nabc")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES,
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(TransferError):
        ReplyReader().feed(data)


def test_a_reply_that_breaks_off_is_no_reply() -> None:
    for data in (b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"):
        reader = ReplyReader()
        reader.feed(data)
        with pytest.raises(TransferError):
            reader.end()


def test_a_reply_to_head_has_no_body() -> None:
    reader = ReplyReader(bodiless=True)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
    assert reader.over


def test_a_request_carries_what_is_meant_for_the_model_server_and_no_more() -> None:
    headers = [
        (b"host", b"outside"),
        (b"connection", b"keep-alive, X-Mine"),
        (b"x-mine", b"1"),
        (b"authorization", b"Bearer t"),
        (b"cookie", b"c"),
        (b"content-length", b"9"),
        (b"transfer-encoding", b"chunked"),
        (b"expect", b"100-continue"),
        (b"inference-header-content-length", b"2"),
    ]
    assert request_head("POST", "/v2/models/m/infer", "h:1", headers, 3) == (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: h:1\r\n"
        b"inference-header-content-length: 2\r\ncontent-length: 3\r\n\r\n"
    )
    assert request_head("POST", "/", "h", [], None).endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert request_head("GET", "/", "h", [], 0) == b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


@given(st.binary(max_size=20))
def test_no_header_ends_its_line(value: bytes) -> None:
    if any(each in value for each in b"\r\n\0"):
        with pytest.raises(InvalidField):
            request_head("GET", "/", "h", [(b"x", value)], 0)
    else:
        assert request_head("GET", "/", "h", [(b"x", value)], 0).count(b"\r\n") == 4
