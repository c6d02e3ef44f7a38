"""A job's SSA fields as orders for its sites, and the refusal of what could not keep its promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from catchment.errors import InvalidField
from catchment.models.signature import Signature
from catchment.secagg.noised import Grid
from catchment.secagg.quantise import Quantiser
from catchment.strategies.base import LinearStrategy
from catchment.strategies.plan import sent_by, strategy_of
from catchment.wire.secagg import SharedNoise

if TYPE_CHECKING:
    from catchment.jobs.spec import Job

CLIP_VALUE = 8.0
"""Deltas of trained weights are far smaller; float buffers of batch normalisation may come near it."""
SAMPLE_CAP = 10_000
"""The mean is finer the closer the cap is to the sites' true numbers of samples."""


def is_secure(job: Job) -> bool:
    """Whether the coordinator may see sums of updates only."""
    return job.secure_algorithm is not None and job.secure_algorithm.masked


def mode_of(job: Job) -> str:
    """doublemask, or onemask where the job says so."""
    return (job.secure_algorithm and job.secure_algorithm.mode) or "doublemask"


def threshold_of(job: Job) -> int:
    """How many sites' shares take masks off: `threshold`, or threshold_client_num."""
    given = job.secure_algorithm.threshold if job.secure_algorithm else None
    return given or job.hyper_parameters.threshold_client_num


def secure_order(job: Job, session: str, cohort: Sequence[str]) -> dict[str, Any]:
    """What an order says of secure aggregation, as JSON."""
    fields = job.secure_algorithm
    strategy = strategy_of(job)
    assert fields is not None  # noqa: S101 - asked for only where `is_secure`
    return {
        "plan": {
            "session": session,
            "mode": mode_of(job),
            "cohort": sorted(cohort),
            "threshold": threshold_of(job),
            "degree": fields.neighbours,
        },
        "clip_value": fields.clip_value or CLIP_VALUE,
        "sample_cap": fields.sample_cap or SAMPLE_CAP,
        "by_samples": isinstance(strategy, LinearStrategy) and strategy.weighting == "samples",
        "noise": noise.model_dump() if (noise := shared_noise(job)) is not None else None,
    }


def shared_noise(job: Job) -> SharedNoise | None:
    """The noise that sites add before they mask; None without differential privacy."""
    fields = job.secure_algorithm
    if fields is None or not fields.masked or fields.noise_multiplier is None or fields.clip_norm is None:
        return None
    return SharedNoise(
        clip_norm=fields.clip_norm, noise_multiplier=fields.noise_multiplier, sharers=threshold_of(job)
    )


def check(job: Job) -> None:
    """Refuse what secure aggregation cannot do.

    Raises:
        InvalidField: names the field, and what would be right.
    """
    fields = job.secure_algorithm
    if fields is None or not is_secure(job):
        return
    if job.hyper_parameters.threshold_client_num < 2:
        raise InvalidField(
            "hyper_parameters.threshold_client_num",
            "must be at least 2 with secure_algorithm SSA: the sum of one site is its update",
        )
    if mode_of(job) == "onemask" and job.redundancy > 1:
        raise InvalidField(
            "redundancy", "cannot be used with mode onemask, whose sum needs every site that was selected"
        )
    if fields.neighbours is not None and fields.neighbours % 2:
        raise InvalidField("secure_algorithm.neighbours", "must be even")
    noise, sites = shared_noise(job), job.most_sites
    if noise is not None and (problem := Grid(noise, sites).problem()):
        raise InvalidField("secure_algorithm.noise_multiplier", problem)
    largest = Quantiser(fields.clip_value or CLIP_VALUE, sites).largest_count
    if (fields.sample_cap or SAMPLE_CAP) > largest:
        raise InvalidField(
            "secure_algorithm.sample_cap",
            f"must be at most {largest} for {sites} sites: the sum of all must fit 32 bits",
        )


def check_model(job: Job, weights: Signature) -> None:
    """Refuse a model too large for the grid that the job's noise leaves.

    Raises:
        InvalidField: names the field, with the numbers.
    """
    noise = shared_noise(job)
    if noise is None:
        return
    sent = sent_by(strategy_of(job), weights)
    num_floats = sum(info.num_elements for info in sent.values() if info.is_float)
    if problem := Grid(noise, job.most_sites).problem(num_floats):
        raise InvalidField("secure_algorithm.noise_multiplier", problem)


def warnings_of(job: Job) -> list[str]:
    """Sentences for the job's log about what is allowed and weaker than it could be."""
    fields, sites = job.secure_algorithm, job.hyper_parameters.client_num
    if fields is None or not is_secure(job):
        return []
    told = []
    noise = shared_noise(job)
    if noise is not None and noise.noise_multiplier == 0:
        told.append("secure_algorithm.noise_multiplier is 0: updates are clipped and not noised")
    if fields.use_same_mask:
        told.append(
            "secure_algorithm.use_same_mask has no effect: a mask that repeats would show differences "
            "between weights, so every weight has a mask of its own"
        )
    if sites < 3:
        told.append("with two sites each can compute the other's update from the sum; use three or more")
    if mode_of(job) == "doublemask" and threshold_of(job) < sites // 2 + 1:
        told.append(
            f"secure_algorithm.threshold is {threshold_of(job)} of {sites} sites: fewer than half of them, "
            "together with the coordinator, could unmask an update; "
            f"use at least {sites // 2 + 1} (against a dishonest coordinator {2 * sites // 3 + 1})"
        )
    return told
