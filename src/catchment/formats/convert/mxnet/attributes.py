"""The attributes of an MXNet operator, which are all text: '(3, 3)', 'True', '1e-5', 'None'."""

from __future__ import annotations

import re
from collections.abc import Mapping

from catchment.errors import ConversionFailed

_NUMBER = re.compile(r"-?\d{1,18}L?|None")


class Attributes:
    """Typed access; a text that is no such value is an error that names the attribute."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {key: text for key, text in texts.items() if text.strip() != "None"}

    def has(self, name: str) -> bool:
        """Whether it is given, and not None."""
        return name in self._texts

    def text(self, name: str, default: str = "") -> str:
        """As it stands."""
        return self._texts.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or False, also as 1 and 0."""
        text = self._texts.get(name, str(default)).strip().lower()
        if text not in {"true", "false", "1", "0"}:
            raise ConversionFailed(f"the attribute {name} is {text!r}, True or False is expected")
        return text in {"true", "1"}

    def number(self, name: str, default: float | None = None) -> float:
        """A number."""
        try:
            return float(self._required(name, default))
        except ValueError:
            raise ConversionFailed(f"the attribute {name} is {self._texts[name]!r}, no number") from None

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        try:
            return int(self._required(name, default).rstrip("L"))
        except ValueError:
            raise ConversionFailed(
                f"the attribute {name} is {self._texts[name]!r}, no whole number"
            ) from None

    def numbers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Whole numbers in brackets; a single one may stand without."""
        found = self.open_numbers(name, default)
        if any(each is None for each in found):
            raise ConversionFailed(f"the attribute {name} is {self._texts[name]}, numbers are expected")
        return tuple(each for each in found if each is not None)

    def open_numbers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int | None, ...]:
        """Whole numbers or None in brackets."""
        text = self._required(name, default).strip()
        inside = text[1:-1] if text[:1] in {"(", "["} and text[-1:] in {")", "]"} else text
        parts = [part.strip() for part in inside.split(",") if part.strip()]
        if not all(_NUMBER.fullmatch(part) for part in parts):
            raise ConversionFailed(f"the attribute {name} is {text[:40]!r}, numbers in brackets are expected")
        return tuple(None if part == "None" else int(part.rstrip("L")) for part in parts)

    def _required(self, name: str, default: object) -> str:
        if name not in self._texts and default is None:
            raise ConversionFailed(f"the attribute {name} is missing")
        return self._texts.get(name, str(default))
