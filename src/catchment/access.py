"""Who may do what: bearer tokens with roles, of which the store keeps hashes only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import insert, select, update

from catchment.errors import InvalidField, NotFound, Unauthorized
from catchment.jobs.times import rfc3339, rfc3339_or_none
from catchment.store import Store
from catchment.store.schema import tokens
from catchment.wire.messages import SiteName

Role = Literal["admin", "user", "site"]
PREFIX = "catchment"
_SITE: TypeAdapter[str | None] = TypeAdapter(SiteName | None)


@dataclass(frozen=True)
class Identity:
    """Who a request comes from. `site` names the site whose exchange a site's token is good for."""

    role: Role
    site: str | None = None
    token_id: str | None = None


def create_token(store: Store, role: str, *, site: str | None = None, description: str = "") -> str:
    """A new token in plain text, shown this once.

    Raises:
        InvalidField: unknown role, a site's token without a site, or a name that no site can have.
    """
    if role not in get_args(Role):
        raise InvalidField("role", f"must be one of {', '.join(get_args(Role))}, got {role!r}")
    if (role == "site") != (site is not None):
        raise InvalidField("site", "is required for the role 'site', and only there")
    try:
        _SITE.validate_python(site)
    except ValidationError:
        raise InvalidField("site", f"{site!r} is no name that a site can have") from None
    if "\x00" in description:
        raise InvalidField("description", "contains a NUL character")
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    values = {"id": token_id, "role": role, "site": site, "description": description, "hash": _hash(secret)}
    store.db.write(lambda tx: tx.execute(insert(tokens).values(**values, created_at=tx.now)))
    return f"{PREFIX}_{token_id}_{secret}"


def identify(store: Store, token: str) -> Identity:
    """Whose token it is. Raises Unauthorized for an unknown, wrong or revoked one."""
    prefix, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    row = None
    if prefix == PREFIX and re.fullmatch(r"[0-9a-f]{16}", token_id):
        row = store.db.read(lambda tx: tx.execute(select(tokens).where(tokens.c.id == token_id)).first())
    # The same work is done for a token that is not known, so that the time tells nothing.
    right = hmac.compare_digest(row.hash if row else "0" * 64, _hash(secret))
    if row is None or not right or row.revoked_at is not None:
        raise Unauthorized("the token is not known, or was revoked")
    return Identity(role=row.role, site=row.site, token_id=row.id)


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def list_tokens(store: Store) -> list[dict[str, Any]]:
    """All tokens without their secrets, oldest first."""
    found = store.db.read(lambda tx: tx.execute(select(tokens).order_by(tokens.c.created_at)).all())
    return [
        {
            "id": row.id,
            "role": row.role,
            "site": row.site,
            "description": row.description,
            "create_time": rfc3339(row.created_at),
            "revoke_time": rfc3339_or_none(row.revoked_at),
        }
        for row in found
    ]


def revoke_token(store: Store, token_id: str) -> None:
    """Make a token useless at once. Raises NotFound."""
    changed = store.db.write(
        lambda tx: (
            tx.execute(
                update(tokens)
                .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
                .values(revoked_at=tx.now)
            ).rowcount
        )
    )
    if not changed:
        raise NotFound(f"there is no token {token_id!r} that could be revoked")


def has_admin(store: Store) -> bool:
    """Whether anybody could administer a server that asks for tokens."""
    statement = select(tokens.c.id).where(tokens.c.role == "admin", tokens.c.revoked_at.is_(None)).limit(1)
    return store.db.read(lambda tx: tx.execute(statement).first()) is not None
