"""The coordinator's side of the protocol: it relays, sums, and takes off masks that shares give back.

Everything here is a function of the plan and of the parties' messages, so a coordinator that died goes on
from the messages that it has stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from catchment.errors import SecureSumFailed
from catchment.secagg.checks import check_advertised, check_roster, refuse_unless
from catchment.secagg.derivation import (
    commitment,
    graph_of,
    pair_seed,
    points_of,
    self_seed,
    share_threshold,
)
from catchment.secagg.keys import Agreement, is_signed
from catchment.secagg.masks import apply_masks
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
from catchment.secagg.quantise import Words
from catchment.secagg.shamir import Basis


@dataclass(frozen=True)
class Seeds:
    """Masks that are still in the sum: to be added to it, and to be subtracted from it."""

    plus: tuple[bytes, ...]
    minus: tuple[bytes, ...]

    def unmask(self, total: Words) -> None:
        """Take the masks off, in place."""
        apply_masks(total, self.plus, self.minus)


class SecureServer:
    """The coordinator in one attempt, after the keys are known.

    Raises:
        ProtocolRefused: the roster does not fit the plan; use `open_roster`.
    """

    def __init__(self, plan: Plan, roster: Roster) -> None:
        self.plan = plan
        self.roster = roster
        self._plan = plan.digest()
        self._roster = roster.digest(self._plan)
        self._points = points_of(roster)
        self._parties = {party.sender: party for party in roster.parties}
        self.graph = graph_of(plan, roster, self._roster)

    def check_shares(self, shares: Shares) -> None:
        """A party's shares must be complete. What is in the boxes only their receivers can see.

        Raises:
            ProtocolRefused: they are not.
        """
        refuse_unless(shares.sender in self._parties, f"{shares.sender!r} is not in the roster")
        expected = set(self.graph.of(shares.sender))
        refuse_unless(set(shares.boxes) == expected, "there must be one box for each neighbour")

    def deliveries(self, shares: Sequence[Shares]) -> dict[str, Delivery]:
        """What each party that has shared gets of the others.

        Raises:
            SecureSumFailed: too few have shared.
        """
        enough(len(shares), self.plan.threshold, "have shared")
        by_name = {each.sender: each for each in shares}
        names = tuple(sorted(by_name))
        return {
            name: Delivery(
                shared=names,
                boxes={peer: by_name[peer].boxes[name] for peer in self.graph.of(name) if peer in by_name},
            )
            for name in names
        }

    def survivors(self, shared: Sequence[str], alive: Sequence[str]) -> Survivors:
        """The two sets that the parties are asked to confirm.

        Raises:
            SecureSumFailed: too few vectors arrived.
        """
        enough(len(alive), self.plan.threshold, "have sent their masked vector")
        gone = set(shared) - set(alive)
        return Survivors(alive=tuple(sorted(alive)), dropped=tuple(sorted(gone)))

    def check_confirmation(self, survivors: Survivors, item: Confirmation) -> None:
        """A confirmation must be of a survivor, about these survivors.

        Raises:
            ProtocolRefused: it is not.
        """
        refuse_unless(item.sender in survivors.alive, f"{item.sender!r} is no survivor")
        signed = survivors.signed_bytes(self._plan, self._roster)
        good = is_signed(self._parties[item.sender].identity, item.signature, signed)
        refuse_unless(good, f"the confirmation of {item.sender!r} is about other survivors, or forged")

    def request(self, survivors: Survivors, confirmations: Sequence[Confirmation]) -> UnmaskRequest:
        """The request for shares.

        Raises:
            SecureSumFailed: too few have confirmed.
        """
        enough(len(confirmations), self.plan.threshold, "have confirmed the survivors")
        ordered = tuple(sorted(confirmations, key=lambda item: item.sender))
        return UnmaskRequest(survivors=survivors, confirmations=ordered)

    def check_unmasking(self, survivors: Survivors, shared: Sequence[str], answer: Unmasking) -> None:
        """An answer must hold the shares that were asked for, and no others.

        Raises:
            ProtocolRefused: it does not.
        """
        refuse_unless(answer.sender in survivors.alive, f"{answer.sender!r} is no survivor")
        owners = {*(set(self.graph.of(answer.sender)) & set(shared)), answer.sender}
        alive = set(survivors.alive)
        right = set(answer.self_shares) == owners & alive and set(answer.key_shares) == owners - alive
        refuse_unless(right, f"the shares of {answer.sender!r} are not those that were asked for")

    def seeds(
        self, survivors: Survivors, commitments: Mapping[str, bytes], answers: Sequence[Unmasking]
    ) -> Seeds:
        """The masks that are left in the sum of the survivors' vectors.

        Raises:
            SecureSumFailed: a secret cannot be put together, or is not the one that its owner advertised.
        """
        bases: dict[tuple[int, ...], Basis] = {}
        plus: list[bytes] = []
        minus: list[bytes] = []
        for owner in survivors.alive:
            shares = {answer.sender: answer.self_shares.get(owner) for answer in answers}
            secret = self._combined(owner, shares, bases)
            if commitment(self._plan, secret, owner) != commitments[owner]:
                raise SecureSumFailed(_misfit(owner, "self mask"))
            minus.append(self_seed(self._plan, secret, owner))
        alive = set(survivors.alive)
        for owner in survivors.dropped:
            shares = {answer.sender: answer.key_shares.get(owner) for answer in answers}
            key = Agreement(self._combined(owner, shares, bases))
            if key.public != self._parties[owner].mask_key:
                raise SecureSumFailed(_misfit(owner, "mask key"))
            for peer in self.graph.of(owner):
                if peer in alive:
                    seed = pair_seed(self._plan, key.shared(self._parties[peer].mask_key), owner, peer)
                    (minus if peer < owner else plus).append(seed)
        return Seeds(tuple(plus), tuple(minus))

    def _combined(
        self, owner: str, shares: Mapping[str, bytes | None], bases: dict[tuple[int, ...], Basis]
    ) -> bytes:
        given = {self._points[name]: share for name, share in shares.items() if share is not None}
        needed = share_threshold(self.plan, len(self.graph.of(owner)) + 1)
        enough(len(given), needed, f"have given a share of {owner!r}")
        points = tuple(sorted(given)[:needed])
        if points not in bases:
            bases[points] = Basis(points)
        try:
            return bases[points].combine(given)
        except ValueError as error:
            raise SecureSumFailed(f"shares of {owner!r} cannot be put together: {error}") from error


def open_roster(plan: Plan, advertised: Sequence[Advertise], trust: Callable[[str, bytes], bool]) -> Roster:
    """The roster of all that advertised keys.

    Raises:
        SecureSumFailed: too few have, or onemask misses one.
        ProtocolRefused: a key stands there twice, or is not signed by its sender.
    """
    enough(len(advertised), plan.threshold, "have sent their keys")
    roster = Roster(parties=tuple(sorted(advertised, key=lambda party: party.sender)))
    check_roster(plan, plan.digest(), roster, trust, least=plan.threshold)
    return roster


def check_advertise(plan: Plan, party: Advertise, trust: Callable[[str, bytes], bool]) -> None:
    """Keys must come from a party of the cohort and be signed by its identity.

    Raises:
        ProtocolRefused: they do not, or are not.
    """
    refuse_unless(party.sender in plan.cohort, f"{party.sender!r} does not belong to the cohort")
    check_advertised(plan.digest(), party, trust)


def onemask_complete(roster: Roster, alive: Sequence[str]) -> None:
    """With onemask the sum is of use only when nobody is missing.

    Raises:
        SecureSumFailed: somebody is; names them.
    """
    missing = sorted(set(roster.names) - set(alive))
    if missing:
        shown = ", ".join(missing[:5]) + (" and others" if len(missing) > 5 else "")
        raise SecureSumFailed(
            f"{shown} sent no masked vector, and with mode onemask the sum needs everybody; "
            "doublemask survives sites that drop out"
        )


def enough_for_all(plan: Plan, count: int) -> bool:
    """Whether that many answers tell all secrets, whoever gave them.

    On the complete graph `threshold` do; a sparse one may need particular sites'.
    """
    return plan.degree is None and count >= plan.threshold


def enough(count: int, needed: int, did: str) -> None:
    """Pass when there are as many parties as needed.

    Raises:
        SecureSumFailed: there are fewer; says how many.
    """
    if count < needed:
        raise SecureSumFailed(f"{count} parties {did}, {needed} are needed")


def _misfit(owner: str, what: str) -> str:
    return f"the shares of {owner!r} do not give the {what} that it announced: a share was altered"
