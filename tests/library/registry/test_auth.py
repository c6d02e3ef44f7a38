"""Who we are: challenges, tokens for each scope, their expiry, and where secrets are kept."""

from __future__ import annotations

import json
import random
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catchment.errors import Forbidden, InvalidField, Refused, Unauthorized
from catchment.registry.artifacts import digest_of
from catchment.registry.auth import Authorizer, parse_challenges
from catchment.registry.backend import bytes_source
from catchment.registry.credentials import Credentials, CredentialsFile
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.session import Session
from tests.conftest import wait_until
from tests.faulty_registry import Fault, FaultyRegistry
from tests.library.registry.conftest import IMPATIENT, connect
from tests.library.registry.making import put_artifact, put_blob, read_blob
from tests.registry_servers import PASSWORD, USER, Server, TokenIssuer, docker_registry, token_issuer

needs_registry = [pytest.mark.needs("docker-registry"), pytest.mark.needs("htpasswd")]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Server, TokenIssuer]]:
    """A docker-registry that wants tokens, and their issuer, of this test alone."""
    with token_issuer(tmp_path) as issuer, docker_registry(tmp_path / "registry", issuer=issuer) as server:
        yield server, issuer


@pytest.mark.needs("docker-registry")
def test_tokens_are_asked_for_what_is_done(guarded: tuple[Server, TokenIssuer], repository: str) -> None:
    server, issuer = guarded
    client = connect(server)
    stored = put_artifact(client, repository)
    assert client.resolve(repository, "v1") == stored
    assert issuer.asked == [[f"repository:{repository}:pull"], [f"repository:{repository}:pull,push"]]
    client.repositories()
    assert issuer.asked[2:] == [["registry:catalog:*"]]
    client.delete(repository, stored.digest)
    assert issuer.asked[3:] == [[f"repository:{repository}:delete,pull"]]
    client.close()


@pytest.mark.needs("docker-registry")
def test_an_expired_token_is_replaced(guarded: tuple[Server, TokenIssuer], repository: str) -> None:
    server, issuer = guarded
    # The issuer says that its tokens live for long: only the 401 shows that they do not.
    issuer.life_s, issuer.told_life_s = 2, 300
    client = connect(server)
    put_blob(client, repository, b"first")
    expired = time.time() + issuer.life_s
    wait_until(lambda: time.time() > expired, timeout_s=10, what="the token's end")
    data = random.Random(3).randbytes(5 * 2**20)
    digest = digest_of(data)
    client.write_blob(repository, digest, len(data), bytes_source(data))
    assert read_blob(client, repository, digest) == data
    assert issuer.asked.count([f"repository:{repository}:pull,push"]) == 2
    client.close()


@pytest.mark.needs("docker-registry")
def test_a_token_is_replaced_before_it_expires(guarded: tuple[Server, TokenIssuer], repository: str) -> None:
    server, issuer = guarded
    issuer.told_life_s = 0.01
    client = connect(server)
    for data in (b"one", b"two"):
        put_blob(client, repository, data)
    assert len(issuer.asked) > 2
    client.close()


def test_a_token_that_expires_between_start_and_end_of_a_push(faulty: FaultyRegistry, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(5 * 2**20)
    with token_issuer(tmp_path) as issuer:
        issuer.life_s = 300
        demand = {
            "WWW-Authenticate": f'Bearer realm="{issuer.url}",service="tests.registry",error="invalid_token"'
        }
        faulty.faults = [
            Fault("HEAD", "/blobs/", status=401, headers=demand),
            Fault("PUT", "/uploads/", status=401, headers=demand),
        ]
        client = DistributionRegistry(Session(faulty.host, Credentials(USER, PASSWORD), patience=IMPATIENT))
        client.write_blob("a/b", digest_of(data), len(data), bytes_source(data))
        first, second = (headers["Authorization"] for headers in faulty.asked("PUT"))
        assert first != second
        assert faulty.blobs[digest_of(data)] == data
        client.close()


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=needs_registry) for each in ("htpasswd", "tokens")]
)
def test_a_wrong_or_missing_login_is_unauthorized(
    kind: str, start_server: Callable[[str], Server], repository: str
) -> None:
    server = start_server(kind)
    for login in (None, Credentials(USER, "wrong-password")):
        client = DistributionRegistry(Session(server.host, login, patience=IMPATIENT))
        with pytest.raises(Unauthorized) as caught:
            put_blob(client, repository, b"x")
        assert "wrong-password" not in str(caught.value)
        with pytest.raises(Unauthorized):
            client.ping()
        client.close()
    client = connect(server)
    client.ping()
    client.close()


@pytest.mark.needs("docker-registry")
def test_a_token_without_the_right_is_forbidden(
    guarded: tuple[Server, TokenIssuer], repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, issuer = guarded
    grant = issuer.grant
    monkeypatch.setattr(
        issuer, "grant", lambda scopes, key: grant([each.replace(",push", "") for each in scopes], key)
    )
    client = connect(server)
    with pytest.raises(Forbidden):
        put_blob(client, repository, b"x")
    client.close()


def test_an_identity_token_is_exchanged() -> None:
    sent: list[tuple[str, str, bytes]] = []

    def fetch(method: str, url: str, _headers: object, body: bytes) -> bytes:
        sent.append((method, url, body))
        return b'{"access_token":"fresh"}'

    made = Authorizer(Credentials("", "", "identity"), fetch)
    assert made.header(("repository:a/b:pull",)) == ""
    assert made.challenged(['Bearer realm="https://issuer/token",service="s"'], ("repository:a/b:pull",), "")
    assert made.header(("repository:a/b:pull",)) == "Bearer fresh"
    ((method, url, body),) = sent
    assert (method, url) == ("POST", "https://issuer/token")
    assert b"grant_type=refresh_token" in body
    assert b"refresh_token=identity" in body
    assert b"scope=repository%3Aa%2Fb%3Apull" in body


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (
            'bearer REALM="q\\"uoted" , Basic realm="y"',
            [("bearer", {"realm": 'q"uoted'}), ("basic", {"realm": "y"})],
        ),
        ("Negotiate", [("negotiate", {})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ("", []),
        ('===, "', []),
    ],
)
def test_challenges_are_read(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in parse_challenges(header)] == found


def test_logins_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.json"
    kept = CredentialsFile(path, {})
    assert kept.find("registry.example.org") is None
    kept.store("Registry.Example.org", Credentials("robot$x", "pass:word"))
    kept.store("other:5000", Credentials("u", "ä", "identity"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept.find("registry.example.org") == Credentials("robot$x", "pass:word")
    assert kept.find("other:5000") == Credentials("u", "ä", "identity")
    assert kept.hosts() == ["other:5000", "registry.example.org"]
    assert kept.remove("other:5000")
    assert not kept.remove("other:5000")
    assert kept.find("other:5000") is None


def test_dockers_own_file_is_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"https://a.b": {"auth": "dTpw"}}, "credsStore": "x"}))
    kept = CredentialsFile(path, {})
    assert kept.find("a.b") == Credentials("u", "p")
    kept.store("c.d", Credentials("v", "q"))
    assert json.loads(path.read_text())["credsStore"] == "x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_environment_wins_for_the_host_that_it_names(tmp_path: Path) -> None:
    kept = CredentialsFile(
        tmp_path / "config.json",
        {
            "CATCHMENT_REGISTRY_HOST": "a.b:5000",
            "CATCHMENT_REGISTRY_USERNAME": "u",
            "CATCHMENT_REGISTRY_PASSWORD": "p",
        },
    )
    assert kept.find("a.b:5000") == Credentials("u", "p")
    assert kept.find("c.d") is None


@pytest.mark.parametrize("content", ["[]", "nonsense", '{"auths": []}', '{"auths": {"a.b": {"auth": "%%"}}}'])
def test_a_broken_file_is_told_without_its_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(Refused) as caught:
        CredentialsFile(path, {}).find("a.b")
    assert str(path) in str(caught.value)
    assert "%%" not in str(caught.value)


def test_a_name_with_a_colon_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="username"):
        CredentialsFile(tmp_path / "c", {}).store("a.b", Credentials("a:b", "p"))
