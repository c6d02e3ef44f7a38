"""The folder of a job's `ssl`, and whom its trusted roots vouch for."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

from catchment.errors import InvalidField
from catchment.tls.authority import Authority
from catchment.tls.trust import SslFolder, vouches_for
from tests.certificates import DAY, Made, authority, sign


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path / "ca", "site-1")


def check(made: Made, trusted: bytes) -> None:
    SslFolder(made.certificate, made.key, trusted).check("ssl", datetime.datetime.now(datetime.UTC))


def test_a_good_folder_passes(ca: Authority) -> None:
    check(sign(ca.ca, "coordinator"), ca.ca.certificate.read_bytes())


def test_each_fault_is_named(ca: Authority, tmp_path: Path) -> None:
    good, trusted = sign(ca.ca, "coordinator"), ca.ca.certificate.read_bytes()
    other = sign(ca.ca, "other")
    cases = [
        (Made(b"nothing", good.key), trusted, "cert.pem holds no certificate"),
        (Made(good.certificate, b"nothing"), trusted, "private.key holds no private key"),
        (Made(good.certificate, other.key), trusted, "private.key is not the key of cert.pem"),
        (good, b"", "trusted.pem holds no certificate"),
        (good, good.certificate, "no certificate of an authority"),
        (sign(ca.ca, "late", lasts=-DAY / 2), trusted, "cert.pem: CN=late expired"),
        (sign(ca.ca, "early", begins=DAY / 2), trusted, "cert.pem: CN=early is not good before"),
        (good, trusted + sign(ca.ca, "old", lasts=-DAY / 2).certificate, "trusted.pem: CN=old expired"),
        (sign(ca.ca, "x", password=b"secret"), trusted, "private.key is encrypted"),
    ]
    for made, roots, sentence in cases:
        with pytest.raises(InvalidField, match=sentence) as refused:
            check(made, roots)
        assert refused.value.field == "ssl"


def test_it_vouches_for_what_its_authority_signed_and_nothing_else(ca: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path / "other", "site-1")
    trusted, certificate = ca.ca.certificate.read_text(), ca.site("site-1").certificate.read_text()
    foreign = other.site("site-1").certificate.read_text()
    assert vouches_for(trusted, certificate, time.time())
    assert vouches_for(other.ca.certificate.read_text() + trusted, certificate, time.time())
    assert not vouches_for(trusted, foreign, time.time())
    # a leaf is no authority, even where somebody has put it among the roots
    assert not vouches_for(certificate, certificate, time.time())
    assert not vouches_for(trusted, certificate, time.time() + 400 * 86400)
    assert not vouches_for(trusted, sign(ca.ca, "site-1", lasts=-DAY / 2).certificate.decode(), time.time())


def test_it_vouches_for_plain_certificates_of_other_tools(ca: Authority) -> None:
    assert vouches_for(ca.ca.certificate.read_text(), sign(ca.ca, "site-1").certificate.decode(), time.time())
