"""Protobuf's text format, as in Caffe's prototxt files: names, numbers, texts and blocks in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import shown

MAX_DEPTH = 100
_PIECE = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')"""
    r"""|(?P<word>[A-Za-z0-9_.+-]+)|(?P<sign>[{}<>\[\]:;,])|(?P<other>.)""",
    re.DOTALL,
)


class Block:
    """Fields of a block by name, each with all its values in order: texts, or blocks."""

    def __init__(self) -> None:
        self._fields: dict[str, list[str | Block]] = {}

    def add(self, name: str, value: str | Block) -> None:
        """One more value."""
        self._fields.setdefault(name, []).append(value)

    def texts(self, name: str) -> list[str]:
        """The plain values of a field."""
        return [value for value in self._fields.get(name, ()) if isinstance(value, str)]

    def text(self, name: str) -> str:
        """The last plain value of a field, which is what counts; "" where there is none."""
        return next(reversed(self.texts(name)), "")

    def blocks(self, name: str) -> list[Block]:
        """The blocks of a field."""
        return [value for value in self._fields.get(name, ()) if isinstance(value, Block)]


def parse(content: bytes) -> Block:
    """The outermost block.

    Raises:
        ExtractionFailed: it is no text format; the message says in which line.
    """
    text = content.decode("utf-8", "replace")
    pieces = _pieces(text)
    stack = [Block()]
    for kind, piece, line in pieces:
        if piece in ("}", ">") and kind == "sign":
            if len(stack) == 1:
                raise _damaged(line, piece)
            stack.pop()
        elif kind == "word":
            _field(piece, pieces, stack)
        elif piece not in (",", ";"):
            raise _damaged(line, piece)
    if len(stack) != 1:
        raise ExtractionFailed("the prototxt is cut off: a brace is not closed")
    return stack[0]


def _field(name: str, pieces: Iterator[Any], stack: list[Block]) -> None:
    kind, piece, line = _next(pieces)
    if piece == ":" and kind == "sign":
        kind, piece, line = _next(pieces)
    if piece in ("{", "<") and kind == "sign":
        inner = Block()
        stack[-1].add(name, inner)
        stack.append(inner)
        if len(stack) > MAX_DEPTH:
            raise ExtractionFailed(f"the prototxt nests blocks more than {MAX_DEPTH} deep")
    elif piece == "[" and kind == "sign":
        while piece != "]":
            kind, piece, line = _next(pieces)
            if kind != "sign":
                stack[-1].add(name, _plain(kind, piece))
            elif piece not in (",", "]"):
                raise _damaged(line, piece)
    elif kind == "sign":
        raise _damaged(line, piece)
    else:
        stack[-1].add(name, _plain(kind, piece))


def _plain(kind: str, piece: str) -> str:
    return piece[1:-1] if kind == "text" else piece


def _pieces(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for found in _PIECE.finditer(text):
        if found.lastgroup == "other":
            raise _damaged(line, found[0])
        if found.lastgroup is not None:
            yield found.lastgroup, found[0], line
        line += found[0].count("\n")


def _next(pieces: Iterator[tuple[str, str, int]]) -> tuple[str, str, int]:
    found = next(pieces, None)
    if found is None:
        raise ExtractionFailed("the prototxt is cut off: a field has no value")
    return found


def _damaged(line: int, piece: str) -> ExtractionFailed:
    return ExtractionFailed(f"the prototxt is damaged: {shown(piece)} in line {line}")
