"""A site's side of the protocol: what it says at each step, and what it refuses to say."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from catchment.errors import ProtocolRefused
from catchment.secagg.checks import (
    check_delivery,
    check_request,
    check_roster,
    check_survivors,
    refuse_unless,
)
from catchment.secagg.derivation import (
    BOX_NONCE,
    box_context,
    box_key,
    commitment,
    graph_of,
    pair_seed,
    points_of,
    self_seed,
    share_threshold,
)
from catchment.secagg.keys import KEY_BYTES, Agreement, Entropy, Identity, seal, unseal
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
from catchment.secagg.shamir import SHARE_BYTES, split

Trust = Callable[[str, bytes], bool]
"""Whether a public key is the identity of the party of that name."""


class SecureClient:
    """One party in one attempt. Its secrets live in this object alone; none is ever used in a second attempt.

    A step that is asked again with the same message answers the same; with another message it is refused.
    Methods may be called from several threads.

    Args:
        plan: of the attempt.
        name: of this party.
        identity: signs what the other parties must be able to believe.
        trust: decides whose identity a key is.
        minimum: refuses cohorts and sums of fewer parties.
        entropy: the operating system's randomness, unless a test vector asks for another.

    Raises:
        ProtocolRefused: the plan does not hold this party, or is below its minimum.
    """

    def __init__(
        self,
        plan: Plan,
        name: str,
        identity: Identity,
        trust: Trust,
        *,
        minimum: int = 2,
        entropy: Entropy = os.urandom,
    ) -> None:
        refuse_unless(name in plan.cohort, f"the cohort does not hold {name!r}")
        refuse_unless(
            len(plan.cohort) >= minimum,
            f"the cohort has {len(plan.cohort)} parties, this one takes part with at least {minimum}",
        )
        self.plan = plan
        self.name = name
        self._identity = identity
        self._trust = trust
        self._least = max(minimum, plan.threshold if plan.mode == "doublemask" else 2)
        self._entropy = entropy
        self._plan = plan.digest()
        self._cipher = Agreement.generate(entropy)
        self._mask = Agreement.generate(entropy)
        self._secret = entropy(KEY_BYTES)
        self._lock = threading.Lock()
        self._roster: Roster | None = None
        self._roster_digest = b""
        self._parties: dict[str, Advertise] = {}
        self._neighbours: tuple[str, ...] = ()
        self._box_secrets: dict[str, bytes] = {}
        self._pair_seeds: dict[str, bytes] = {}
        self._shares: Shares | None = None
        self._own_share = b""
        self._held: dict[str, bytes] = {}
        self._shared: tuple[str, ...] = ()
        self._masked = False
        self._survivors: Survivors | None = None
        self._answered = False

    def advertise(self) -> Advertise:
        """Step 1: this attempt's public keys."""
        signed = Advertise.signed_bytes(self._plan, self.name, self._cipher.public, self._mask.public)
        return Advertise(
            sender=self.name,
            identity=self._identity.public,
            cipher_key=self._cipher.public,
            mask_key=self._mask.public,
            signature=self._identity.sign(signed),
        )

    def share(self, roster: Roster) -> Shares:
        """Step 2: secrets in shares, boxed for each neighbour.

        Raises:
            ProtocolRefused: the roster holds a key twice, an altered or unsigned one or a stranger's, not
                this party's own, too few parties; or it is another roster than before.
        """
        with self._lock:
            refuse_unless(self.plan.mode == "doublemask", "onemask has no shares")
            self._accept(roster)
            if self._shares is None:
                self._shares = self._split()
            return self._shares

    def mask(self, vector: Words, delivery: Delivery | None = None, *, roster: Roster | None = None) -> None:
        """Step 3: mask the vector in place. A party does this once, with one vector.

        Args:
            vector: the quantised update.
            delivery: the others' shares (doublemask).
            roster: the cohort's keys (onemask, which has no step 2).

        Raises:
            ProtocolRefused: it has masked a vector before, or a share was altered, or too few have shared.
        """
        with self._lock:
            refuse_unless(not self._masked, "a vector was masked already; a mask is never used twice")
            if self.plan.mode == "onemask":
                refuse_unless(roster is not None, "onemask needs the roster")
                self._accept(roster)  # type: ignore[arg-type]
                peers = self._neighbours
                own: list[bytes] = []
            else:
                refuse_unless(delivery is not None and self._shares is not None, "the shares come first")
                peers = self._open(delivery)  # type: ignore[arg-type]
                own = [self_seed(self._plan, self._secret, self.name)]
            self._masked = True
            plus = [self._pair_seeds[peer] for peer in peers if self.name < peer]
            minus = [self._pair_seeds[peer] for peer in peers if self.name > peer]
            apply_masks(vector, own + plus, minus)

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Step 4: sign the set of survivors, so that all can see that all were told the same.

        Raises:
            ProtocolRefused: the sets overlap, hold strangers, are too few, leave this party out, or are not
                those of before.
        """
        with self._lock:
            refuse_unless(self._masked and self.plan.mode == "doublemask", "nothing is there to be unmasked")
            if self._survivors is None:
                check_survivors(survivors, self._shared, self.name, self._least)
                self._survivors = survivors
            refuse_unless(self._survivors == survivors, "another set of survivors was confirmed already")
            signature = self._identity.sign(survivors.signed_bytes(self._plan, self._roster_digest))
            return Confirmation(sender=self.name, signature=signature)

    def unmask(self, request: UnmaskRequest) -> Unmasking:
        """Step 5: shares of self masks of the survivors and of mask keys of the dropped; never both of one.

        Raises:
            ProtocolRefused: it was answered before, the survivors are not those that were confirmed, or too
                few confirmations are right.
        """
        with self._lock:
            refuse_unless(not self._answered, "shares were given already in this attempt")
            refuse_unless(self._survivors is not None, "the survivors were not confirmed yet")
            check_request(request, self._survivors, self._known(), self._plan, self._least)  # type: ignore[arg-type]
            self._answered = True
            alive, held = set(request.survivors.alive), {**self._held, self.name: self._own_share}
            return Unmasking(
                sender=self.name,
                self_shares={owner: both[:SHARE_BYTES] for owner, both in held.items() if owner in alive},
                key_shares={owner: both[SHARE_BYTES:] for owner, both in held.items() if owner not in alive},
            )

    def _accept(self, roster: Roster) -> None:
        if self._roster is None:
            check_roster(self.plan, self._plan, roster, self._trust, least=self._least)
            own = next((party for party in roster.parties if party.sender == self.name), None)
            refuse_unless(own == self.advertise(), "the roster does not hold this party's own keys")
            self._roster_digest = roster.digest(self._plan)
            self._parties = {party.sender: party for party in roster.parties}
            self._neighbours = graph_of(self.plan, roster, self._roster_digest).of(self.name)
            for peer in self._neighbours:  # now, while the script trains, and not when it has ended
                self._agree(self._parties[peer])
            self._roster = roster
        refuse_unless(self._roster == roster, "another roster was accepted already")

    def _known(self) -> Roster:
        if self._roster is None:
            raise ProtocolRefused("the roster is not known yet")
        return self._roster

    def _split(self) -> Shares:
        points, peers = points_of(self._known()), self._neighbours
        holders = [points[name] for name in sorted((*peers, self.name))]
        threshold = share_threshold(self.plan, len(holders))
        refuse_unless(threshold <= len(holders), f"{len(holders)} holders cannot hold {threshold} shares")
        of_self = split(self._secret, threshold, holders, self._below)
        of_key = split(self._mask.secret, threshold, holders, self._below)
        both = {name: of_self[points[name]] + of_key[points[name]] for name in (*peers, self.name)}
        self._own_share = both[self.name]
        return Shares(
            sender=self.name,
            commitment=commitment(self._plan, self._secret, self.name),
            boxes={peer: self._boxed(peer, both[peer]) for peer in peers},
        )

    def _below(self, bound: int) -> int:
        """Uniform below a bound of 257 bits, but for 2^-127."""
        return int.from_bytes(self._entropy(48), "big") % bound

    def _boxed(self, peer: str, content: bytes) -> bytes:
        key = box_key(self._plan, self._box_secrets[peer], self.name, peer)
        return seal(key, BOX_NONCE, content, box_context(self._plan, self._roster_digest, self.name, peer))

    def _open(self, delivery: Delivery) -> tuple[str, ...]:
        """Take the others' shares; the neighbours that have shared."""
        peers = check_delivery(delivery, self._known(), self._neighbours, self.name, self._least)
        for peer in peers:
            key = box_key(self._plan, self._box_secrets[peer], peer, self.name)
            context = box_context(self._plan, self._roster_digest, peer, self.name)
            try:
                self._held[peer] = unseal(key, BOX_NONCE, delivery.boxes[peer], context)
            except ValueError as error:
                raise ProtocolRefused(f"the shares from {peer!r} cannot be used: {error}") from error
        self._shared = delivery.shared
        return peers

    def _agree(self, peer: Advertise) -> None:
        """Derive what is shared with a neighbour."""
        self._box_secrets[peer.sender] = _agreed(self._cipher, peer.cipher_key, peer.sender)
        shared = _agreed(self._mask, peer.mask_key, peer.sender)
        self._pair_seeds[peer.sender] = pair_seed(self._plan, shared, self.name, peer.sender)


def _agreed(own: Agreement, public: bytes, peer: str) -> bytes:
    try:
        return own.shared(public)
    except ValueError as error:
        raise ProtocolRefused(f"the key of {peer!r} is no usable X25519 key") from error
