"""Secure aggregation seen from the coordinator: what it receives, what it computes, and a plot of both.

    python examples/ssa/sums.py [--sites 6] [--plot ssa.png]

Six sites hold an update each (a sine of their own), one drops out after its keys were agreed. The coordinator
sees five masked vectors, which look like noise, and gets the exact sum of five sines. No system is started:
these are the functions that sites and coordinator run. With a running system a job needs one field more:
`"secure_algorithm": {"type": "SSA"}`, as in job.json beside this.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from catchment.secagg.client import SecureClient
from catchment.secagg.keys import Identity
from catchment.secagg.messages import Plan
from catchment.secagg.quantise import Quantiser
from catchment.secagg.server import SecureServer, open_roster

POINTS = 400


def main() -> None:
    """Run one attempt and show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=6, choices=range(3, 21), metavar="3..20")
    parser.add_argument("--plot", type=Path, default=None, help="write a picture; needs matplotlib")
    options = parser.parse_args()
    names = [f"site-{number:02}" for number in range(options.sites)]
    updates = {name: np.sin(np.linspace(0, 2 + place, POINTS)) for place, name in enumerate(names)}
    masked, total, quantiser = attempt(names, updates, dropped=names[-1])
    plain = np.zeros(POINTS, np.uint32)
    for name in names[:-1]:
        plain += quantised(quantiser, updates[name])
    assert np.array_equal(total, plain)
    error = np.abs(quantiser.decode(total) - sum(updates[name] for name in names[:-1])).max()
    seen = np.corrcoef(masked[names[0]].view(np.int32), updates[names[0]])[0, 1]
    print(f"{len(masked)} masked vectors arrived, {names[-1]} dropped out")
    print(f"correlation of what arrived from {names[0]} with its update: {seen:+.3f}")
    print(f"the sum equals the plain quantised sum bit for bit; off the true sum by at most {error:.1e}")
    if options.plot:
        plot(options.plot, updates[names[0]], masked[names[0]], quantiser.decode(total))


def attempt(
    names: list[str], updates: dict[str, np.ndarray], dropped: str
) -> tuple[dict[str, np.ndarray], np.ndarray, Quantiser]:
    """All steps of the protocol; what arrived, its unmasked sum, and the fixed point that was agreed."""
    plan = Plan(session="example", mode="doublemask", cohort=tuple(names), threshold=len(names) // 2 + 1)
    identities = {name: Identity.generate() for name in names}

    def trust(name: str, public: bytes) -> bool:
        return identities[name].public == public

    sites = {name: SecureClient(plan, name, identities[name], trust, minimum=3) for name in names}
    roster = open_roster(plan, [site.advertise() for site in sites.values()], trust)
    server = SecureServer(plan, roster)
    shares = [site.share(roster) for site in sites.values()]
    deliveries = server.deliveries(shares)
    quantiser, masked = Quantiser(clip=1.0, parties=len(names)), {}
    for name in names:
        vector = quantised(quantiser, updates[name])
        sites[name].mask(vector, deliveries[name])
        if name != dropped:
            masked[name] = vector
    survivors = server.survivors(names, list(masked))
    request = server.request(survivors, [sites[name].confirm(survivors) for name in masked])
    answers = [sites[name].unmask(request) for name in masked]
    total = np.sum(list(masked.values()), axis=0, dtype=np.uint32)
    server.seeds(survivors, {each.sender: each.commitment for each in shares}, answers).unmask(total)
    return masked, total, quantiser


def quantised(quantiser: Quantiser, values: np.ndarray) -> np.ndarray:
    """The values as words of the ring."""
    words = np.empty(values.size, np.uint32)
    quantiser.encode(values, words)
    return words


def plot(path: Path, update: np.ndarray, arrived: np.ndarray, total: np.ndarray) -> None:
    """What a site has, what the coordinator sees of it, and what it gets."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(7, 7), layout="constrained")
    for axis, values, title in (
        (axes[0], update, "a site's update"),
        (axes[1], arrived.view(np.int32), "what the coordinator receives of it"),
        (axes[2], total, "the sum, unmasked"),
    ):
        axis.plot(values, linewidth=0.8)
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
