"""What the API server answers instead of an object: a Status."""

from __future__ import annotations

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
