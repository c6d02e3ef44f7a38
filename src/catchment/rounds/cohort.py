"""Cohort selection: which sites fit a job, and which of them a round takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catchment.jobs.secure import is_secure
from catchment.jobs.spec import Job
from catchment.privacy.plan import Selection
from catchment.strategies.plan import buffer_size
from catchment.wire.messages import Registration


@dataclass(frozen=True)
class Candidate:
    """A site as selection sees it."""

    name: str
    online: bool
    registration: Registration
    certificate: str | None = None
    """Client certificate (PEM) of its session; None: not connected with mutual TLS."""


def misfit(job: Job, candidate: Candidate, trusted_roots: str | None = None) -> str:
    """Why a site cannot take part in a job; empty when it can.

    Args:
        job: the job.
        candidate: the site.
        trusted_roots: of a job with `ssl`, the authorities (PEM) that may vouch for a site.
    """
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
    return (
        _identity_misfit(job, site)
        or _tls_misfit(job, candidate, trusted_roots or "")
        or _resource_misfit(job, site)
    )


def _identity_misfit(job: Job, site: Registration) -> str:
    if is_secure(job) and site.identity is None:
        return "has registered no identity key, which secure aggregation needs"
    return ""


def _tls_misfit(job: Job, candidate: Candidate, trusted_roots: str) -> str:
    if job.ssl is None:
        return ""
    if candidate.certificate is None:
        return "is not connected with mutual TLS"
    from catchment.tls.trust import vouches_for  # only jobs with `ssl` pay for loading it

    if not vouches_for(trusted_roots, candidate.certificate, time.time()):
        return "has a certificate that the job's trusted.pem does not vouch for"
    return ""


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
    busy: int = 0,
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
        busy: how many other sites still work for the job, of an earlier round.
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
    return sorted(site.name for site in ranked[: max(0, cohort_size(job) - busy)])


def selection_of(job: Job, chosen: int, fitting: int, *, again: bool = False) -> Selection:
    """How a cohort came about, as the accountant of differential privacy asks.

    Uniform is only what `random_client` draws from all sites that fit, in a round's first attempt.

    Args:
        job: the job.
        chosen: sites in the cohort.
        fitting: sites that it was chosen from.
        again: whether sites that failed before were passed over.
    """
    uniform = job.random_client and not (job.untrained_first or job.client_labels or again)
    return Selection(chosen, fitting, uniform)


def cohort_size(job: Job) -> int:
    """How many sites a round takes at most: client_num with the job's redundancy."""
    return job.most_sites


def site_seed(seed: int, round_number: int, site: str) -> int:
    """The seed of a site's randomness in a round, below 2^48; independent of attempts and of other sites."""
    digest = hashlib.sha256(f"{seed}|{round_number}|{site}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def rule_of(job: Job, selected: int) -> str:
    """How the round will close, in words for its report."""
    threshold, wanted = job.hyper_parameters.threshold_client_num, job.hyper_parameters.client_num
    if size := buffer_size(job):
        return f"closes when {size} updates have arrived, of whichever round; sites that are not done go on"
    if selected > wanted:
        return (
            f"closes when {wanted} of {selected} sites have delivered, "
            f"or at the deadline with at least {threshold}"
        )
    return f"waits for all {selected} sites until the deadline, needs at least {threshold}"
