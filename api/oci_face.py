"""What is peculiar to the registry's face: error bodies and codes, its login, what an upload's Range says."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.types import Scope

CHALLENGE = 'Basic realm="Catchment"'
OWN_TOKEN = "x-catchment-token"  # noqa: S105 - a header's name
UNKNOWN = "catchment.unknown"
"""Key of a request's scope: the code of what is looked for just now, where the path does not say it."""
PASSED_ON = ("/v2", "/api/v2.0", "/service", "/c")
"""Paths that a configured registry answers."""
_BY_ERROR = {
    "BlobsMissing": "MANIFEST_BLOB_UNKNOWN",
    "BadArtifact": "MANIFEST_INVALID",
    "TooLarge": "MANIFEST_INVALID",
    "FormatMismatch": "MANIFEST_INVALID",
    "DigestMismatch": "DIGEST_INVALID",
    "OffsetMismatch": "BLOB_UPLOAD_INVALID",
    "TransferError": "BLOB_UPLOAD_INVALID",
    "Unauthorized": "UNAUTHORIZED",
    "Unreachable": "UNAVAILABLE",
    "StepTimedOut": "UNAVAILABLE",
}
_BY_FIELD = {"name": "NAME_INVALID", "tag": "TAG_INVALID", "digest": "DIGEST_INVALID", "size": "SIZE_INVALID"}
_BY_STATUS = {
    400: "UNSUPPORTED",
    403: "DENIED",
    405: "UNSUPPORTED",
    416: "UNSUPPORTED",
    409: "DENIED",
    429: "TOOMANYREQUESTS",
} | dict.fromkeys((502, 503, 504), "UNAVAILABLE")


def is_registry(path: str) -> bool:
    """Whether a path belongs to the registry."""
    return path == "/v2" or path.startswith("/v2/")


def is_passed_on(path: str) -> bool:
    """Whether a configured registry answers a path."""
    return any(path == each or path.startswith(f"{each}/") for each in PASSED_ON)


def body(
    scope: Scope, status: int, reason: str, headers: Mapping[str, str] | None, facts: Mapping[str, Any]
) -> JSONResponse:
    """An error as the distribution specification has it."""
    code = _code(scope, status, facts)
    return JSONResponse({"errors": [{"code": code, "message": reason, "detail": facts}]}, status, headers)


def _code(scope: Scope, status: int, facts: Mapping[str, Any]) -> str:
    kind = str(facts.get("error", ""))
    if kind == "InvalidField":
        return _BY_FIELD.get(str(facts.get("field")), "UNSUPPORTED")
    if kind in _BY_ERROR:
        return _BY_ERROR[kind]
    if status == 404:
        return str(scope.get(UNKNOWN) or _unknown(scope["path"]))
    return _BY_STATUS.get(status, "UNKNOWN")


def _unknown(path: str) -> str:
    if "/blobs/uploads" in path:
        return "BLOB_UPLOAD_UNKNOWN"
    if "/blobs/" in path:
        return "BLOB_UNKNOWN"
    return "MANIFEST_UNKNOWN" if "/manifests/" in path else "NAME_UNKNOWN"


def as_bearer(authorization: str | None) -> str | None:
    """A login's password as a bearer token; anything else as it is."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        login = base64.b64decode(given.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return f"Bearer {login.partition(':')[2]}"


def upload_range(stored: int) -> str:
    """What an upload holds, as a Range header says it; that has no word for nothing."""
    return f"0-{max(0, stored - 1)}"
