"""What a registry's refusals mean, in our own errors."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable

from catchment.errors import (
    CatchmentError,
    Forbidden,
    NotFound,
    RateLimited,
    Refused,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.registry.auth import parse_challenges
from catchment.registry.patience import retry_after_s
from catchment.registry.transport import LOST, Answer

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be others the next time."""
_MAX_REASON = 500


def error_of(  # noqa: PLR0911 - a table of statuses
    answer: Answer, what: str, host: str, hidden: Iterable[str], *, has_login: bool
) -> CatchmentError:
    """The error for an answer; its body is read.

    Args:
        answer: with a status that was not hoped for.
        what: what was asked, in words.
        host: whose answer it is.
        hidden: secrets, which a server may have put into its message.
        has_login: whether it knows who asks.
    """
    code, reason = _reason(answer)
    for secret in hidden:
        reason = reason.replace(secret, "***")
    told = f"{host}: {what}: {reason or f'status {answer.status}'}"
    match answer.status:
        case 401:
            lacking = any(
                each.parameters.get("error") == "insufficient_scope"
                for header in answer.headers.get_all("WWW-Authenticate") or []
                for each in parse_challenges(header)
            )
            if has_login and (lacking or code == "DENIED"):
                return Forbidden(told)
            return Unauthorized(f"{told}; see 'catchment registry login {host}'")
        case 403:
            return Forbidden(told)
        case 404:
            return NotFound(told)
        case 429:
            return RateLimited(told, retry_after_s(answer.header("Retry-After")))
        case _ if answer.status >= 500:
            return Unreachable(told)
        case 416:
            return TransferError(told)
        case _ if code == "DIGEST_INVALID":
            return TransferError(told)
        case _:
            return Refused(told)


def lost(error: Exception, host: str) -> Unreachable:
    """The error for a connection that broke or was never made."""
    if isinstance(error, TimeoutError):
        return Unreachable(f"{host} does not answer in time")
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{host}: the host name is not known")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{host} does not answer: nobody listens there")
    return Unreachable(f"{host}: the connection broke: {error or type(error).__name__}")


def _reason(answer: Answer) -> tuple[str, str]:
    """Code and message of an error's body, as the specification writes it; else the plain text."""
    try:
        text = answer.read().decode(errors="replace").strip()
    except (*LOST, TransferError):
        return "", ""
    try:
        first = json.loads(text)["errors"][0]
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        short = "" if text.startswith("<") else " ".join(text.split())
        phrase = http.client.responses.get(answer.status, "")
        return "", (short or f"{answer.status} {phrase}".strip())[:_MAX_REASON]
    return code, (f"{message} ({code})" if code else message)[:_MAX_REASON]
