"""The authority: what it signs, what it never touches."""

from __future__ import annotations

import datetime
import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509

from catchment.errors import AlreadyExists, InvalidField, NotFound, SetupError
from catchment.tls.authority import CA_DAYS, LEAF_DAYS, Authority
from catchment.tls.names import named_site
from tests.certificates import authority, sign


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_of(path: Path) -> x509.SubjectAlternativeName:
    return read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_it_makes_a_ca_a_server_and_sites(tmp_path: Path) -> None:
    made = authority(tmp_path / "tls", "site-1", names=("Flock.example", "10.1.2.3", "fd00::1"))
    server = names_of(made.server.certificate)
    assert server.get_values_for_type(x509.DNSName) == ["flock.example", "localhost"]
    assert {str(each) for each in server.get_values_for_type(x509.IPAddress)} == {
        *("10.1.2.3", "fd00::1", "127.0.0.1", "::1")
    }
    (uri,) = names_of(made.site("site-1").certificate).get_values_for_type(x509.UniformResourceIdentifier)
    assert uri == "spiffe://catchment/site/site-1"
    assert named_site(read(made.site("site-1").certificate)) == "site-1"
    for pair in (made.server, made.site("site-1")):
        read(pair.certificate).verify_directly_issued_by(read(made.ca.certificate))


def test_keys_are_for_their_owner_alone_and_lifetimes_are_bounded(tmp_path: Path) -> None:
    made = authority(tmp_path / "tls", "site-1")
    now = datetime.datetime.now(datetime.UTC)
    for pair, days in ((made.ca, CA_DAYS), (made.server, LEAF_DAYS), (made.site("site-1"), LEAF_DAYS)):
        assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
        left = read(pair.certificate).not_valid_after_utc - now
        assert datetime.timedelta(days=days - 1) < left <= datetime.timedelta(days=days)
        assert read(pair.certificate).not_valid_before_utc < now
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


@pytest.mark.parametrize("left", ["ca.pem", "ca.key"])
def test_an_authority_is_never_replaced(tmp_path: Path, left: str) -> None:
    made = authority(tmp_path)
    (tmp_path / ({"ca.pem", "ca.key"} - {left}).pop()).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(AlreadyExists, match=left):
        made.create(["other"], ["site-1"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["", "-x", "a b", "höhle", "a..b", "x" * 300, "https://x"])
def test_names_that_no_host_has_are_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidField, match="neither a host name"):
        authority(tmp_path / "tls", names=(name,))
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize("site", ["", "Site", "a/b", "../x", "a" * 64])
def test_names_that_no_site_has_are_refused(tmp_path: Path, site: str) -> None:
    with pytest.raises(InvalidField, match="no name of a site"):
        authority(tmp_path / "tls", site)
    assert not (tmp_path / "tls").exists()


def test_sites_are_added_once_and_renewed_with_a_new_key(tmp_path: Path) -> None:
    made = authority(tmp_path)
    pair = made.add_site("site-2")
    with pytest.raises(AlreadyExists, match="renew"):
        made.add_site("site-2")
    before = read(pair.certificate)
    made.renew_site("site-2")
    after = read(pair.certificate)
    assert before.serial_number != after.serial_number
    assert before.public_key() != after.public_key()
    assert names_of(pair.certificate).get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://catchment/site/site-2"
    ]
    with pytest.raises(NotFound):
        made.renew_site("site-3")


def test_a_renewed_server_keeps_its_names_and_may_get_more(tmp_path: Path) -> None:
    made = authority(tmp_path, names=("one.example", "10.0.0.1"))
    made.renew_server(["two.example"])
    names = names_of(made.server.certificate)
    assert set(names.get_values_for_type(x509.DNSName)) == {"one.example", "two.example", "localhost"}
    assert ipaddress.ip_address("10.0.0.1") in names.get_values_for_type(x509.IPAddress)


def test_without_its_key_it_signs_nothing(tmp_path: Path) -> None:
    made, other = authority(tmp_path / "one"), authority(tmp_path / "two")
    made.ca.key.write_bytes(other.ca.key.read_bytes())
    with pytest.raises(SetupError, match="not the key"):
        made.add_site("site-1")
    made.ca.key.unlink()
    with pytest.raises(NotFound, match=r"ca\.key"):
        made.add_site("site-1")
    with pytest.raises(NotFound, match=r"ca\.pem"):
        Authority(tmp_path / "empty").add_site("site-1")


def test_a_certificate_that_names_two_sites_names_none(tmp_path: Path) -> None:
    made = authority(tmp_path)

    def named(common: str, *uris: str) -> str | None:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return named_site(x509.load_pem_x509_certificate(sign(made.ca, common, *names).certificate))

    base = "spiffe://catchment/site/"
    assert named("site-1") == "site-1"
    assert named("Hospital A") is None
    assert named("site-1", f"{base}site-2") == "site-2"
    assert named("site-1", f"{base}site-2", f"{base}site-3") is None
    assert named("site-1", f"{base}../site-2") is None
    assert named("site-1", "spiffe://elsewhere/site/site-2") == "site-1"
