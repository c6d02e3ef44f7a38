"""Bearer tokens: shown once, kept as hashes, gone when revoked."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from sqlalchemy import select

from catchment.access import Identity, create_token, has_admin, identify, list_tokens, revoke_token
from catchment.errors import InvalidField, NotFound, Unauthorized
from catchment.store import Store
from catchment.store.schema import tokens
from tests.library.store.fresh import BOTH, Clock


@BOTH
def test_a_token_tells_who_it_is(store: Store) -> None:
    for role, site in (("admin", None), ("user", None), ("site", "hospital-a")):
        token = create_token(store, role, site=site)
        assert re.fullmatch(r"catchment_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", token)
        assert identify(store, token) == Identity(role, site, token.split("_")[1])  # type: ignore[arg-type]


@BOTH
def test_the_store_keeps_no_secret(store: Store) -> None:
    token = create_token(store, "admin", description="the first")
    secret = token.split("_", 2)[2]
    row = store.db.read(lambda tx: tx.execute(select(tokens)).one())
    assert secret not in str(row._mapping)
    assert row.hash == hashlib.sha256(secret.encode()).hexdigest()
    if store.db.is_sqlite:
        files = [path for path in store.settings.home.parent.glob("store.db*") if path.is_file()]
        assert files
        assert all(secret.encode() not in path.read_bytes() for path in files)


def test_two_tokens_have_nothing_in_common(store: Store) -> None:
    made = {create_token(store, "user") for _ in range(20)}
    assert len({part for token in made for part in token.split("_", 2)[1:]}) == 40


def test_the_list_shows_everything_but_the_secret(store: Store, clock: Clock) -> None:
    first = create_token(store, "admin", description="of the first day")
    clock.forward(60)
    second = create_token(store, "site", site="a")
    clock.forward(60)
    revoke_token(store, first.split("_")[1])
    assert list_tokens(store) == [
        {
            "id": first.split("_")[1],
            "role": "admin",
            "site": None,
            "description": "of the first day",
            "create_time": "2023-11-14T22:13:20.000Z",
            "revoke_time": "2023-11-14T22:15:20.000Z",
        },
        {
            "id": second.split("_")[1],
            "role": "site",
            "site": "a",
            "description": "",
            "create_time": "2023-11-14T22:14:20.000Z",
            "revoke_time": None,
        },
    ]


@BOTH
def test_a_revoked_token_is_none(store: Store) -> None:
    token, other = create_token(store, "user"), create_token(store, "user")
    revoke_token(store, token.split("_")[1])
    with pytest.raises(Unauthorized):
        identify(store, token)
    assert identify(store, other).role == "user"
    for token_id in (token.split("_")[1], "unknown"):
        with pytest.raises(NotFound, match="no token"):
            revoke_token(store, token_id)


@BOTH
def test_what_is_no_token_is_unauthorized(store: Store) -> None:
    token = create_token(store, "admin")
    prefix, token_id, secret = token.split("_", 2)
    other = create_token(store, "user").split("_", 2)
    stored = store.db.read(lambda tx: tx.execute(select(tokens.c.hash)).scalars().first())
    wrong: list[Any] = [
        "",
        "_",
        "__",
        prefix,
        f"{prefix}_",
        f"{prefix}_{token_id}",
        f"{prefix}_{token_id}_",
        f"{prefix}_{token_id}_{secret[:-1]}",
        f"{prefix}_{token_id}_{secret}x",
        f"{prefix}_{token_id}_{secret} ",
        f"{prefix}_{token_id}_{secret.swapcase()}",
        f"{prefix}_{token_id}_{other[2]}",
        f"{prefix}_{other[1]}_{secret}",
        f"{prefix}_{token_id}_{stored}",
        f"other_{token_id}_{secret}",
        token.upper(),
        f"{prefix}_' OR 1=1 --_{secret}",
        f"{prefix}_ä_{secret}",
        "x" * 100_000,
    ]
    for each in wrong:
        with pytest.raises(Unauthorized):
            identify(store, each)
    assert identify(store, token).role == "admin"


@BOTH
@pytest.mark.parametrize(
    "token", ["catchment_a\x00b_secret", "catchment_\ud800_secret", "catchment_a_\ud800"]
)
def test_text_that_no_database_takes_is_unauthorized(store: Store, token: str) -> None:
    with pytest.raises(Unauthorized):
        identify(store, token)


@pytest.mark.parametrize(
    ("role", "site", "field"),
    [
        ("root", None, "role"),
        ("", None, "role"),
        ("Admin", None, "role"),
        ("site", None, "site"),
        ("admin", "a", "site"),
        ("user", "a", "site"),
        ("site", "", "site"),
        ("site", "Hospital A", "site"),
        ("site", "../a", "site"),
        ("site", "a" * 64, "site"),
    ],
)
def test_a_token_for_nobody_is_not_made(store: Store, role: str, site: str | None, field: str) -> None:
    with pytest.raises(InvalidField) as raised:
        create_token(store, role, site=site)
    assert raised.value.field == field
    assert list_tokens(store) == []


def test_a_description_is_text_that_can_be_stored(store: Store) -> None:
    with pytest.raises(InvalidField, match="description"):
        create_token(store, "user", description="a\x00b")


def test_whether_there_is_an_admin(store: Store) -> None:
    assert not has_admin(store)
    create_token(store, "user")
    create_token(store, "site", site="a")
    assert not has_admin(store)
    token = create_token(store, "admin")
    assert has_admin(store)
    revoke_token(store, token.split("_")[1])
    assert not has_admin(store)
