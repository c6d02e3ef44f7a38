"""Typed access to the fields of a prototxt message, with Caffe's defaults given by the reader."""

from __future__ import annotations

from typing import Any

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.prototxt import Message


class Params:
    """The fields of one message; a wrong type is an error that names the field."""

    def __init__(self, message: Message, where: str) -> None:
        self._message = message
        self._where = where

    def has(self, name: str) -> bool:
        """Whether the field is given."""
        return bool(self._message.get(name))

    def messages(self, name: str) -> list[Params]:
        """All nested messages of that name."""
        return [
            Params(self._typed(each, dict, name), f"{self._where}.{name}")
            for each in self._message.get(name, ())
        ]

    def message(self, name: str) -> Params:
        """The nested message; an empty one if it is absent. Several are merged, as protobuf does."""
        merged: Message = {}
        for each in self._message.get(name, ()):
            for key, values in self._typed(each, dict, name).items():
                merged[key] = merged.get(key, []) + values
        return Params(merged, f"{self._where}.{name}")

    def texts(self, name: str) -> list[str]:
        """All strings of that name."""
        return [self._typed(each, str, name) for each in self._message.get(name, ())]

    def ints(self, name: str) -> list[int]:
        """All whole numbers of that name."""
        return [self._typed(each, int, name) for each in self._message.get(name, ())]

    def floats(self, name: str) -> list[float]:
        """All numbers of that name."""
        return [float(self._typed(each, (int, float), name)) for each in self._message.get(name, ())]

    def text(self, name: str, default: str = "") -> str:
        """The last string, or enum name."""
        return (self.texts(name) or [default])[-1]

    def whole(self, name: str, default: int | None = None) -> int:
        """The last whole number."""
        return int(self._last(self.ints(name), default, name))

    def number(self, name: str, default: float | None = None) -> float:
        """The last number."""
        return float(self._last(self.floats(name), default, name))

    def flag(self, name: str, default: bool) -> bool:
        """The last truth value."""
        values = self._message.get(name)
        if not values:
            return default
        if str(values[-1]).lower() not in {"true", "false", "t", "f", "0", "1"}:
            raise ConversionFailed(f"{self._where}.{name} is {values[-1]!r}, true or false is expected")
        return str(values[-1]).lower() in {"true", "t", "1"}

    def _last(self, values: list[Any], default: Any, name: str) -> Any:
        if values:
            return values[-1]
        if default is None:
            raise ConversionFailed(f"{self._where}.{name} is missing")
        return default

    def _typed(self, value: Any, kind: Any, name: str) -> Any:
        if not isinstance(value, kind):
            raise ConversionFailed(f"{self._where}.{name} is {value!r}, another type is expected")
        return value
