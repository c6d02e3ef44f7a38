"""Protobuf's text format, as in Caffe's prototxt files: names, numbers, texts and blocks in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import shown

MAX_DEPTH = 100
_TOKEN = re.compile(
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
    tokens = _tokens(text)
    stack = [Block()]
    for kind, token, line in tokens:
        if token in ("}", ">") and kind == "sign":
            if len(stack) == 1:
                raise _damaged(line, token)
            stack.pop()
        elif kind == "word":
            _field(token, tokens, stack)
        elif token not in (",", ";"):
            raise _damaged(line, token)
    if len(stack) != 1:
        raise ExtractionFailed("the prototxt is cut off: a brace is not closed")
    return stack[0]


def _field(name: str, tokens: Iterator[Any], stack: list[Block]) -> None:
    kind, token, line = _next(tokens)
    if token == ":" and kind == "sign":
        kind, token, line = _next(tokens)
    if token in ("{", "<") and kind == "sign":
        inner = Block()
        stack[-1].add(name, inner)
        stack.append(inner)
        if len(stack) > MAX_DEPTH:
            raise ExtractionFailed(f"the prototxt nests blocks more than {MAX_DEPTH} deep")
    elif token == "[" and kind == "sign":
        while token != "]":
            kind, token, line = _next(tokens)
            if kind != "sign":
                stack[-1].add(name, _plain(kind, token))
            elif token not in (",", "]"):
                raise _damaged(line, token)
    elif kind == "sign":
        raise _damaged(line, token)
    else:
        stack[-1].add(name, _plain(kind, token))


def _plain(kind: str, token: str) -> str:
    return token[1:-1] if kind == "text" else token


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for found in _TOKEN.finditer(text):
        if found.lastgroup == "other":
            raise _damaged(line, found[0])
        if found.lastgroup is not None:
            yield found.lastgroup, found[0], line
        line += found[0].count("\n")


def _next(tokens: Iterator[tuple[str, str, int]]) -> tuple[str, str, int]:
    found = next(tokens, None)
    if found is None:
        raise ExtractionFailed("the prototxt is cut off: a field has no value")
    return found


def _damaged(line: int, token: str) -> ExtractionFailed:
    return ExtractionFailed(f"the prototxt is damaged: {shown(token)} in line {line}")
