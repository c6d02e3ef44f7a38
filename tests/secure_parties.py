"""Parties and a coordinator of secure aggregation in one process, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from catchment.secagg.client import SecureClient
from catchment.secagg.keys import Entropy, Identity
from catchment.secagg.messages import Plan, ProtocolMessage, Roster, Shares, Survivors, Unmasking
from catchment.secagg.quantise import Words
from catchment.secagg.server import SecureServer, onemask_complete, open_roster

M = TypeVar("M", bound=ProtocolMessage)

STEPS = ("advertise", "share", "mask", "confirm", "unmask")
"""A party that drops at a step does everything before it, and nothing from it on."""


def names_of(count: int) -> tuple[str, ...]:
    return tuple(f"site-{number:04}" for number in range(count))


def plan_of(count: int, threshold: int, **values: object) -> Plan:
    given = {"session": "hospital/tumour/1/1/0", "mode": "doublemask", "degree": None, **values}
    return Plan(cohort=names_of(count), threshold=threshold, **given)


@dataclass
class Cohort:
    """All parties of one attempt, and those that drop at a step."""

    plan: Plan
    drops: Mapping[str, str] = field(default_factory=dict)
    minimum: int = 2
    entropy: Callable[[str], Entropy] | None = None

    def __post_init__(self) -> None:
        self.identities = {
            name: Identity(self.entropy(name)(32)) if self.entropy else Identity.generate()
            for name in self.plan.cohort
        }
        self.clients = {name: self.client(name) for name in self.plan.cohort}

    def trust(self, name: str, public: bytes) -> bool:
        return self.identities[name].public == public

    def client(self, name: str) -> SecureClient:
        more = {"entropy": self.entropy(name)} if self.entropy else {}
        return SecureClient(self.plan, name, self.identities[name], self.trust, minimum=self.minimum, **more)

    def at(self, step: str, among: Collection[str] | None = None) -> list[str]:
        """Names of those that still do `step`."""
        there = [
            name
            for name in self.plan.cohort
            if name not in self.drops or STEPS.index(self.drops[name]) > STEPS.index(step)
        ]
        return [name for name in there if among is None or name in among]

    def open(self) -> Roster:
        advertised = [sent(self.clients[name].advertise()) for name in self.at("advertise")]
        return sent(open_roster(self.plan, advertised, self.trust))

    def sum_of(self, vectors: Mapping[str, Words]) -> tuple[list[str], Words]:
        """Run all steps: who is in the sum, and the sum."""
        roster = self.open()
        if self.plan.mode == "onemask":
            alive = self.at("mask")
            total = self._added(vectors, alive, lambda name, v: self.clients[name].mask(v, roster=roster))
            onemask_complete(roster, alive)
            return alive, total
        server = SecureServer(self.plan, roster)
        shares = [sent(self.clients[name].share(roster)) for name in self.at("share", roster.names)]
        for each in shares:
            server.check_shares(each)
        deliveries = {name: sent(given) for name, given in server.deliveries(shares).items()}
        alive = self.at("mask", deliveries)
        total = self._added(vectors, alive, lambda name, v: self.clients[name].mask(v, deliveries[name]))
        survivors, answers = self.unmasked(server, list(deliveries), alive)
        commitments = {each.sender: each.commitment for each in shares}
        server.seeds(survivors, commitments, answers).unmask(total)
        return list(survivors.alive), total

    def unmasked(
        self, server: SecureServer, shared: list[str], alive: list[str]
    ) -> tuple[Survivors, list[Unmasking]]:
        survivors = sent(server.survivors(shared, alive))
        confirmations = [sent(self.clients[name].confirm(survivors)) for name in self.at("confirm", alive)]
        for item in confirmations:
            server.check_confirmation(survivors, item)
        request = sent(server.request(survivors, confirmations))
        answers = [sent(self.clients[name].unmask(request)) for name in self.at("unmask", alive)]
        for answer in answers:
            server.check_unmasking(survivors, shared, answer)
        return survivors, answers

    def _added(
        self, vectors: Mapping[str, Words], alive: list[str], mask: Callable[[str, Words], None]
    ) -> Words:
        total = np.zeros_like(next(iter(vectors.values())))
        for name in alive:
            vector = vectors[name].copy()
            mask(name, vector)
            total += vector
        return total


def sent(message: M) -> M:
    """The message after its way through JSON."""
    return type(message).model_validate_json(message.model_dump_json())


def shares_of(cohort: Cohort, roster: Roster) -> list[Shares]:
    return [cohort.clients[name].share(roster) for name in roster.names]
