"""What the API server answers instead of an object: a Status."""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import Iterator
from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@contextlib.contextmanager
def gone_is_fine(*codes: int) -> Iterator[None]:
    """What is not there (any more) need not be written; nor need what is answered by one of these codes."""
    try:
        yield
    except Problem as problem:
        if problem.code not in (404, *codes):
            raise


def note_error(broken: list[BaseException]) -> None:
    """Keep the exception that ends a server's handler, unless the connection's other end is its reason."""
    error = sys.exception()
    if error is not None and not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
        broken.append(error)


class Problem(Exception):
    """A request that failed, as the server words it."""

    def __init__(self, code: int, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = REASONS[code] if reason is None else reason
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """The Status object of the answer."""
        told = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        told |= {"reason": self.reason} if self.reason else {}
        return {**told, "details": self.details} if self.details else told
