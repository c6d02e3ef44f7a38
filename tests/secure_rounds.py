"""Rounds under secure aggregation through the library's own steps, and what they should give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import select

from catchment.jobs import log
from catchment.models.tensors import read_tensors
from catchment.rounds import collect, secure
from catchment.rounds import select as selecting
from catchment.rounds.claim import Claim
from catchment.store import Store
from catchment.wire.messages import WorkOrder
from tests.thread_sites import job

NAMES = "abcdefgh"


def samples_of(name: str) -> int:
    return 10 * (1 + NAMES.index(name))


def trains_as(name: str) -> Callable[..., Any]:
    """A training whose update differs from site to site and from round to round."""

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        generator = np.random.default_rng([NAMES.index(name), order.round])
        change = generator.normal(0, 0.1, weights["w"].shape).astype(np.float32)
        moved = weights["steps"] + order.round
        return {"w": change, "steps": moved}, {"sample_num": samples_of(name), "loss": 0.1}

    return train


def ssa(sites: int = 3, threshold: int = 2, rounds: int = 1, **changes: Any) -> dict[str, Any]:
    """A job of secure aggregation."""
    hyper = {
        "max_round_num": rounds,
        "client_num": sites,
        "threshold_client_num": threshold,
        "round_timeout": 60,
    }
    secure_algorithm = {"type": "SSA", **changes.pop("secure_algorithm", {})}
    return job(hyper_parameters=hyper, secure_algorithm=secure_algorithm, **changes)


def quick(store: Store) -> Store:
    """The store, with steps that wait for a site that is gone ending soon."""
    settings = store.settings.model_copy(update={"secure_step_timeout_s": 5.0, "site_lease_s": 15.0})
    object.__setattr__(store, "settings", settings)
    return store


def attempted(store: Store, claim: Claim, number: int = 1) -> collect.Collected:
    """One attempt at a round, as the flow makes it, up to the commit."""
    selecting.select_cohort(store, claim, number)
    selecting.publish_work(store, claim, number)
    secure.agree_keys(store, claim, number)
    collected = collect.collect_updates(store, claim, number)
    return secure.unmask(store, claim, number) if collected.enough else collected


def committed_weights(store: Store, digest: str) -> dict[str, np.ndarray]:
    return read_tensors(store.blobs.local_path(digest))


def lines(store: Store, claim: Claim) -> str:
    """The job's log."""
    found = store.db.read(
        lambda tx: tx.execute(select(log.job_logs.c.text).where(log.job_logs.c.job_uid == claim.uid))
    )
    return "\n".join(found.scalars())
