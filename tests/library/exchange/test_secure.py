"""The relay of secure aggregation: what it keeps, passes on and refuses; and the pinning of identities."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, select

from catchment.errors import InvalidField, NotFound, ProtocolRefused, Refused
from catchment.exchange import results, secure, secure_messages, sites
from catchment.jobs.rows import topic
from catchment.jobs.states import RoundState
from catchment.rounds import prepare
from catchment.rounds import select as selecting
from catchment.secagg.client import SecureClient
from catchment.secagg.keys import Identity
from catchment.store import Store
from catchment.store.database import Transaction
from catchment.store.schema import rounds, secagg_messages
from catchment.wire.messages import PollRequest, Registration, SiteResources, WorkOrder, WorkResult
from tests.runs import begin
from tests.thread_sites import job

NAMES = ("a", "b", "c")


class Relayed:
    """A published round of three sites that speak by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.identities = {name: Identity.generate() for name in NAMES}
        for name in NAMES:
            sites.register(store, name, introduction(name, self.identities[name]))
        hyper = {"max_round_num": 1, "client_num": 3, "threshold_client_num": 2}
        self.claim = begin(store, job(secure_algorithm={"type": "SSA"}, hyper_parameters=hyper))
        prepare.prepare_run(store, self.claim)
        selecting.select_cohort(store, self.claim, 1)
        selecting.publish_work(store, self.claim, 1)
        self.orders = {name: self.order(name) for name in NAMES}
        self.clients = {name: self.client(name) for name in NAMES}

    def order(self, name: str) -> WorkOrder:
        request = PollRequest(session=f"session-{name}", free=1, wait_s=0)
        (order,) = sites.answer_now(self.store, name, request).work
        return order

    def client(self, name: str) -> SecureClient:
        assert self.orders[name].secure is not None
        return SecureClient(self.orders[name].secure.plan, name, self.identities[name], lambda *_: True)

    def say(self, name: str, step: str, body: bytes | str) -> None:
        raw = body if isinstance(body, bytes) else body.encode()
        secure.say(self.store, name, self.orders[name].work_id, step, raw)

    def told(self, name: str, step: str) -> str | None:
        return asyncio.run(secure.told(self.store, name, self.orders[name].work_id, step, 0))


def introduction(name: str, identity: Identity | None) -> Registration:
    return Registration(
        session=f"session-{name}",
        address=f"{name}:1",
        runtimes=("pytorch",),
        entries=("train",),
        resources=SiteResources(cpu=8, memory_mb=8000),
        identity=identity.public.hex() if identity else None,
    )


@pytest.fixture
def relayed(store: Store) -> Relayed:
    return Relayed(store)


def test_the_same_message_again_is_harmless_and_another_one_is_refused(relayed: Relayed) -> None:
    body = relayed.clients["a"].advertise().model_dump_json()
    for _ in range(3):
        relayed.say("a", "advertise", body)
    with pytest.raises(ProtocolRefused, match="another message"):
        relayed.say("a", "advertise", relayed.client("a").advertise().model_dump_json())
    assert relayed.told("a", "roster") is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda made, it: it.clients["b"].advertise().model_dump_json(), InvalidField),
        (lambda made, it: made.model_copy(update={"mask_key": bytes(32)}).model_dump_json(), ProtocolRefused),
        (lambda made, it: '{"sender": "a"}', InvalidField),
        (lambda made, it: "no json", InvalidField),
    ],
    ids=["another site's", "not signed", "incomplete", "no JSON"],
)
def test_keys_that_could_never_count_are_refused_at_once(
    relayed: Relayed, change: Callable[..., str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        relayed.say("a", "advertise", change(relayed.clients["a"].advertise(), relayed))


def test_keys_signed_by_another_identity_than_the_pinned_one_are_refused(relayed: Relayed) -> None:
    relayed.identities["a"] = Identity.generate()
    with pytest.raises(ProtocolRefused, match="identity of 'a' is not the known one"):
        relayed.say("a", "advertise", relayed.client("a").advertise().model_dump_json())


def test_messages_before_their_time_are_refused(relayed: Relayed) -> None:
    with pytest.raises(ProtocolRefused, match="no roster yet"):
        relayed.say("a", "shares", '{"sender": "a", "commitment": "%s", "boxes": {}}' % ("A" * 43 + "="))


def test_a_message_that_arrives_while_its_attempt_is_committed_leaves_nothing_behind(
    relayed: Relayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, claim = secure._check, relayed.claim

    def committed_meanwhile(*args: Any) -> None:
        check(*args)

        def step(tx: Transaction) -> None:
            mine = rounds.c.job_uid == claim.uid
            tx.execute(rounds.update().where(mine).values(state=RoundState.COMMITTED))
            secure_messages.forget(tx, claim.uid, claim.run, 1)

        relayed.store.db.write(step)

    monkeypatch.setattr(secure, "_check", committed_meanwhile)
    with pytest.raises(ProtocolRefused, match="attempt is over"):
        relayed.say("a", "advertise", relayed.clients["a"].advertise().model_dump_json())
    assert not relayed.store.db.read(lambda tx: tx.execute(select(secagg_messages)).all())


def test_a_work_of_another_site_or_an_unknown_step_is_not_found(relayed: Relayed) -> None:
    body = relayed.clients["a"].advertise().model_dump_json().encode()
    for site, work_id, step in (
        ("b", relayed.orders["a"].work_id, "advertise"),
        ("a", "nonsense", "advertise"),
        ("a", relayed.orders["a"].work_id, "roster"),
    ):
        with pytest.raises(NotFound):
            secure.say(relayed.store, site, work_id, step, body)
    with pytest.raises(NotFound):
        relayed.told("a", "advertise")


def test_a_site_may_not_change_its_identity_until_an_operator_says_so(store: Store) -> None:
    first, second = Identity.generate(), Identity.generate()
    sites.register(store, "a", introduction("a", first))
    sites.register(store, "a", introduction("a", None))
    sites.register(store, "a", introduction("a", first))
    with pytest.raises(Refused, match="forget-identity a"):
        sites.register(store, "a", introduction("a", second))
    sites.forget_identity(store, "a")
    sites.register(store, "a", introduction("a", second))
    with pytest.raises(Refused):
        sites.register(store, "a", introduction("a", first))
    with pytest.raises(NotFound):
        sites.forget_identity(store, "nobody")


def test_a_site_without_an_identity_is_not_selected(store: Store) -> None:
    for name in NAMES:
        sites.register(store, name, introduction(name, None if name == "c" else Identity.generate()))
    hyper = {"max_round_num": 1, "client_num": 2, "threshold_client_num": 2}
    claim = begin(store, job(secure_algorithm={"type": "SSA"}, hyper_parameters=hyper))
    prepare.prepare_run(store, claim)
    assert selecting.select_cohort(store, claim, 1) == ["a", "b"]


@pytest.fixture
def woken(relayed: Relayed, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The job's topic, as often as a transaction has notified it; what wakes everybody does not count."""
    signals, heard = relayed.store.db.signals, []
    send = signals.send

    def noted(connection: Connection, topics: Iterable[str]) -> None:
        heard.extend(name for name in topics if name == topic(relayed.claim.uid))
        send(connection, topics)

    monkeypatch.setattr(signals, "send", noted)
    return heard


def test_the_coordinator_is_woken_by_the_last_message_and_not_before(
    relayed: Relayed, woken: list[str]
) -> None:
    for name in NAMES:
        assert not woken
        relayed.say(name, "advertise", relayed.clients[name].advertise().model_dump_json())
    assert len(woken) == 1


def test_of_messages_that_come_together_one_wakes_the_coordinator(relayed: Relayed, woken: list[str]) -> None:
    bodies = {name: relayed.clients[name].advertise().model_dump_json() for name in NAMES}
    together = threading.Barrier(len(NAMES))

    def speak(name: str) -> None:
        together.wait(10)
        relayed.say(name, "advertise", bodies[name])

    with ThreadPoolExecutor(len(NAMES)) as threads:
        list(threads.map(speak, NAMES))
    assert woken


def test_a_site_that_has_failed_is_not_waited_for(relayed: Relayed, woken: list[str]) -> None:
    failed = WorkResult(status="failed", reason="no disk")
    results.finish_work(relayed.store, "c", relayed.orders["c"].work_id, failed)
    relayed.say("a", "advertise", relayed.clients["a"].advertise().model_dump_json())
    woken.clear()
    relayed.say("b", "advertise", relayed.clients["b"].advertise().model_dump_json())
    assert woken
