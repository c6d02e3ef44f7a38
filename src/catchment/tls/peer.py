"""Who is at the other end of a connection, as far as its certificate proves."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from catchment.tls.names import named_site


@dataclass(frozen=True)
class Peer:
    """The client certificate of a connection, which the handshake has verified.

    Attributes:
        site: the site that it names, None when it names none.
        not_after: until when it is good, seconds since the epoch; a connection may outlive it.
        pem: the certificate.
    """

    site: str | None
    not_after: float
    pem: str = field(repr=False)


def peer_of(der: bytes) -> Peer:
    """What a verified certificate says. Raises ValueError for what OpenSSL takes and we cannot read."""
    certificate = x509.load_der_x509_certificate(der)
    return Peer(
        site=named_site(certificate),
        not_after=certificate.not_valid_after_utc.timestamp(),
        pem=certificate.public_bytes(Encoding.PEM).decode(),
    )
