"""Lists that registries give page by page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from catchment.errors import Unreachable
from catchment.registry.addresses import origin_of
from catchment.registry.auth import Scopes
from catchment.registry.session import Session
from catchment.registry.transport import Answer

MAX_PAGES = 10_000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel\s*=\s*"?next\b')


def pages(
    session: Session,
    path: str,
    scopes: Scopes,
    what: str,
    key: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> list[Any]:
    """The items of all pages: of the lists under `key`, or of lists alone where `key` is empty.

    Raises:
        NotFound, Unauthorized, Forbidden, Unreachable: as `Session.request`; also without JSON, or with
            pages that have no end.
    """
    found: list[Any] = []
    seen = set()
    while path and path not in seen:
        seen.add(path)
        if len(seen) > MAX_PAGES:
            raise Unreachable(f"{session.host}: {what}: more than {MAX_PAGES} pages")
        answer = session.request("GET", path, scopes, what, headers=headers)
        items = _items(answer, session.host, what, key)
        found += items
        path = _next(session, answer)
    return found


def _items(answer: Answer, host: str, what: str, key: str) -> list[Any]:
    try:
        value = json.loads(answer.body)
        items = (value.get(key) if key else value) or []
    except (ValueError, AttributeError):
        items = None
    if not isinstance(items, list):
        raise Unreachable(f"{host}: {what}: the answer is not the JSON of a list")
    return items


def _next(session: Session, answer: Answer) -> str:
    """The next page's address, only of the registry itself; empty after the last page."""
    found = _NEXT.search(", ".join(answer.headers.get_all("Link") or []))
    if not found:
        return ""
    url = session.absolute(found[1])
    return url if origin_of(urlsplit(url)) == origin_of(urlsplit(session.base())) else ""
