"""What routes are handed: the process's context, and the caller's right to be there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api import oci_face
from api.access import LOCAL_ADMIN, Tokens
from api.caretaking import Caretaker
from api.figures import Scrape
from api.gateway import Gateway
from api.oci_face import OWN_TOKEN, is_passed_on
from api.passthrough import Registry
from api.readiness import Readiness
from api.supervision import Supervisor
from catchment.access import Identity, Role
from catchment.catalog.artifacts import Describing
from catchment.catalog.audit import Actor
from catchment.errors import Forbidden, Unauthorized
from catchment.jobs.launcher import RunsLauncher
from catchment.settings import Settings
from catchment.store import Store
from catchment.tls.peer import Peer


@dataclass(frozen=True)
class Context:
    """One API process.

    Attributes:
        registry: the one that requests for a registry are passed on to, where one is configured.
        scrape: the figures that /metrics tells.
        closing: set when the process is about to end; long polls are answered then.
    """

    settings: Settings
    store: Store
    launcher: RunsLauncher
    supervisor: Supervisor
    tokens: Tokens
    readiness: Readiness
    closing: asyncio.Event
    caretaker: Caretaker
    describing: Describing
    gateway: Gateway
    scrape: Scrape
    registry: Registry | None = None


async def context(request: Request) -> Context:
    """The process's context."""
    found: Context = request.app.state.context
    return found


async def store(request: Request) -> Store:
    """The store."""
    return (await context(request)).store


async def identity(request: Request) -> Identity:
    """Who calls. Raises Unauthorized."""
    here = await context(request)
    if here.settings.auth == "loopback":
        return LOCAL_ADMIN
    given = request.headers.get("authorization")
    if here.registry is not None and is_passed_on(request.url.path):
        return await _identity_beside(request, here)
    if oci_face.is_registry(request.url.path):
        given = oci_face.as_bearer(given)  # such clients send a login, whose password is the token
    return await here.tokens.identity(given)


async def _identity_beside(request: Request, here: Context) -> Identity:
    """Who calls, where Authorization is for the registry that the request goes on to. Raises Forbidden."""
    token = request.headers.get(OWN_TOKEN)
    try:
        return await here.tokens.identity(f"Bearer {token}" if token else None)
    except Unauthorized:
        # Not 401: clients would answer it with a login, which goes to the registry.
        raise Forbidden(
            "the token for this server belongs into the header X-Catchment-Token; Authorization goes on to "
            "the registry behind it"
        ) from None


ContextDep = Annotated[Context, Depends(context)]
StoreDep = Annotated[Store, Depends(store)]
IdentityDep = Annotated[Identity, Depends(identity)]


async def actor(request: Request, caller: IdentityDep) -> Actor:
    """Who the audit says did it: the login, and beside it who the headers claim to be."""
    login = "local" if caller.token_id is None else f"{caller.role} token {caller.token_id}"
    claims = (request.headers.get(name) for name in ("x-tenant", "x-user"))
    return Actor(login, "/".join(claim for claim in claims if claim))


ActorDep = Annotated[Actor, Depends(actor)]


def only(*roles: Role) -> Callable[[Identity], Awaitable[None]]:
    """A dependency that lets these roles pass."""

    async def check(caller: IdentityDep) -> None:
        if caller.role not in roles:
            raise Forbidden(f"a token of role {caller.role!r} may not do this, only {' or '.join(roles)}")

    return check


async def certificate(request: Request) -> str | None:
    """The certificate (PEM) that proves which site calls; None without mutual TLS.

    Raises:
        Forbidden: the connection's certificate names another site than the path, or is out of date by now.
    """
    # Not `request.state.peer`: asking that for what plain HTTP does not have raises and catches an error.
    peer: Peer | None = request.scope.get("state", {}).get("peer")
    if peer is None:
        return None
    if peer.not_after < time.time():
        raise Forbidden("the client certificate of this connection has expired; connect with a renewed one")
    site = request.path_params["site"]
    if peer.site is None:
        return None
    if peer.site != site:
        raise Forbidden(f"the client certificate is that of site {peer.site!r}, not of {site!r}")
    return peer.pem


CertificateDep = Annotated[str | None, Depends(certificate)]


async def secured(found: CertificateDep) -> bool:
    """Whether the connection is mutually authenticated, as the site of the path."""
    return found is not None


SecuredDep = Annotated[bool, Depends(secured)]


async def own_site(site: str, caller: IdentityDep, _proven: CertificateDep) -> None:
    """A dependency that lets a site at its own part of the exchange, and the admin everywhere."""
    if caller.role != "admin" and (caller.role != "site" or caller.site != site):
        raise Forbidden(f"this token is not good for the exchange of site {site!r}")


Admin = Depends(only("admin"))
User = Depends(only("admin", "user"))
OwnSite = Depends(own_site)
