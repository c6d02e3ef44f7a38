"""What the headers of an upload announce: which bytes of how many, and the digest of the whole."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from fastapi import Request

from catchment.errors import InvalidField

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPR_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:$|,)")


@dataclass(frozen=True)
class Part:
    """Bytes `start` up to `stop` of `total`; `digest` of the whole, where it is announced."""

    start: int
    stop: int
    total: int
    digest: str | None


def announced_part(request: Request, *, of_body: bool = True) -> Part:
    """What a request carries: the part that Content-Range names, or all of it.

    Args:
        request: the request.
        of_body: whether the bytes are the body itself, so that its length must be theirs.

    Raises:
        InvalidField: a header is missing, malformed, or contradicts another.
    """
    digest = _digest(request)
    length = _length(request)
    given = request.headers.get("content-range")
    if given is None:
        if length is None:
            raise InvalidField("Content-Length", "is required where no Content-Range says how much is sent")
        return Part(0, length, length, digest)
    found = CONTENT_RANGE.fullmatch(given.strip())
    if found is None:
        raise InvalidField("Content-Range", f"must be 'bytes FIRST-LAST/TOTAL', got {given[:80]!r}")
    first, last, total = (int(number) for number in found.groups())
    if not first <= last < total:
        raise InvalidField("Content-Range", f"{first}-{last} is no part of {total} bytes")
    if of_body and length is not None and length != last + 1 - first:
        raise InvalidField("Content-Length", f"is {length}, Content-Range announces {last + 1 - first} bytes")
    return Part(first, last + 1, total, digest)


def _length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,18}", text):
        raise InvalidField("Content-Length", f"{text[:40]!r} is no number of bytes")
    return int(text)


def _digest(request: Request) -> str | None:
    """The digest in Repr-Digest (RFC 9530), or in the query as `digest=sha256:...`."""
    asked = request.query_params.get("digest")
    if asked is not None:
        if not DIGEST.fullmatch(asked):
            raise InvalidField("digest", "must be 'sha256:' and 64 hexadecimal digits")
        return asked
    header = request.headers.get("repr-digest")
    if header is None:
        return None
    found = _REPR_DIGEST.search(header)
    try:
        return f"sha256:{base64.b64decode(found[1], validate=True).hex()}" if found else _no_digest(header)
    except binascii.Error:
        return _no_digest(header)


def _no_digest(header: str) -> str:
    raise InvalidField("Repr-Digest", f"must be 'sha-256=:<base64>:', got {header[:80]!r}")
