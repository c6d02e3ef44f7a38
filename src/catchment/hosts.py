"""Which hosts are this machine, and where a bearer token may travel without TLS."""

from __future__ import annotations

import functools
import ipaddress
from urllib.parse import urlsplit


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, always means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exposes_token(url: str) -> bool:
    """Whether a token sent to this http(s) address could be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


PLAIN_TEXT_REFUSED = (
    "{url} would carry the bearer token in plain text to another machine; "
    "use https://, or --insecure-http where the network itself is trusted"
)
"""What is said when a token is not sent; `url` is to be filled in."""
