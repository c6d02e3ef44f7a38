"""The arguments of a Caffe2 operator; long lists of floats are read when they are asked for."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.protobuf import Message, exact_text, numbers, signed
from catchment.formats.protobuf_reals import reals

_NAME, _FLOAT, _INT, _TEXT, _FLOATS, _INTS, _TEXTS = 1, 2, 3, 4, 5, 6, 7


T = TypeVar("T")


class Arguments:
    """Typed access by name, with Caffe2's defaults given by the reader."""

    def __init__(self, messages: list[Message]) -> None:
        self._found: dict[str, Message] = {}
        for message in messages:
            names = [exact_text(value) for number, value in message if number == _NAME]
            self._found[names[-1] if names else ""] = message

    def has(self, name: str) -> bool:
        """Whether it is given."""
        return name in self._found

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        for number, value in self._message(name, default):
            if number == _INT:
                return signed(value)
        return self._default(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        """A number."""
        found = reals(self._message(name, default), _FLOAT, "<f4")
        return float(found[-1]) if len(found) else self._default(name, default)

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        for number, value in self._message(name, default):
            if number == _TEXT:
                return exact_text(value)
        return default

    def wholes(self, name: str) -> list[int]:
        """Whole numbers; none if it is not given."""
        message = self._message(name, 0)
        return [
            each
            for number, value in message
            if number == _INTS
            for each in numbers(value, max_numbers=len(message))
        ]

    def floats(self, name: str) -> np.ndarray:
        """Numbers as an array; an empty one if it is not given."""
        return reals(self._message(name, 0), _FLOATS, "<f4")

    def _message(self, name: str, default: object) -> Message:
        if name not in self._found and default is None:
            raise ConversionFailed(f"the argument {name} is missing")
        return self._found.get(name, Message(b""))

    def _default(self, name: str, default: T | None) -> T:
        if default is None:
            raise ConversionFailed(f"the argument {name} has another type than is expected")
        return default
