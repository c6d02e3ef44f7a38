"""Cohort selection: which sites fit a job, and which of them a round takes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catchment.jobs.spec import Job
from catchment.wire.messages import Registration


@dataclass(frozen=True)
class Candidate:
    """A site as selection sees it."""

    name: str
    online: bool
    registration: Registration


def misfit(job: Job, candidate: Candidate) -> str:
    """Why a site cannot take part in a job; empty when it can."""
    site = candidate.registration
    if not candidate.online:
        return "is not connected"
    if job.runtime not in site.runtimes:
        return f"has no runtime {job.runtime}"
    if missing := [name for name in job.dataset_names if name not in site.datasets]:
        return f"has no data set {missing[0]!r}"
    if job.task_entry is not None and job.task_entry not in site.entries:
        return f"has no entry {job.task_entry!r}"
    if job.scripts is not None and site.allow_scripts == "never":
        return "runs no sent scripts"
    return _resource_misfit(job, site)


def _resource_misfit(job: Job, site: Registration) -> str:
    need, workers, offered = job.resource, job.resource.worker_num, site.resources
    for name, wanted, there in (
        ("cpu", workers * need.cpu, offered.cpu),
        ("gpu", workers * need.gpu, offered.gpu),
        ("memory", workers * need.memory, offered.memory_mb),
    ):
        if wanted > there:
            unit = " MB" if name == "memory" else ""
            return f"offers {there:g}{unit} of {name}, the job needs {wanted:g}{unit}"
    return ""


def invited(job: Job, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The sites that the job may use: those that `clients` names by name or address, or all, by name."""
    by_name = sorted(candidates, key=lambda candidate: candidate.name)
    if not job.client_labels:
        return by_name
    chosen: dict[str, Candidate] = {}
    for label in job.client_labels:
        for candidate in by_name:
            if label in (candidate.name, candidate.registration.address):
                chosen.setdefault(candidate.name, candidate)
    return list(chosen.values())


def unknown_labels(job: Job, sites: Sequence[Candidate]) -> list[str]:
    """Names and addresses in `clients` that no site has registered with."""
    known = {label for site in sites for label in (site.name, site.registration.address)}
    return [label for label in job.client_labels if label not in known]


def sample_cohort(
    job: Job,
    fitting: Sequence[Candidate],
    *,
    seed: int,
    round_number: int,
    attempt: int,
    trained: Mapping[str, int],
    failed_before: frozenset[str] = frozenset(),
) -> list[str]:
    """The names of the sites of a round, sorted; the same for the same arguments.

    Args:
        job: the job.
        fitting: sites that fit, in the order of preference without any rule.
        seed: the job's seed.
        round_number: number of the round, from 1.
        attempt: number of the attempt at it, from 0.
        trained: how often each site has taken part, for `untrained_first`.
        failed_before: sites that failed the attempt before; they are taken only when there are no others.
    """
    order = list(range(len(fitting)))
    if job.random_client:
        order = np.random.default_rng([seed, round_number, attempt]).permutation(len(fitting)).tolist()
    ranked = sorted(
        (fitting[index] for index in order),  # sorted() is stable: ties keep the order above
        key=lambda site: (
            site.name in failed_before,
            trained.get(site.name, 0) if job.untrained_first else 0,
        ),
    )
    return sorted(site.name for site in ranked[: cohort_size(job)])


def cohort_size(job: Job) -> int:
    """How many sites a round takes at most: client_num with the job's redundancy."""
    # The product of a decimal factor may lie a hair above the integer that was meant.
    return math.ceil(round(job.redundancy * job.hyper_parameters.client_num, 6))


def site_seed(seed: int, round_number: int, site: str) -> int:
    """The seed of a site's randomness in a round, below 2^48; independent of attempts and of other sites."""
    digest = hashlib.sha256(f"{seed}|{round_number}|{site}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def rule_of(job: Job, selected: int) -> str:
    """How the round will close, in words for its report."""
    threshold, wanted = job.hyper_parameters.threshold_client_num, job.hyper_parameters.client_num
    if selected > wanted:
        return (
            f"closes when {wanted} of {selected} sites have delivered, "
            f"or at the deadline with at least {threshold}"
        )
    return f"waits for all {selected} sites until the deadline, needs at least {threshold}"
