"""Messages of the protocol, and the bytes of them that are signed.

```text
        site                         coordinator
 1      Advertise      ───────▶
                       ◀───────      Roster           the cohort's fresh keys, each signed
 2      Shares         ───────▶                       (doublemask)
                       ◀───────      Delivery         boxes for this site, and who has shared
 3      masked vector  ───────▶
                       ◀───────      Survivors        whose vectors arrived, whose did not (doublemask)
 4      Confirmation   ───────▶
                       ◀───────      UnmaskRequest    the survivors' confirmations
 5      Unmasking      ───────▶
```
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from catchment.secagg.shamir import SHARE_BYTES

VERSION = b"catchment-secagg-1"

Mode = Literal["doublemask", "onemask"]
Name = Annotated[str, Field(min_length=1, max_length=63)]
PublicKey = Annotated[bytes, Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Share = Annotated[bytes, Field(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Box = Annotated[bytes, Field(min_length=2 * SHARE_BYTES + 16, max_length=2 * SHARE_BYTES + 16)]


class ProtocolMessage(BaseModel):
    """Base: unknown keys are refused; bytes travel as base64 (URL-safe alphabet) in JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64", strict=True
    )


class Plan(ProtocolMessage):
    """What all parties of one attempt must agree on before they speak.

    Attributes:
        session: names the attempt; keys and masks of one session are used in no other.
        cohort: all parties that may take part, sorted.
        threshold: how many shares give a secret back, and the fewest survivors.
        degree: masks are shared with so many neighbours; None for all others.
    """

    # It also travels inside of work orders, which are kept as JSON, where a tuple is a list.
    model_config = ConfigDict(strict=False)

    session: Annotated[str, Field(min_length=1, max_length=400)]
    mode: Mode
    cohort: Annotated[tuple[Name, ...], Field(min_length=2, max_length=100_000)]
    threshold: Annotated[int, Field(ge=2)]
    degree: Annotated[int | None, Field(ge=2)] = None

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        if list(self.cohort) != sorted(set(self.cohort)):
            raise ValueError("the cohort must be sorted and name each party once")
        if self.threshold > len(self.cohort):
            raise ValueError(f"threshold is {self.threshold}, the cohort has {len(self.cohort)} parties")
        if self.degree is not None and self.degree % 2:
            raise ValueError(f"degree is {self.degree}, it must be even")
        return self

    def digest(self) -> bytes:
        """SHA-256 of the plan's canonical bytes; bound into every key, box and signature."""
        degree = "all" if self.degree is None else str(self.degree)
        return digest(b"plan", self.session, self.mode, str(self.threshold), degree, *self.cohort)


class Advertise(ProtocolMessage):
    """A party's fresh public keys, signed with its identity."""

    sender: Name
    identity: PublicKey
    cipher_key: PublicKey
    mask_key: PublicKey
    signature: Signature

    @staticmethod
    def signed_bytes(plan: bytes, sender: str, cipher_key: bytes, mask_key: bytes) -> bytes:
        """What the signature covers."""
        return canonical(b"advertise", plan, sender, cipher_key, mask_key)


class Roster(ProtocolMessage):
    """The parties that advertised keys, sorted by name."""

    parties: Annotated[tuple[Advertise, ...], Field(max_length=100_000)]

    @property
    def names(self) -> tuple[str, ...]:
        """The parties' names."""
        return tuple(party.sender for party in self.parties)

    def digest(self, plan: bytes) -> bytes:
        """SHA-256 of the plan and of all parties' keys."""
        fields = [
            field
            for party in self.parties
            for field in (party.sender, party.identity, party.cipher_key, party.mask_key)
        ]
        return digest(b"roster", plan, *fields)


class Shares(ProtocolMessage):
    """A party's secrets in shares, one box for each neighbour, and the digest of its self mask's seed."""

    sender: Name
    commitment: PublicKey
    boxes: dict[Name, Box]


class Delivery(ProtocolMessage):
    """What one party gets of the others' shares."""

    shared: Annotated[tuple[Name, ...], Field(description="All parties that have shared, sorted.")]
    boxes: dict[Name, Box]


class Survivors(ProtocolMessage):
    """Whose masked vectors are in the sum, and whose are missing from it. Together: all that have shared."""

    alive: tuple[Name, ...]
    dropped: tuple[Name, ...]

    def signed_bytes(self, plan: bytes, roster: bytes) -> bytes:
        """What a confirmation signs."""
        return canonical(b"alive", plan, roster, str(len(self.alive)), *self.alive, *self.dropped)


class Confirmation(ProtocolMessage):
    """A party was told this set of survivors, and will be told no other."""

    sender: Name
    signature: Signature


class UnmaskRequest(ProtocolMessage):
    """The request for shares, with the survivors' confirmations that all were told the same."""

    survivors: Survivors
    confirmations: tuple[Confirmation, ...]


class Unmasking(ProtocolMessage):
    """Shares of the self masks of those who are alive, and of the mask keys of those who are not."""

    sender: Name
    self_shares: dict[Name, Share]
    key_shares: dict[Name, Share]


def canonical(tag: bytes, *fields: bytes | str) -> bytes:
    """One encoding for one list of fields: each with its length in 8 bytes before it, big-endian."""
    parts = [VERSION, tag, *(field.encode() if isinstance(field, str) else field for field in fields)]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def digest(tag: bytes, *fields: bytes | str) -> bytes:
    """SHA-256 of the canonical bytes."""
    return hashlib.sha256(canonical(tag, *fields)).digest()
