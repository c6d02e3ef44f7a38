"""Writes docs/secagg/vectors.json: one attempt of four parties with known randomness, step by step.

python -m tests.library.secagg.golden
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from catchment.secagg.keys import Entropy
from catchment.secagg.server import SecureServer
from tests.secure_parties import Cohort, plan_of

PATH = Path(__file__).resolve().parents[3] / "docs" / "secagg" / "vectors.json"
WORDS = 6
DROPPED = "site-0002"


def entropy_of(name: str) -> Entropy:
    """Bytes from SHA-256(name, counter): for test vectors only."""
    counter = 0

    def draw(size: int) -> bytes:
        nonlocal counter
        out = b""
        while len(out) < size:
            out += hashlib.sha256(f"{name}/{counter}".encode()).digest()
            counter += 1
        return out[:size]

    return draw


def vectors() -> dict[str, Any]:
    """All messages and numbers of the attempt, as JSON."""
    cohort = Cohort(plan_of(4, 3), {DROPPED: "mask"}, entropy=entropy_of)
    roster = cohort.open()
    server = SecureServer(cohort.plan, roster)
    shares = [cohort.clients[name].share(roster) for name in roster.names]
    deliveries = server.deliveries(shares)
    inputs = {
        name: np.arange(place, place + WORDS, dtype=np.uint32) * np.uint32(0x10000001)
        for place, name in enumerate(roster.names)
    }
    masked = {name: inputs[name].copy() for name in cohort.at("mask")}
    for name, vector in masked.items():
        cohort.clients[name].mask(vector, deliveries[name])
    survivors, answers = cohort.unmasked(server, list(deliveries), list(masked))
    seeds = server.seeds(survivors, {each.sender: each.commitment for each in shares}, answers)
    total = np.sum(list(masked.values()), axis=0, dtype=np.uint32)
    seeds.unmask(total)
    return {
        "entropy": "each party draws from SHA-256(NAME/0), SHA-256(NAME/1), ...; its identity first, from a "
        "stream of its own, then cipher key, mask key, self mask's secret, then 48 bytes a coefficient",
        "plan": message(cohort.plan),
        "plan_digest": cohort.plan.digest().hex(),
        "identities": {name: each.secret.hex() for name, each in cohort.identities.items()},
        "secrets": {
            name: {
                "cipher_key": client._cipher.secret.hex(),
                "mask_key": client._mask.secret.hex(),
                "self_mask": client._secret.hex(),
            }
            for name, client in cohort.clients.items()
        },
        "roster": message(roster),
        "roster_digest": roster.digest(cohort.plan.digest()).hex(),
        "shares": [message(each) for each in shares],
        "deliveries": {name: message(each) for name, each in deliveries.items()},
        "inputs": {name: vector.tolist() for name, vector in inputs.items()},
        "masked": {name: vector.tolist() for name, vector in masked.items()},
        "survivors": message(survivors),
        "request": message(server.request(survivors, [cohort.clients[n].confirm(survivors) for n in masked])),
        "answers": [message(each) for each in answers],
        "seeds_to_add": [seed.hex() for seed in seeds.plus],
        "seeds_to_subtract": [seed.hex() for seed in seeds.minus],
        "sum": total.tolist(),
    }


def message(item: Any) -> Any:
    """A message as its JSON."""
    return json.loads(item.model_dump_json())


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
