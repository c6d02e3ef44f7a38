"""The folder that a job's `ssl` names, and which sites' certificates its trusted roots vouch for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from catchment.errors import InvalidField

FILES = ("cert.pem", "private.key", "trusted.pem")


@dataclass(frozen=True)
class SslFolder:
    """The content of the three files."""

    certificate: bytes
    key: bytes
    trusted: bytes

    def check(self, field: str, now: datetime.datetime) -> None:
        """Refuse what could not be used.

        Raises:
            InvalidField: names the file and what is wrong with it.
        """
        chain = _certificates(field, "cert.pem", self.certificate)
        roots = _certificates(field, "trusted.pem", self.trusted)
        try:
            key = load_pem_private_key(self.key, None)
        except TypeError:
            raise InvalidField(
                field, "private.key is encrypted; it must be a key without a password"
            ) from None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidField(field, f"private.key holds no private key in PEM: {error}") from error
        if key.public_key() != chain[0].public_key():
            raise InvalidField(field, "private.key is not the key of cert.pem")
        for name, certificates in (("cert.pem", chain), ("trusted.pem", roots)):
            for certificate in certificates:
                _check_date(field, name, certificate, now)
        if not any(_is_authority(root) for root in roots):
            raise InvalidField(field, "trusted.pem holds no certificate of an authority")


def _certificates(field: str, name: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise InvalidField(field, f"{name} holds no certificate in PEM: {error}") from error


def _check_date(field: str, name: str, certificate: x509.Certificate, now: datetime.datetime) -> None:
    subject = certificate.subject.rfc4514_string()
    if now > certificate.not_valid_after_utc:
        raise InvalidField(
            field, f"{name}: {subject} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%MZ}"
        )
    if now < certificate.not_valid_before_utc:
        raise InvalidField(
            field, f"{name}: {subject} is not good before {certificate.not_valid_before_utc:%Y-%m-%d %H:%MZ}"
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def vouches_for(trusted: str, certificate: str, now: float) -> bool:
    """Whether a site's certificate chains to one of the trusted roots, and all of the chain is good now.

    Args:
        trusted: roots, and intermediate authorities where there are any, in PEM; "" vouches for nobody.
        certificate: the site's certificate in PEM; the handshake has proven that the site has its key.
        now: seconds since the epoch.
    """
    known = x509.load_pem_x509_certificates(trusted.encode()) if trusted else []
    authorities = [root for root in known if _is_authority(root)]
    if not authorities:
        return False
    verifier = (
        PolicyBuilder()
        .store(Store(authorities))
        .time(datetime.datetime.fromtimestamp(now, datetime.UTC))
        .extension_policies(ca_policy=_AUTHORITIES, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(x509.load_pem_x509_certificate(certificate.encode()), authorities)
    except VerificationError:
        return False
    return True


def _must_be_authority(_policy: Policy, _certificate: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("is no authority")


_AUTHORITIES = ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, Criticality.AGNOSTIC, _must_be_authority
)
"""Authorities that people made with few extensions are as good as others; the leaf's were checked in TLS."""
