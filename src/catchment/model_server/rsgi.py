"""What of RSGI, granian's interface, the REST face uses; nothing is imported for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Headers(Protocol):
    """A request's headers; names in small letters."""

    def get(self, name: str, /) -> str | None:
        """The header's value, the first if there are several."""


class Scope(Protocol):
    """A request's head."""

    proto: str
    method: str
    path: str
    headers: Headers


class Exchange(Protocol):
    """A request's body, and the way to its answer."""

    async def __call__(self) -> bytes:
        """The whole body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body's parts as they arrive."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes, /) -> None:
        """Answer."""
