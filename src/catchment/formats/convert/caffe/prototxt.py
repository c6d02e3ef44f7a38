"""The protobuf text format, as Caffe's prototxt files use it (protobuf.dev, "Text Format Language")."""

from __future__ import annotations

import re
from typing import Any

from catchment.errors import ConversionFailed

Message = dict[str, list[Any]]
"""Field name -> its values in order: int, float, str (also of enums, true and false), or a nested Message."""

DEEPEST = 50
_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<text>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
    | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?))(?![\w.])
    | (?P<name>-?[A-Za-z_][\w.]*)
    | (?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CLOSES = {"{": "}", "<": ">"}


class _Tokens:
    """The tokens of a text, with the line that each stands in."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._found: list[tuple[str, str, int]] = []
        self._at = 0
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ConversionFailed(f"{where}, line {line}: {text[at : at + 20]!r} is not understood")
            if match.lastgroup is not None:
                self._found.append((match.lastgroup, match[0], line))
            line += match[0].count("\n")
            at = match.end()

    def peek(self) -> tuple[str, str]:
        """Kind and text of the next token; ("end", "") behind the last."""
        return self._found[self._at][:2] if self._at < len(self._found) else ("end", "")

    def take(self) -> tuple[str, str]:
        """The next token, which is gone then."""
        token = self.peek()
        self._at += 1
        return token

    def fault(self, problem: str) -> ConversionFailed:
        """An error that names the line of the token taken last."""
        line = self._found[min(self._at, len(self._found)) - 1][2] if self._found else 1
        return ConversionFailed(f"{self._where}, line {line}: {problem}")


def parse(text: str, where: str = "the prototxt") -> Message:
    """The message that a text describes.

    Raises:
        ConversionFailed: the text is none; the message names the line.
    """
    return _message(_Tokens(text, where), "end", 0)


def _message(tokens: _Tokens, closes: str, depth: int) -> Message:
    if depth > DEEPEST:
        raise tokens.fault(f"messages are nested deeper than {DEEPEST}")
    found: Message = {}
    while True:
        kind, text = tokens.take()
        if kind == "end" or text == closes:
            if kind == "end" and closes != "end":
                raise tokens.fault(f"the file ends before a '{closes}'")
            return found
        if kind != "name":
            raise tokens.fault(f"a field name is expected, not {text!r}")
        found.setdefault(text, []).extend(_values(tokens, depth))
        if tokens.peek()[1] in {",", ";"}:
            tokens.take()


def _values(tokens: _Tokens, depth: int) -> list[Any]:
    kind, text = tokens.take()
    if text in _CLOSES and kind == "mark":
        return [_message(tokens, _CLOSES[text], depth + 1)]
    if text != ":":
        raise tokens.fault(f"':' or '{{' is expected, not {text!r}")
    kind, text = tokens.take()
    if kind == "mark" and text in _CLOSES:
        return [_message(tokens, _CLOSES[text], depth + 1)]
    if (kind, text) != ("mark", "["):
        return [_scalar(tokens, kind, text)]
    found = []
    while (token := tokens.take())[1] != "]" or token[0] != "mark":
        if token in {("mark", "{"), ("mark", "<")}:
            found.append(_message(tokens, _CLOSES[token[1]], depth + 1))
        elif token != ("mark", ","):
            found.append(_scalar(tokens, *token))
    return found


def _scalar(tokens: _Tokens, kind: str, text: str) -> Any:
    if kind == "name":
        return {"inf": float("inf"), "-inf": -float("inf"), "nan": float("nan")}.get(text, text)
    if kind == "number":
        try:
            return int(text, 0)
        except ValueError:
            return float(text.rstrip("fF"))
    if kind != "text":
        raise tokens.fault(f"a value is expected, not {text!r}")
    parts = [text]
    while tokens.peek()[0] == "text":
        parts.append(tokens.take()[1])
    return "".join(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), part[1:-1]) for part in parts)
