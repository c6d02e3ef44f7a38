"""Seeds, points and boxes: what client and server must derive alike."""

from __future__ import annotations

from catchment.secagg.graph import Graph
from catchment.secagg.keys import derive
from catchment.secagg.messages import Plan, Roster, canonical, digest


def pair_seed(plan: bytes, shared: bytes, one: str, other: str) -> bytes:
    """The seed of the mask that two parties share."""
    return derive(shared, canonical(b"pair", plan, min(one, other), max(one, other)))


def self_seed(plan: bytes, secret: bytes, name: str) -> bytes:
    """The seed of a party's own mask."""
    return derive(secret, canonical(b"self", plan, name))


def commitment(plan: bytes, secret: bytes, name: str) -> bytes:
    """What a party shows of its self mask's secret, so that shares of another one are noticed."""
    return digest(b"commit", plan, name, secret)


def box_key(plan: bytes, shared: bytes, sender: str, receiver: str) -> bytes:
    """The key of the one box from `sender` to `receiver`."""
    return derive(shared, canonical(b"share", plan, sender, receiver))


BOX_NONCE = bytes(12)
"""A box key is derived for one box, so the nonce need not vary."""


def box_context(plan: bytes, roster: bytes, sender: str, receiver: str) -> bytes:
    """What a box is bound to."""
    return canonical(b"box", plan, roster, sender, receiver)


def points_of(roster: Roster) -> dict[str, int]:
    """Each party's point of Shamir's polynomial: its place in the roster, from 1."""
    return {name: place for place, name in enumerate(roster.names, 1)}


def graph_of(plan: Plan, roster: Roster, roster_digest: bytes) -> Graph:
    """Who shares masks with whom. The graph is drawn from all fresh keys, so nobody chooses it."""
    return Graph(roster.names, plan.degree, roster_digest)


def share_threshold(plan: Plan, num_holders: int) -> int:
    """How many of a secret's holders give it back.

    On the complete graph the plan's threshold. On a sparse graph the same share of the few holders, and at
    least a majority of them.
    """
    if plan.degree is None or num_holders >= len(plan.cohort):
        return plan.threshold
    scaled = -(-plan.threshold * num_holders // len(plan.cohort))
    return min(num_holders, max(2, num_holders // 2 + 1, scaled))
