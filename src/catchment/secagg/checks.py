"""The rules by which a party judges what it is sent. Each refusal names the rule that was broken."""

from __future__ import annotations

from collections.abc import Callable

from catchment.errors import ProtocolRefused
from catchment.secagg.keys import is_signed
from catchment.secagg.messages import Advertise, Delivery, Plan, Roster, Survivors, UnmaskRequest


def refuse_unless(right: bool, why: str) -> None:
    """Pass when `right`.

    Raises:
        ProtocolRefused: it is not.
    """
    if not right:
        raise ProtocolRefused(why)


def check_advertised(plan: bytes, party: Advertise, trust: Callable[[str, bytes], bool]) -> None:
    """A party's keys must be signed by the identity that is known to be its own.

    Raises:
        ProtocolRefused: they are not.
    """
    refuse_unless(
        trust(party.sender, party.identity), f"the identity of {party.sender!r} is not the known one"
    )
    signed = Advertise.signed_bytes(plan, party.sender, party.cipher_key, party.mask_key)
    good = is_signed(party.identity, party.signature, signed)
    refuse_unless(good, f"the keys of {party.sender!r} are not signed by its identity")


def check_roster(
    plan: Plan, plan_digest: bytes, roster: Roster, trust: Callable[[str, bytes], bool], *, least: int
) -> None:
    """A roster must be sorted, of the cohort, large enough, signed, and hold no key twice.

    Raises:
        ProtocolRefused: it breaks one of these.
    """
    names = roster.names
    refuse_unless(list(names) == sorted(set(names)), "the roster is not sorted, or names a party twice")
    strangers = sorted(set(names) - set(plan.cohort))
    refuse_unless(not strangers, f"{strangers[:3]} do not belong to the cohort")
    refuse_unless(len(names) >= least, f"{len(names)} parties have keys, at least {least} are needed")
    keys = [key for party in roster.parties for key in (party.cipher_key, party.mask_key)]
    refuse_unless(len(set(keys)) == len(keys), "a key stands in the roster twice")
    identities = {party.identity for party in roster.parties}
    refuse_unless(len(identities) == len(names), "two parties have the same identity")
    for party in roster.parties:
        check_advertised(plan_digest, party, trust)


def check_delivery(
    delivery: Delivery, roster: Roster, neighbours: tuple[str, ...], name: str, least: int
) -> tuple[str, ...]:
    """Who has shared must be of the roster, hold this party, be enough, and its boxes must be complete.

    Returns:
        The neighbours that have shared.

    Raises:
        ProtocolRefused: one of these does not hold.
    """
    shared = delivery.shared
    refuse_unless(list(shared) == sorted(set(shared)), "those who shared are not sorted, or named twice")
    refuse_unless(set(shared) <= set(roster.names), "somebody shared who is not in the roster")
    refuse_unless(name in shared, "this party's own shares are missing")
    refuse_unless(len(shared) >= least, f"{len(shared)} parties have shared, at least {least} are needed")
    expected = tuple(peer for peer in neighbours if peer in set(shared))
    refuse_unless(
        set(delivery.boxes) == set(expected), "the boxes are not those of the neighbours that shared"
    )
    return expected


def check_survivors(survivors: Survivors, shared: tuple[str, ...], name: str, least: int) -> None:
    """Survivors and dropped must be two parts of those who shared; enough survive, this party among them.

    Raises:
        ProtocolRefused: one of these does not hold.
    """
    alive, dropped = survivors.alive, survivors.dropped
    for names in (alive, dropped):
        refuse_unless(list(names) == sorted(set(names)), "survivors are not sorted, or named twice")
    both = set(alive) & set(dropped)
    refuse_unless(not both, f"{sorted(both)[:3]} are called alive and dropped at once")
    refuse_unless({*alive, *dropped} == set(shared), "survivors and dropped are not those who shared")
    refuse_unless(len(alive) >= least, f"{len(alive)} parties are left, at least {least} are needed")
    refuse_unless(name in alive, "this party is called dropped, but has sent its vector")


def check_request(
    request: UnmaskRequest, confirmed: Survivors, roster: Roster, plan: bytes, least: int
) -> None:
    """A request for shares must be about the confirmed survivors, and show enough of their confirmations.

    Raises:
        ProtocolRefused: it is not, or does not.
    """
    refuse_unless(request.survivors == confirmed, "these are not the survivors that were confirmed")
    signed = confirmed.signed_bytes(plan, roster.digest(plan))
    identities = {party.sender: party.identity for party in roster.parties}
    alive, right = set(confirmed.alive), set()
    for item in request.confirmations:
        known = item.sender in alive and item.sender not in right
        refuse_unless(known, f"a confirmation of {item.sender!r} stands there twice, or is of nobody alive")
        good = is_signed(identities[item.sender], item.signature, signed)
        refuse_unless(good, f"the confirmation of {item.sender!r} is about other survivors, or forged")
        right.add(item.sender)
    refuse_unless(len(right) >= least, f"{len(right)} survivors have confirmed, at least {least} must")
