"""Secure aggregation beside the speed of AES: what masking, sharing and unmasking cost, in CPU time.

    python benchmarks/secagg.py [--large] [--json]

The floor of masking is AES-128-CTR alone over as many bytes, with the same buffers; the best of several runs
each, in `time.process_time`. One process plays all parties in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from catchment.secagg.quantise import Quantiser
from catchment.secagg.server import SecureServer
from tests.secure_parties import Cohort, names_of, plan_of

CASES = (
    # parties, degree, threshold, words, dropped
    (10, None, 7, 1_000_000, 0),
    (10, None, 7, 1_000_000, 1),
    (50, None, 34, 1_000_000, 5),
    (100, None, 67, 100_000, 10),
    (100, None, 67, 100_000, 30),
    (100, 24, 67, 1_000_000, 5),
)
LARGE = (1000, 100, 667, 100_000, 50)
CHUNK = 1 << 17
REPEATS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="1,000 parties too: minutes")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    quantised = best(lambda: quantise(1_000_000))
    if not options.json:
        print(f"quantise 1,000,000 float32: {1e3 * quantised:.2f} ms")
        print(f"{'n':>5} {'degree':>6} {'t':>4} {'words':>9} {'drop':>4} | {'share':>8} {'mask':>8}", end="")
        print(f" {'floor':>8} {'ratio':>5} | {'set-up':>8} {'unmask':>8} {'floor':>8} {'ratio':>5}   (ms)")
    for case in (*CASES, LARGE) if options.large else CASES:
        line = measure(*case)
        print(json.dumps(line) if options.json else row(line))


def row(line: dict[str, Any]) -> str:
    """One line of the table."""
    degree = "all" if line["degree"] is None else line["degree"]
    return (
        f"{line['parties']:5} {degree:>6} {line['threshold']:4} {line['words']:9} {line['dropped']:4} | "
        f"{line['share_ms']:8.2f} {line['mask_ms']:8.2f} {line['mask_floor_ms']:8.2f} "
        f"{line['mask_ms'] / line['mask_floor_ms']:5.2f} | {line['setup_ms']:8.2f} {line['unmask_ms']:8.2f} "
        f"{line['unmask_floor_ms']:8.2f} {line['unmask_ms'] / line['unmask_floor_ms']:5.2f}"
    )


def measure(parties: int, degree: int | None, threshold: int, words: int, dropped: int) -> dict[str, Any]:
    """One attempt; its sum is checked."""
    plan = plan_of(parties, threshold, degree=degree)
    cohort = Cohort(
        plan, dict.fromkeys(names_of(parties)[:: parties // dropped][:dropped], "mask") if dropped else {}
    )
    roster = cohort.open()
    server = SecureServer(plan, roster)
    shares, share_s = [], 1e9
    for name in roster.names:
        started = time.process_time()
        shares.append(cohort.clients[name].share(roster))
        share_s = min(share_s, time.process_time() - started)
    deliveries = server.deliveries(shares)
    alive = cohort.at("mask")
    total, mask_s = np.zeros(words, np.uint32), 1e9
    for place, name in enumerate(alive):
        vector = np.full(words, place, np.uint32)
        started = time.process_time()
        cohort.clients[name].mask(vector, deliveries[name])
        mask_s = min(mask_s, time.process_time() - started)
        total += vector
    survivors, answers = cohort.unmasked(server, list(deliveries), alive)
    commitments = {each.sender: each.commitment for each in shares}
    setup_s = best(lambda: server.seeds(survivors, commitments, answers), 3)
    seeds = server.seeds(survivors, commitments, answers)
    unmask_s = 1e9
    for _ in range(3):
        result = total.copy()
        started = time.process_time()
        seeds.unmask(result)
        unmask_s = min(unmask_s, time.process_time() - started)
    assert (result == sum(range(len(alive)))).all()
    masks = 1 + len(server.graph.of(roster.names[0]))
    return {
        "parties": parties,
        "degree": degree,
        "threshold": threshold,
        "words": words,
        "dropped": dropped,
        "share_ms": 1e3 * share_s,
        "mask_ms": 1e3 * mask_s,
        "mask_floor_ms": 1e3 * best(lambda: aes(4 * words * masks)),
        "setup_ms": 1e3 * setup_s,
        "unmask_ms": 1e3 * unmask_s,
        "unmask_floor_ms": 1e3 * best(lambda: aes(4 * words * (len(seeds.plus) + len(seeds.minus))), 3),
    }


def aes(size: int) -> None:
    """AES-128-CTR over so many bytes of zeros."""
    zeros, buffer = bytes(CHUNK), bytearray(CHUNK + 15)
    stream = Cipher(algorithms.AES(os.urandom(16)), modes.CTR(bytes(16))).encryptor()
    view = memoryview(zeros)
    for start in range(0, size, CHUNK):
        stream.update_into(view[: min(CHUNK, size - start)], buffer)


def quantise(size: int) -> None:
    """One layer of float32."""
    values = np.full(size, 0.25, np.float32)
    Quantiser(8.0, 10).encode(values, np.empty(size, np.uint32), 0.5)


def best(act: Callable[[], object], repeats: int = REPEATS) -> float:
    """Fewest CPU seconds of several runs."""
    fewest = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        act()
        fewest = min(fewest, time.process_time() - started)
    return fewest


if __name__ == "__main__":
    main()
