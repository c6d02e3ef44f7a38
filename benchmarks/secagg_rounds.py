"""A round under secure aggregation beside a plain one: coordinator and sites as threads of one process.

    python benchmarks/secagg_rounds.py [--sites 10] [--million 1] [--rounds 5] [--json]

No scripts run and no network is between: each site makes an update at once, masks it or not, and delivers it
into the staging folder of an embedded PostgreSQL's store. What differs is secure aggregation alone. The same
steps as in the flow; wall time from publishing to the commit, and CPU time of the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from catchment.jobs import lifecycle
from catchment.models.tensors import write_tensors
from catchment.rounds import collect, commit, prepare, secure
from catchment.rounds import select as selecting
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from catchment.wire.messages import WorkOrder
from tests.runs import begin
from tests.secure_sites import SecureSite
from tests.thread_sites import accuracy, job


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--million", type=float, default=1.0, help="parameters")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        lines = measure(Path(folder), options.sites, int(options.million * 1e6), options.rounds)
    for line in lines:
        if options.json:
            print(json.dumps(line))
        else:
            print(f"{line['kind']:12} wall {line['wall_s']:6.3f} s   CPU {line['cpu_s']:6.3f} s a round")


def measure(folder: Path, sites: int, size: int, rounds: int) -> list[dict[str, Any]]:
    """Rounds of a plain job, of one with onemask and of one with doublemask, over the same sites."""
    lines = []
    with EmbeddedPostgres(folder / "postgres", durable=False) as server:
        server.create_database("bench")
        settings = Settings(home=folder / "home", database_url=server.url("bench"))
        migrate(settings)
        store = open_store(settings)
        weights = {f"layer{number}": np.zeros(size // 10, np.float32) for number in range(10)}
        write_tensors(folder / "initial.safetensors", weights)
        store.files.write_file("default", "models/init.safetensors", folder / "initial.safetensors")
        made = [
            # Held open as by an agent, not as in tests: else most of what is measured is polling.
            SecureSite(store, f"site-{number:02}", folder, train, accuracy, held_s=5.0)
            for number in range(sites)
        ]
        for kind, algorithm in (
            ("plain", None),
            ("onemask", {"type": "SSA", "mode": "onemask"}),
            ("doublemask", {"type": "SSA", "threshold": sites // 2 + 1}),
        ):
            lines.append({"kind": kind, **timed(store, kind, algorithm, sites, rounds)})
        for site in made:
            site.die()
        store.close()
    return lines


def timed(
    store: Store, kind: str, algorithm: dict[str, Any] | None, sites: int, rounds: int
) -> dict[str, float]:
    """Medians over rounds, the first one left out."""
    hyper = {
        "max_round_num": rounds + 1,
        "client_num": sites,
        "threshold_client_num": sites,
        "save_interval": 99,
    }
    hyper["evaluate_interval"] = 99
    claim = begin(store, job(id=kind, output=kind, hyper_parameters=hyper, secure_algorithm=algorithm))
    prepare.prepare_run(store, claim)
    walls, cpus = [], []
    for number in range(1, rounds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        selecting.select_cohort(store, claim, number)
        selecting.publish_work(store, claim, number)
        if algorithm:
            secure.agree_keys(store, claim, number)
        assert collect.collect_updates(store, claim, number).enough
        if algorithm:
            assert secure.unmask(store, claim, number).enough
        commit.aggregate_and_commit(store, claim, number)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    lifecycle.request_stop(store, "default", kind)
    return {"wall_s": statistics.median(walls[1:]), "cpu_s": statistics.median(cpus[1:])}


def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
    """An update of the right shape, at once."""
    return {name: np.full(array.shape, 0.01, np.float32) for name, array in weights.items()}, {
        "sample_num": 10
    }


if __name__ == "__main__":
    main()
