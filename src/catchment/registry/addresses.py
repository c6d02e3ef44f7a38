"""Addresses that servers give, and what may be shown of them."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from catchment.errors import Unreachable


def origin_of(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port: what may see the same secrets."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def address(url: str, base: str = "") -> SplitResult:
    """An address that a server gave, relative to another one perhaps. Raises Unreachable when it is none."""
    try:
        parts = urlsplit(urljoin(base, url) if base else url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        valid = None
    if not valid:
        raise Unreachable(f"{bare(url)!r} is no address of a server")
    return parts


def bare(url: str) -> str:
    """An address as it may be shown: queries and logins in addresses are secrets, signatures for example."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what the server names"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
