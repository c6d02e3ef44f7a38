"""What a cluster answers when it does not do what it was asked: as Catchment's errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from catchment.errors import (
    AlreadyExists,
    CatchmentError,
    ClusterRefused,
    InvalidField,
    NotFound,
    Unreachable,
    WrongState,
)
from catchment.kubernetes.kinds import Kind

_UNREADABLE = ("failed to create typed patch object", "failed to convert new object")
"""How server-side apply begins to say that an object is wrong: with 500, which otherwise means that
the server is out of order."""
_FIELD = re.compile(r"(?:^|\s)\.(\S+): ")

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def error(code: int, body: bytes, asked: str, kind: Kind, namespace: str) -> CatchmentError:
    """The error of an answer that is none of 2xx.

    Args:
        code: of HTTP.
        body: a Status object, or anything else.
        asked: the verb, for messages and rights: get, list, watch, create, patch, delete.
        kind, namespace: of what was asked for.
    """
    told = status(body)
    words = str(told.get("message") or body[:300].decode(errors="replace") or "no reason given")
    where = f"{kind.words} in namespace {namespace!r}"
    if code in (401, 403):
        needed = f"the right to {asked} {where}" if code == 403 else "a login that is valid"
        return ClusterRefused(asked, kind.words, f"the cluster asks for {needed}: {words}")
    if code == 404:
        if not (told.get("details") or {}).get("name"):
            words = f"the cluster does not know {kind.words} ({kind.api_version}); is it installed? {words}"
        return NotFound(words)
    if code == 409:
        taken = told.get("reason") == "AlreadyExists"
        return (AlreadyExists if taken else WrongState)(words)
    if code in (400, 422) or (code == 500 and words.startswith(_UNREADABLE)):
        return InvalidField(_field(told, words), words)
    if code == 429 or code >= 500:
        return Unreachable(f"the cluster cannot {asked} {where} now ({code}): {words}")
    return Unreachable(f"the cluster answered {code} to {asked} {where}: {words}")


def status(body: bytes) -> Mapping[str, Any]:
    """The Status object of an answer; empty where it is none."""
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _field(told: Mapping[str, Any], words: str) -> str:
    causes = (told.get("details") or {}).get("causes") or [{}]
    named = _FIELD.search(words)
    return str(causes[0].get("field") or (named and named[1]) or "manifest")
