"""A certificate authority of one's own: a folder with the CA, the server's and the sites' certificates.

```text
ca.pem  ca.key                  the authority; its key signs and is needed nowhere else
server.pem  server.key          the API's
sites/NAME.pem  sites/NAME.key  a site's; goes to the site together with ca.pem
```
"""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from catchment.errors import AlreadyExists, NotFound, SetupError
from catchment.tls.names import general_name, site_uri

CA_DAYS = 3650
LEAF_DAYS = 365
CLOCKS_DIFFER = datetime.timedelta(hours=1)
"""Certificates are good from so long before they are made: another machine's clock may be behind."""
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")
"""Programs of the server's own machine reach it by these."""


@dataclass(frozen=True)
class Pair:
    """Where a certificate and its private key lie."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class _Signed:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """The authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Pair(folder / "ca.pem", folder / "ca.key")
        self.server = Pair(folder / "server.pem", folder / "server.key")

    def site(self, name: str) -> Pair:
        """Where a site's certificate lies, or would. Raises InvalidField for what is no name of a site."""
        site_uri(name)
        return Pair(self.folder / "sites" / f"{name}.pem", self.folder / "sites" / f"{name}.key")

    def create(self, names: Sequence[str], sites: Sequence[str]) -> None:
        """Make the CA, the server's certificate for `names`, and one for each of `sites`.

        Raises:
            AlreadyExists: there is a CA, or a part of one; nothing was touched.
            InvalidField: something is no host, address or site.
        """
        for name in names:
            general_name(name)
        pairs = [self.site(name) for name in sites]
        if pieces := [path for path in (self.ca.certificate, self.ca.key) if path.exists()]:
            raise AlreadyExists(f"{pieces[0]} is there already, and an authority is never replaced")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(self.ca, _make_ca())
        _write(self.server, self._sign_server(names))
        for name, pair in zip(sites, pairs, strict=True):
            _write(pair, self._sign_site(name))

    def add_site(self, name: str) -> Pair:
        """Make a site's certificate.

        Raises:
            AlreadyExists: the site has one.
            NotFound, SetupError: there is no authority here, or its files cannot be used.
        """
        pair = self.site(name)
        if pair.certificate.exists():
            raise AlreadyExists(f"site {name!r} has a certificate, {pair.certificate}; renew it instead")
        _write(pair, self._sign_site(name))
        return pair

    def renew_site(self, name: str) -> Pair:
        """Replace a site's key and certificate. Raises NotFound when it has none, SetupError."""
        pair = self.site(name)
        _require(pair.certificate)
        _write(pair, self._sign_site(name))
        return pair

    def renew_server(self, more_names: Sequence[str] = ()) -> Pair:
        """Replace the server's key and certificate; it keeps its names, and gets `more_names` besides."""
        old = _load_certificate(self.server.certificate)
        known = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        _write(self.server, self._sign_server([*(str(name.value) for name in known), *more_names]))
        return self.server

    def _sign_server(self, names: Sequence[str]) -> _Signed:
        general = dict.fromkeys(general_name(name) for name in (*names, *ALWAYS_NAMED))
        common = names[0] if names else ALWAYS_NAMED[0]
        return self._sign(common, list(general), ExtendedKeyUsageOID.SERVER_AUTH)

    def _sign_site(self, name: str) -> _Signed:
        return self._sign(name, [site_uri(name)], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _sign(self, common: str, names: list[x509.GeneralName], usage: x509.ObjectIdentifier) -> _Signed:
        ca = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        lasts = min(_in_days(LEAF_DAYS), ca.certificate.not_valid_after_utc)
        identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(common[:64], key, lasts)
            .issuer_name(ca.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(ca.key, hashes.SHA256())
        )
        return _Signed(certificate, key)

    def _load(self) -> _Signed:
        certificate = _load_certificate(self.ca.certificate)
        _require(self.ca.key)
        try:
            key = load_pem_private_key(self.ca.key.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise SetupError(f"cannot use the authority's key {self.ca.key}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise SetupError(f"{self.ca.key} is not the key of {self.ca.certificate}")
        if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
            raise SetupError(f"the authority {self.ca.certificate} has expired; make a new one")
        return _Signed(certificate, key)


def _make_ca() -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each: two authorities of one name are a riddle for whoever builds chains.
    common = f"Catchment CA {secrets.token_hex(4)}"
    certificate = (
        _builder(common, key, _in_days(CA_DAYS))
        .issuer_name(_named(common))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Signed(certificate, key)


def _builder(
    common: str, key: ec.EllipticCurvePrivateKey, lasts: datetime.datetime
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _in_days(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def _require(path: Path) -> None:
    if not path.is_file():
        raise NotFound(f"there is no {path}")


def _load_certificate(path: Path) -> x509.Certificate:
    _require(path)
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot use the certificate {path}: {error}") from error


def _encoded(signed: _Signed) -> tuple[bytes, bytes]:
    key = signed.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, signed.certificate.public_bytes(Encoding.PEM)


def _write_new(pair: Pair, signed: _Signed) -> None:
    """Write files that must not be there: whoever makes an authority at the same time loses, loudly."""
    key, certificate = _encoded(signed)
    for path, content, mode in ((pair.key, key, 0o600), (pair.certificate, certificate, 0o644)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise AlreadyExists(f"{path} is there already, and an authority is never replaced") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def _write(pair: Pair, signed: _Signed) -> None:
    """Replace a pair, file by file. Between the two they do not match; who reads them then waits for both."""
    key, certificate = _encoded(signed)
    pair.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, content, mode in ((pair.key, key, 0o600), (pair.certificate, certificate, 0o644)):
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        unfinished.replace(path)
