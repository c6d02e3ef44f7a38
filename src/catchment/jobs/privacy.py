"""A job's DP fields as a plan, and the refusal of combinations that could not keep what they promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catchment.errors import InvalidField
from catchment.jobs.secure import threshold_of
from catchment.privacy.clipping import AdaptiveClip
from catchment.privacy.plan import DEFAULT_DELTA, Plan

if TYPE_CHECKING:
    from catchment.jobs.spec import Job, SecureAlgorithm


def plan_of(job: Job) -> Plan | None:
    """What differential privacy does in the job; None without it."""
    fields = job.secure_algorithm
    if fields is None or not fields.private:
        return None
    multiplier = fields.noise_multiplier or 0.0
    return Plan(
        noise_multiplier=multiplier,
        clip_norm=fields.clip_norm,
        same_noise=bool(fields.adding_same_noise),
        delta=DEFAULT_DELTA if fields.delta is None else fields.delta,
        placement="shared" if fields.masked else fields.placement or "central",
        cohort=job.hyper_parameters.client_num,
        # Sites let no sum of fewer be unmasked, whatever the coordinator wants.
        threshold=threshold_of(job) if fields.masked else job.hyper_parameters.threshold_client_num,
        epsilon_budget=fields.epsilon_budget,
        adaptive=_adaptive(fields, multiplier, job.hyper_parameters.client_num),
    )


def site_privacy(job: Job) -> dict[str, Any] | None:
    """What a site has to do to its update, as a work order says it; None when it is nothing."""
    plan = plan_of(job)
    share = plan.for_site() if plan is not None else None
    return share.model_dump() if share is not None else None


def shows_sites(job: Job) -> bool:
    """Whether reports may show metrics, sample numbers and script output of single sites."""
    return job.secure_algorithm is None


def keeps_metrics(job: Job) -> bool:
    """Whether the sites' metrics are kept as means; they are not noised."""
    return job.secure_algorithm is None or job.secure_algorithm.metrics != "none"


def check(job: Job) -> None:
    """Refuse what would leave a promise of the job unkept.

    Raises:
        InvalidField: names the field, and what would be right.
    """
    plan = plan_of(job)
    if plan is None:
        return
    if plan.epsilon_budget is not None and plan.missing:
        raise InvalidField(
            "secure_algorithm.epsilon_budget", f"cannot be kept: epsilon is infinite, since {plan.missing}"
        )
    if plan.adaptive is not None:
        _check_adaptive(plan, plan.adaptive)


def _check_adaptive(plan: Plan, adaptive: AdaptiveClip) -> None:
    field = "secure_algorithm.adaptive_clipping"
    if plan.clip_norm is None:
        raise InvalidField(field, "needs clip_norm, the clipping norm of the first round")
    if plan.placement != "central":
        raise InvalidField(field, "needs placement central: the coordinator counts who was clipped")
    try:
        adaptive.sum_multiplier(plan.noise_multiplier)
    except ValueError as error:
        raise InvalidField(f"{field}.count_noise", str(error)) from None


def _adaptive(fields: SecureAlgorithm, multiplier: float, cohort: int) -> AdaptiveClip | None:
    given = fields.adaptive_clipping
    if given is None:
        return None
    # A twentieth of the cohort (Andrew et al. 2021) would cost small cohorts more than the sum's noise does.
    noise = given.count_noise if given.count_noise is not None else max(cohort / 20.0, multiplier)
    return AdaptiveClip(quantile=given.quantile, rate=given.rate, count_noise=noise)
