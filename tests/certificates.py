"""Certificates that no authority of ours would make: expired, not good yet, short-lived, with odd names."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from catchment.tls.authority import Authority, Pair

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Made:
    """A certificate and its key in PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> Pair:
        """Put both into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        pair.certificate.write_bytes(self.certificate)
        pair.key.write_bytes(self.key)
        return pair


def sign(
    ca: Pair,
    common: str,
    *names: x509.GeneralName,
    begins: datetime.timedelta = -DAY,
    lasts: datetime.timedelta = DAY,
    password: bytes | None = None,
) -> Made:
    """A certificate signed by an authority, good from now + `begins` to now + `lasts`."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.load_pem_x509_certificate(ca.certificate.read_bytes())
    issuer_key = load_pem_private_key(ca.key.read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + lasts)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return Made(
        builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
    )


def authority(folder: Path, *sites: str, names: tuple[str, ...] = ()) -> Authority:
    """A new authority with certificates for sites."""
    made = Authority(folder)
    made.create(names, sites)
    return made
