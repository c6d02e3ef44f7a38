"""What goes over the wire besides: encodings, addresses, what may be shown of them."""

from __future__ import annotations

import pytest

from catchment.errors import Refused, Unauthorized, Unreachable
from catchment.registry.addresses import bare
from catchment.registry.artifacts import digest_of
from catchment.registry.backend import bytes_source
from catchment.registry.credentials import Credentials
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.session import Session
from tests.faulty_registry import Fault, FaultyRegistry
from tests.library.registry.conftest import IMPATIENT
from tests.library.registry.making import put_blob, read_blob


def test_bytes_are_asked_for_as_they_are(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    digest = put_blob(client, "a/b", b"data").digest
    assert read_blob(client, "a/b", digest) == b"data"
    assert {headers["Accept-Encoding"] for _, _, headers in faulty.requests} == {"identity"}
    assert all(headers["User-Agent"].startswith("catchment/") for _, _, headers in faulty.requests)


def test_what_is_secret_in_an_address_is_not_shown() -> None:
    assert bare("https://user:pass@host:1/a?X-Signature=secret#x") == "https://host:1/a"
    login = Credentials("user", "hidden", "identity-hidden")
    assert "hidden" not in repr(login)


@pytest.mark.parametrize(
    ("location", "error", "sentence"),
    [
        (
            "http://elsewhere.example.org/x?sig=hidden",
            Refused,
            "elsewhere.example.org would be asked without TLS",
        ),
        ("ftp://elsewhere.example.org/x?sig=hidden", Unreachable, "is no address of a server"),
        ("http://elsewhere.example.org:port/x", Unreachable, "is no address of a server"),
        ("http://[elsewhere", Unreachable, "is no address of a server"),
    ],
)
def test_an_upload_goes_nowhere_in_plain_text(
    client: DistributionRegistry,
    faulty: FaultyRegistry,
    location: str,
    error: type[Exception],
    sentence: str,
) -> None:
    faulty.faults = [Fault("POST", "/uploads/", status=202, headers={"Location": location})]
    with pytest.raises(error, match=sentence) as caught:
        put_blob(client, "a/b", b"data")
    assert "hidden" not in str(caught.value)


def test_an_upload_without_an_address_is_told(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("POST", "/uploads/", status=202)]
    with pytest.raises(Unreachable, match="has no Location"):
        put_blob(client, "a/b", b"data")


def test_a_token_is_not_asked_for_in_plain_text_elsewhere(faulty: FaultyRegistry) -> None:
    demand = {"WWW-Authenticate": 'Bearer realm="http://issuer.example.org/token"'}
    faulty.faults = [Fault("HEAD", "/blobs/", times=9, status=401, headers=demand)]
    client = DistributionRegistry(Session(faulty.host, Credentials("user", "hidden"), patience=IMPATIENT))
    with pytest.raises(Unauthorized, match=r"issuer\.example\.org would be asked without TLS") as caught:
        client.has_blob("a/b", digest_of(b"data"))
    assert "hidden" not in str(caught.value)
    client.close()


@pytest.mark.parametrize("realm", ["", "nonsense", "http://[x", "https://host:port/"])
def test_an_issuer_without_an_address_is_told(faulty: FaultyRegistry, realm: str) -> None:
    faulty.faults = [Fault("HEAD", "", status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})]
    client = DistributionRegistry(Session(faulty.host, patience=IMPATIENT))
    with pytest.raises(Unreachable, match="is no address of a server"):
        client.has_blob("a/b", digest_of(b"data"))
    client.close()


@pytest.mark.parametrize("target", ["http://[x", "gopher://x/y", "http://host:port/"])
def test_a_redirect_to_nowhere_is_told(
    client: DistributionRegistry, faulty: FaultyRegistry, target: str
) -> None:
    faulty.faults = [Fault("GET", "/blobs/", status=307, headers={"Location": target})]
    with pytest.raises(Unreachable, match="is no address of a server"):
        read_blob(client, "a/b", digest_of(b"data"))


def test_a_mount_that_is_not_allowed_is_a_push(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("POST", "mount=", status=403)]
    data = b"data"
    client.write_blob("a/b", digest_of(data), 4, bytes_source(data), mount_from="c/d")
    assert faulty.blobs[digest_of(data)] == data
