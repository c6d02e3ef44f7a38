"""What parties and coordinator refuse: each rule of the protocol broken once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from catchment.errors import ProtocolRefused, SecureSumFailed
from catchment.secagg.client import SecureClient
from catchment.secagg.keys import Agreement, Identity
from catchment.secagg.messages import (
    Advertise,
    Confirmation,
    Delivery,
    Plan,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    UnmaskRequest,
)
from catchment.secagg.server import SecureServer, check_advertise, open_roster
from catchment.secagg.shamir import SHARE_BYTES
from tests.secure_parties import Cohort, names_of, plan_of, shares_of

A, B, C, D = names_of(4)


class Attempt:
    """An attempt of four parties, threshold three, brought to the step that a test begins at."""

    def __init__(self, drops: dict[str, str] | None = None, threshold: int = 3) -> None:
        self.cohort = Cohort(plan_of(4, threshold), drops or {})
        self.plan, self.clients = self.cohort.plan, self.cohort.clients
        self.roster = self.cohort.open()
        self.server = SecureServer(self.plan, self.roster)

    def shared(self) -> dict[str, Delivery]:
        self.shares = [
            self.clients[name].share(self.roster) for name in self.cohort.at("share", self.roster.names)
        ]
        return self.server.deliveries(self.shares)

    def masked(self) -> Survivors:
        deliveries = self.shared()
        self.alive = self.cohort.at("mask", deliveries)
        for name in self.alive:
            self.clients[name].mask(np.zeros(4, np.uint32), deliveries[name])
        return self.server.survivors(list(deliveries), self.alive)

    def requested(self) -> UnmaskRequest:
        survivors = self.masked()
        self.confirmations = [self.clients[name].confirm(survivors) for name in self.alive]
        return self.server.request(survivors, self.confirmations)

    def roster_with(self, name: str, **changes: object) -> Roster:
        parties = [
            party.model_copy(update=changes) if party.sender == name else party
            for party in self.roster.parties
        ]
        return Roster(parties=tuple(parties))


def resigned(plan: Plan, party: Advertise, identity: Identity, **changes: bytes) -> Advertise:
    changed = party.model_copy(update={"identity": identity.public, **changes})
    signed = Advertise.signed_bytes(plan.digest(), changed.sender, changed.cipher_key, changed.mask_key)
    return changed.model_copy(update={"signature": identity.sign(signed)})


def refused(act: Callable[[], object], why: str) -> None:
    with pytest.raises(ProtocolRefused, match=why):
        act()


class TestRoster:
    @pytest.mark.parametrize("field", ["mask_key", "cipher_key"])
    def test_an_altered_key(self, field: str) -> None:
        attempt = Attempt()
        roster = attempt.roster_with(B, **{field: Agreement.generate().public})
        refused(lambda: attempt.clients[A].share(roster), "keys of 'site-0001' are not signed")

    def test_a_key_of_its_own_that_was_altered_even_when_it_is_signed(self) -> None:
        attempt = Attempt()
        identity = attempt.cohort.identities[A]
        own = resigned(
            attempt.plan, attempt.roster.parties[0], identity, mask_key=Agreement.generate().public
        )
        roster = Roster(parties=(own, *attempt.roster.parties[1:]))
        refused(lambda: attempt.clients[A].share(roster), "own keys")

    def test_a_server_that_plays_a_site_with_an_identity_of_its_own(self) -> None:
        attempt = Attempt()
        forged = resigned(attempt.plan, attempt.roster.parties[1], Identity.generate())
        roster = Roster(parties=(attempt.roster.parties[0], forged, *attempt.roster.parties[2:]))
        refused(lambda: attempt.clients[A].share(roster), "identity of 'site-0001' is not the known one")

    def test_two_parties_with_one_key(self) -> None:
        attempt = Attempt()
        key = attempt.roster.parties[2].mask_key
        double = resigned(attempt.plan, attempt.roster.parties[1], attempt.cohort.identities[B], mask_key=key)
        roster = Roster(parties=(attempt.roster.parties[0], double, *attempt.roster.parties[2:]))
        refused(lambda: attempt.clients[A].share(roster), "key stands in the roster twice")
        refused(lambda: open_roster(attempt.plan, roster.parties, attempt.cohort.trust), "twice")

    def test_keys_of_another_attempt(self) -> None:
        attempt, other = Attempt(), plan_of(4, 3, session="hospital/tumour/1/1/1")
        replayed = resigned(other, attempt.roster.parties[1], attempt.cohort.identities[B])
        roster = Roster(parties=(attempt.roster.parties[0], replayed, *attempt.roster.parties[2:]))
        refused(lambda: attempt.clients[A].share(roster), "not signed")
        refused(lambda: check_advertise(attempt.plan, replayed, attempt.cohort.trust), "not signed")

    def test_too_few_parties(self) -> None:
        attempt = Attempt()
        refused(
            lambda: attempt.clients[A].share(Roster(parties=attempt.roster.parties[:2])),
            "2 parties have keys",
        )
        with pytest.raises(SecureSumFailed, match="2 parties have sent their keys, 3 are needed"):
            open_roster(attempt.plan, attempt.roster.parties[:2], attempt.cohort.trust)

    def test_a_party_twice_out_of_order_or_from_outside(self) -> None:
        attempt = Attempt()
        parties = attempt.roster.parties
        refused(lambda: attempt.clients[A].share(Roster(parties=(*parties, parties[3]))), "not sorted")
        refused(lambda: attempt.clients[A].share(Roster(parties=parties[::-1])), "not sorted")
        stranger = parties[3].model_copy(update={"sender": "zebra"})
        refused(lambda: attempt.clients[A].share(Roster(parties=(*parties, stranger))), "do not belong")
        refused(lambda: check_advertise(attempt.plan, stranger, lambda *_: True), "does not belong")

    def test_one_identity_for_two_parties(self) -> None:
        attempt = Attempt()
        identity = attempt.cohort.identities[C]
        double = resigned(attempt.plan, attempt.roster.parties[1], identity)
        roster = Roster(parties=(attempt.roster.parties[0], double, *attempt.roster.parties[2:]))
        refused(lambda: attempt.clients[A].share(roster), "same identity")

    def test_another_roster_after_the_first_one(self) -> None:
        attempt = Attempt()
        first = attempt.clients[A].share(attempt.roster)
        assert attempt.clients[A].share(attempt.roster) == first
        refused(
            lambda: attempt.clients[A].share(Roster(parties=attempt.roster.parties[:3])), "another roster"
        )

    def test_a_key_that_is_no_point_of_any_use(self) -> None:
        attempt = Attempt()
        weak = resigned(
            attempt.plan, attempt.roster.parties[1], attempt.cohort.identities[B], cipher_key=bytes(32)
        )
        roster = Roster(parties=(attempt.roster.parties[0], weak, *attempt.roster.parties[2:]))
        refused(lambda: attempt.clients[A].share(roster), "no usable X25519 key")


class TestShares:
    def test_a_box_that_was_altered(self) -> None:
        attempt = Attempt()
        delivery = attempt.shared()[A]
        box = bytearray(delivery.boxes[C])
        box[5] ^= 1
        bad = delivery.model_copy(update={"boxes": {**delivery.boxes, C: bytes(box)}})
        refused(
            lambda: attempt.clients[A].mask(np.zeros(1, np.uint32), bad), "shares from 'site-0002'.*altered"
        )

    def test_a_box_for_somebody_else(self) -> None:
        attempt = Attempt()
        deliveries = attempt.shared()
        bad = deliveries[A].model_copy(update={"boxes": {**deliveries[A].boxes, C: deliveries[B].boxes[C]}})
        refused(lambda: attempt.clients[A].mask(np.zeros(1, np.uint32), bad), "altered")

    def test_boxes_that_do_not_fit_those_who_shared(self) -> None:
        attempt = Attempt()
        delivery = attempt.shared()[A]
        fewer = {name: box for name, box in delivery.boxes.items() if name != B}
        for bad in (
            delivery.model_copy(update={"boxes": fewer}),
            delivery.model_copy(update={"shared": (A, B, C)}),
        ):
            refused(
                lambda bad=bad: attempt.clients[A].mask(np.zeros(1, np.uint32), bad), "boxes are not those"
            )

    def test_a_delivery_without_itself_with_strangers_doubles_or_too_few(self) -> None:
        attempt = Attempt()
        delivery = attempt.shared()[A]
        for shared, why in (
            ((B, C, D), "own shares are missing"),
            ((A, B, "zebra"), "not in the roster"),
            ((A, A, B), "named twice"),
            ((A, B), "2 parties have shared"),
        ):
            bad = delivery.model_copy(update={"shared": shared})
            refused(lambda bad=bad: attempt.clients[A].mask(np.zeros(1, np.uint32), bad), why)

    def test_masking_twice_even_the_same_vector(self) -> None:
        attempt = Attempt()
        delivery = attempt.shared()[A]
        attempt.clients[A].mask(np.zeros(1, np.uint32), delivery)
        refused(lambda: attempt.clients[A].mask(np.zeros(1, np.uint32), delivery), "never used twice")

    def test_masking_before_sharing(self) -> None:
        attempt = Attempt()
        delivery = Delivery(shared=(A, B, C), boxes={})
        refused(lambda: attempt.clients[A].mask(np.zeros(1, np.uint32), delivery), "shares come first")

    def test_the_coordinator_refuses_shares_that_are_not_for_all_neighbours(self) -> None:
        attempt = Attempt()
        shares = attempt.clients[A].share(attempt.roster)
        fewer = shares.model_copy(update={"boxes": {B: shares.boxes[B]}})
        refused(lambda: attempt.server.check_shares(fewer), "one box for each neighbour")
        refused(
            lambda: attempt.server.check_shares(shares.model_copy(update={"sender": "zebra"})),
            "not in the roster",
        )


class TestSurvivors:
    @pytest.mark.parametrize(
        ("alive", "dropped", "why"),
        [
            ((A, B, C, D), (D,), "alive and dropped at once"),
            ((A, B, C), (), "not those who shared"),
            ((A, B, C, D, "zebra"), (), "not those who shared"),
            ((A, B), (C, D), "2 parties are left, at least 3"),
            ((B, C, D), (A,), "called dropped"),
            ((A, A, B, C), (D,), "named twice"),
            ((C, B, A), (D,), "not sorted"),
        ],
    )
    def test_sets_that_could_reveal(self, alive: tuple[str, ...], dropped: tuple[str, ...], why: str) -> None:
        attempt = Attempt()
        attempt.masked()
        refused(lambda: attempt.clients[A].confirm(Survivors(alive=alive, dropped=dropped)), why)

    def test_another_set_than_the_one_that_was_confirmed(self) -> None:
        attempt = Attempt()
        survivors = attempt.masked()
        assert attempt.clients[A].confirm(survivors) == attempt.clients[A].confirm(survivors)
        other = Survivors(alive=(A, B, C), dropped=(D,))
        refused(lambda: attempt.clients[A].confirm(other), "another set of survivors")

    def test_confirming_before_masking(self) -> None:
        attempt = Attempt()
        attempt.shared()
        refused(
            lambda: attempt.clients[A].confirm(Survivors(alive=(A, B, C, D), dropped=())), "nothing is there"
        )

    def test_a_forged_confirmation_at_the_coordinator(self) -> None:
        attempt = Attempt()
        survivors = attempt.masked()
        forged = Confirmation(sender=B, signature=attempt.clients[A].confirm(survivors).signature)
        refused(lambda: attempt.server.check_confirmation(survivors, forged), "forged")
        outside = Confirmation(sender="zebra", signature=forged.signature)
        refused(lambda: attempt.server.check_confirmation(survivors, outside), "no survivor")


class TestUnmasking:
    def test_asking_twice(self) -> None:
        attempt = Attempt()
        request = attempt.requested()
        attempt.clients[A].unmask(request)
        refused(lambda: attempt.clients[A].unmask(request), "given already")

    def test_asking_before_confirming(self) -> None:
        attempt = Attempt()
        survivors = attempt.masked()
        request = UnmaskRequest(survivors=survivors, confirmations=())
        refused(lambda: attempt.clients[A].unmask(request), "not confirmed yet")

    def test_other_survivors_than_those_that_were_confirmed(self) -> None:
        attempt = Attempt()
        request = attempt.requested()
        other = request.model_copy(update={"survivors": Survivors(alive=(A, B, C), dropped=(D,))})
        refused(lambda: attempt.clients[A].unmask(other), "not the survivors")

    def test_too_few_double_foreign_or_forged_confirmations(self) -> None:
        attempt = Attempt()
        request = attempt.requested()
        good = request.confirmations
        for confirmations, why in (
            (good[:2], "2 survivors have confirmed, at least 3"),
            ((good[0], good[0], good[1]), "stands there twice"),
            ((*good[:2], good[2].model_copy(update={"sender": "zebra"})), "nobody alive"),
            ((*good[:2], good[2].model_copy(update={"sender": D})), "forged"),
        ):
            bad = request.model_copy(update={"confirmations": confirmations})
            refused(lambda bad=bad: attempt.clients[A].unmask(bad), why)

    def test_confirmations_of_another_set_that_a_server_told_others(self) -> None:
        """The server tells A that D dropped and the others that D is alive: A gives no share."""
        attempt = Attempt({D: "confirm"})
        survivors = attempt.masked()
        others = [attempt.clients[name].confirm(survivors) for name in (B, C, D)]
        split = Survivors(alive=(A, B, C), dropped=(D,))
        own = attempt.clients[A].confirm(split)
        request = UnmaskRequest(survivors=split, confirmations=(own, *others[:2]))
        refused(lambda: attempt.clients[A].unmask(request), "about other survivors")

    def test_nobody_gives_both_shares_of_one_party(self) -> None:
        attempt = Attempt({D: "mask"})
        answer = attempt.clients[A].unmask(attempt.requested())
        assert set(answer.self_shares) == {A, B, C}
        assert set(answer.key_shares) == {D}

    def test_the_coordinator_refuses_answers_with_other_shares(self) -> None:
        attempt = Attempt({D: "mask"})
        request = attempt.requested()
        answer = attempt.clients[A].unmask(request)
        for changes in (
            {"self_shares": {}},
            {"key_shares": {}},
            {"key_shares": {**answer.key_shares, B: answer.self_shares[B]}},
        ):
            bad = answer.model_copy(update=changes)
            refused(
                lambda bad=bad: attempt.server.check_unmasking(request.survivors, names_of(4), bad),
                "not those that were asked for",
            )
        stranger = answer.model_copy(update={"sender": D})
        refused(
            lambda: attempt.server.check_unmasking(request.survivors, names_of(4), stranger), "no survivor"
        )

    @pytest.mark.parametrize("kind", ["self_shares", "key_shares"])
    def test_an_altered_share_ends_the_attempt_and_names_whose_it_is(self, kind: str) -> None:
        attempt = Attempt({D: "mask"})
        request = attempt.requested()
        answers = [attempt.clients[name].unmask(request) for name in (A, B, C)]
        owner = B if kind == "self_shares" else D
        shares: dict[str, bytes] = getattr(answers[0], kind)
        altered = (int.from_bytes(shares[owner], "big") ^ 2).to_bytes(SHARE_BYTES, "big")
        answers[0] = answers[0].model_copy(update={kind: {**shares, owner: altered}})
        with pytest.raises(SecureSumFailed, match=f"shares of '{owner}'"):
            self.seeds(attempt, request, answers)

    def test_a_party_that_shared_with_another_threshold_is_found_out(self) -> None:
        """B splits its secrets for 4 of 4 where the plan says 3: the three survivors' shares give garbage."""
        attempt = Attempt({D: "mask"})
        attempt.clients[B] = self.with_threshold(attempt, 4)
        attempt.roster = attempt.cohort.open()
        attempt.server = SecureServer(attempt.plan, attempt.roster)
        request = attempt.requested()
        answers = [attempt.clients[name].unmask(request) for name in (A, B, C)]
        with pytest.raises(SecureSumFailed, match="shares of 'site-0001'"):
            self.seeds(attempt, request, answers)

    def with_threshold(self, attempt: Attempt, threshold: int) -> SecureClient:
        client = attempt.cohort.client(B)
        loose = client.plan.model_copy(update={"threshold": threshold})
        split = client._split
        client._split = lambda: (setattr(client, "plan", loose), split())[1]
        return client

    def seeds(self, attempt: Attempt, request: UnmaskRequest, answers: list[Unmasking]) -> None:
        commitments = {each.sender: each.commitment for each in attempt.shares}
        attempt.server.seeds(request.survivors, commitments, answers)


class TestMessages:
    @pytest.mark.parametrize(
        ("values", "why"),
        [
            ({"cohort": ("b", "a"), "threshold": 2}, "sorted"),
            ({"cohort": ("a", "a"), "threshold": 2}, "sorted"),
            ({"cohort": ("a", "b"), "threshold": 3}, "threshold is 3"),
            ({"cohort": ("a", "b"), "threshold": 1}, "greater than or equal to 2"),
            ({"cohort": ("a",), "threshold": 2}, "at least 2"),
            ({"cohort": ("a", "b"), "threshold": 2, "degree": 3}, "even"),
        ],
    )
    def test_a_plan_without_sense(self, values: dict[str, object], why: str) -> None:
        with pytest.raises(ValueError, match=why):
            Plan(session="s", mode="doublemask", **values)  # type: ignore[arg-type]

    def test_keys_shares_and_boxes_of_another_length(self) -> None:
        attempt = Attempt()
        shares = shares_of(attempt.cohort, attempt.roster)[0]
        party = attempt.roster.parties[0]
        for model, changes in (
            (party, {"mask_key": b"short"}),
            (party, {"signature": bytes(63)}),
            (shares, {"boxes": {B: b"short"}}),
            (shares, {"commitment": bytes(33)}),
        ):
            body = model.model_copy(update=changes).model_dump_json()
            with pytest.raises(ValueError, match="bytes"):
                type(model).model_validate_json(body)

    def test_plans_that_differ_anywhere_have_other_digests(self) -> None:
        plans = [
            plan_of(4, 3),
            plan_of(4, 2),
            plan_of(5, 3),
            plan_of(4, 3, degree=2),
            plan_of(4, 3, mode="onemask"),
            plan_of(4, 3, session="other"),
            Plan(session="s", mode="doublemask", cohort=("ab", "c"), threshold=2),
            Plan(session="s", mode="doublemask", cohort=("a", "bc"), threshold=2),
        ]
        assert len({plan.digest() for plan in plans}) == len(plans)

    def test_shares_hide_nothing_but_what_is_in_boxes(self) -> None:
        attempt = Attempt()
        shares = Shares.model_validate_json(attempt.clients[A].share(attempt.roster).model_dump_json())
        assert set(shares.boxes) == {B, C, D}
