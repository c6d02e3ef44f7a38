"""How a registry wants to know who asks: basic, or a token for each scope from an issuer."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from catchment.errors import Unreachable
from catchment.registry.addresses import address
from catchment.registry.credentials import Credentials

Scopes = tuple[str, ...]
Fetch = Callable[[str, str, Mapping[str, str], bytes], bytes]
"""Method, address, headers and body of a request to the token issuer; the body of its answer."""

DEFAULT_LIFE_S = 60.0
"""What the specification lets a token live that does not say it."""
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?:\s+|$|(?=,))")


@dataclass(frozen=True)
class Challenge:
    """One demand of a WWW-Authenticate header; names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """The demands of a WWW-Authenticate header (RFC 9110, 11.6.1); what cannot be read is left out."""
    found = []
    at = 0
    while (scheme := _SCHEME.match(header, at)) and scheme[1]:
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            quoted = parameter[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3]
            parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def repository_scope(repository: str, *actions: str) -> Scopes:
    """The scope of actions on a repository, as issuers know it."""
    return (f"repository:{repository}:{','.join(actions)}",)


def _merged(scopes: Iterable[str]) -> Scopes:
    """The scopes with each resource once, with all that is to be done to it."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, _, wanted = scope.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return tuple(f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in actions.items())


CATALOG: Scopes = ("registry:catalog:*",)


@dataclass(frozen=True)
class _Held:
    token: str = field(repr=False)
    good_until: float


class Authorizer:
    """Answers one registry's demands. Usable by several threads."""

    def __init__(self, credentials: Credentials | None, fetch: Fetch) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._demand: Challenge | None = None
        self._asked: dict[Scopes, Scopes] = {}
        self._held: dict[Scopes, _Held] = {}
        self._lock = threading.Lock()

    @property
    def has_login(self) -> bool:
        """Whether there are credentials."""
        return self._credentials is not None

    def header(self, scopes: Scopes) -> str:
        """Value of the Authorization header; empty before the registry has asked for one.

        A token that is about to expire is replaced.

        Raises:
            Unauthorized, Forbidden, Unreachable: the issuer gives none.
        """
        with self._lock:
            if self._demand is None:
                return ""
            if self._demand.scheme == "basic":
                return self._credentials.basic() if self._credentials else ""
            held = self._held.get(scopes)
            if held is None or time.monotonic() >= held.good_until:
                held = self._held[scopes] = self._new_token(self._demand, self._asked.get(scopes, scopes))
            return f"Bearer {held.token}"

    def challenged(self, headers: Iterable[str], scopes: Scopes, used: str) -> bool:
        """Take in what a 401 demands; whether it makes sense to ask again.

        Args:
            headers: the answer's WWW-Authenticate headers.
            scopes: what the request was for.
            used: the Authorization that it was sent with.
        """
        demands = {each.scheme: each for header in headers for each in parse_challenges(header)}
        demand = demands.get("bearer") or demands.get("basic")
        if demand is None:
            return False
        with self._lock:
            self._demand = demand
            if demand.scheme == "basic":
                return self._credentials is not None and used != self._credentials.basic()
            wanted = demand.parameters.get("scope", "").split()
            self._asked[scopes] = _merged([*scopes, *wanted])
            held = self._held.get(scopes)
            if held and used == f"Bearer {held.token}":
                del self._held[scopes]
            return True

    def secrets(self) -> list[str]:
        """What must not be shown."""
        login = self._credentials.secrets() if self._credentials else ()
        return [*login, *(held.token for held in list(self._held.values()))]

    def _new_token(self, demand: Challenge, scopes: Scopes) -> _Held:
        realm, service = demand.parameters.get("realm", ""), demand.parameters.get("service", "")
        address(realm)
        query = [("service", service)] if service else []
        began = time.monotonic()
        login = self._credentials
        if login and login.identity_token:
            form = [*query, ("grant_type", "refresh_token"), ("client_id", "catchment")]
            form += [("scope", " ".join(scopes)), ("refresh_token", login.identity_token)]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._fetch("POST", realm, headers, urlencode(form).encode())
        else:
            headers = {"Authorization": login.basic()} if login else {}
            url = _with_query(realm, [*query, *(("scope", scope) for scope in scopes)])
            answer = self._fetch("GET", url, headers, b"")
        token, life_s = _read_token(answer, urlsplit(realm).netloc)
        # Replaced a little before it expires: the request takes its time to arrive.
        return _Held(token, began + life_s - min(5.0, life_s / 5))


def _read_token(answer: bytes, issuer: str) -> tuple[str, float]:
    try:
        value = json.loads(answer)
        token = value.get("token") or value.get("access_token")
        life_s = float(value.get("expires_in") or DEFAULT_LIFE_S)
    except (ValueError, TypeError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise Unreachable(f"the token issuer {issuer} answers without a token")
    return token, life_s


def _with_query(url: str, more: list[tuple[str, str]]) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *more])))
