"""Who may do what: bearer tokens with roles, of which the store keeps hashes only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Row, delete, insert, select, update

from catchment.errors import InvalidField, NotFound, Unauthorized
from catchment.jobs.times import rfc3339, rfc3339_or_none
from catchment.settings import Settings
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import tokens
from catchment.wire.messages import SiteName

Role = Literal["admin", "user", "site", "worker"]
GIVEN = ("admin", "user", "site")
"""Roles that people give tokens; those of workers are made for one step of a ModelJob, and end with it."""
PREFIX = "catchment"
_SITE: TypeAdapter[str | None] = TypeAdapter(SiteName | None)


@dataclass(frozen=True)
class Identity:
    """Who a request comes from.

    Attributes:
        site: whose exchange a site's token is good for; of a worker's, `<ModelJob uid>/<step>`.
    """

    role: Role
    site: str | None = None
    token_id: str | None = None


def create_token(store: Store, role: str, *, site: str | None = None, description: str = "") -> str:
    """A new token in plain text, shown this once.

    Raises:
        InvalidField: unknown role, a site's token without a site, or a name that no site can have.
    """
    if role not in GIVEN:
        raise InvalidField("role", f"must be one of {', '.join(GIVEN)}, got {role!r}")
    if (role == "site") != (site is not None):
        raise InvalidField("site", "is required for the role 'site', and only there")
    try:
        _SITE.validate_python(site)
    except ValidationError:
        raise InvalidField("site", f"{site!r} is no name that a site can have") from None
    if "\x00" in description:
        raise InvalidField("description", "contains a NUL character")
    made, values = _made(role, site, description)
    store.db.write(lambda tx: tx.execute(insert(tokens).values(**values, created_at=tx.now)))
    return made


def _made(role: str, site: str | None, description: str) -> tuple[str, dict[str, Any]]:
    """A token in plain text, and its row."""
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    values = {"id": token_id, "role": role, "site": site, "description": description, "hash": _hash(secret)}
    return f"{PREFIX}_{token_id}_{secret}", values


def create_worker_token(store: Store, uid: str, step: str) -> str:
    """A token for the pod of one step of a ModelJob; an earlier one of that step is good no longer."""
    work = f"{uid}/{step}"
    made, values = _made("worker", work, f"ModelJob {work}")

    def step_(tx: Transaction) -> None:
        tx.execute(delete(tokens).where(tokens.c.role == "worker", tokens.c.site == work))
        tx.execute(insert(tokens).values(**values, created_at=tx.now))

    store.db.write(step_)
    return made


def drop_worker_tokens(store: Store, uid: str, step: str | None = None) -> None:
    """End the tokens of a ModelJob's pods, or of one step's."""
    mine = tokens.c.site.startswith(f"{uid}/") if step is None else tokens.c.site == f"{uid}/{step}"
    store.db.write(lambda tx: tx.execute(delete(tokens).where(tokens.c.role == "worker", mine)))


def identify(store: Store, token: str) -> Identity:
    """Whose token it is. Raises Unauthorized for an unknown, wrong or revoked one."""
    prefix, _, rest = token.partition("_")
    token_id, _, secret = rest.partition("_")
    row = None
    if prefix == PREFIX and re.fullmatch(r"[0-9a-f]{16}", token_id):
        row = store.db.read(lambda tx: _found(tx, token_id, store.settings))
    # The same work is done for a token that is not known, so that the time tells nothing.
    right = hmac.compare_digest(row.hash if row else "0" * 64, _hash(secret))
    if row is None or not right or row.revoked_at is not None:
        raise Unauthorized("the token is not known, or was revoked")
    return Identity(role=row.role, site=row.site, token_id=row.id)


def _found(tx: Transaction, token_id: str, settings: Settings) -> Row[Any] | None:
    """The token's row; a worker's only while its work may last."""
    row = tx.execute(select(tokens).where(tokens.c.id == token_id)).first()
    longest_s = settings.model_job_start_s + settings.model_job_time_s
    if row is not None and row.role == "worker" and tx.has_passed(row.created_at, longest_s):
        return None
    return row


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def list_tokens(store: Store) -> list[dict[str, Any]]:
    """All tokens that people were given, without their secrets, oldest first."""
    given = select(tokens).where(tokens.c.role.in_(GIVEN)).order_by(tokens.c.created_at)
    found = store.db.read(lambda tx: tx.execute(given).all())
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
