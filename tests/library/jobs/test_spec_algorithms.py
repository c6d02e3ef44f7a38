"""Algorithms, secure aggregation and what comes later in the specification of a job."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.jobs import secure
from catchment.jobs.spec import parse_job
from tests.library.jobs.specs import HYPER, body, refusal


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", {"name": "fedprox", "params": {"mu": 0.6}}),
        (
            "optimizer",
            {"name": "scaffold", "params": {"learning_rate": 0.1, "batch_size": 8, "sample_num": 9}},
        ),
        ("optimizer", {"name": "fedprox"}),
        ("loss", {"name": "feddc", "params": {"alpha": 0.1, "lr": 0.1, "epoch": 1, "batch_size": 8}}),
        ("loss", {"name": "feddc"}),
        ("strategy", {"name": "trimmed_mean", "params": {"trim": 0.3, "local": ["bn.*"]}}),
        ("compression", {"type": "topk", "params": {"ratio": 0.1}}),
    ],
)
def test_algorithms_are_kept_as_they_were_sent(field: str, value: Any) -> None:
    job = parse_job(body(field, value))
    kept = getattr(job, field).model_dump(exclude_none=True)
    assert kept == {"params": {}, **value}


@pytest.mark.parametrize("mode", ["DoubleMask", "onemask", None])
def test_secure_aggregation_needs_two_sites_and_fills_its_defaults(mode: str | None) -> None:
    fields = {"type": "SSA", "mode": mode, "use_same_mask": True}
    hyper = {"client_num": 5, "threshold_client_num": 2}
    job = parse_job(body(secure_algorithm=fields, hyper_parameters=hyper))
    assert secure.threshold_of(job) == 2
    assert secure.mode_of(job) == (mode or "doublemask").lower()
    warnings = " ".join(secure.warnings_of(job))
    assert "use_same_mask has no effect" in warnings
    assert ("threshold is 2 of 5 sites" in warnings) == (mode != "onemask")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        (f"{HYPER}.threshold_client_num", {"hyper_parameters": {"client_num": 3}}),
        ("redundancy", {"redundancy": 1.5, "secure_algorithm": {"type": "SSA", "mode": "onemask"}}),
        ("secure_algorithm.neighbours", {"secure_algorithm": {"type": "SSA", "neighbours": 3}}),
        ("secure_algorithm.sample_cap", {"secure_algorithm": {"type": "SSA", "sample_cap": 2**31 - 1}}),
        ("secure_algorithm.clip_value", {"secure_algorithm": {"type": "SSA", "clip_value": 0}}),
        ("secure_algorithm", {"secure_algorithm": {"type": "SSA", "clip_norm": 1.0}}),
        ("secure_algorithm.threshold", {"secure_algorithm": {"type": "SSA", "threshold": 3}}),
        ("compression", {"compression": {"type": "bf16"}}),
        ("strategy.name", {"strategy": {"name": "median"}}),
        ("strategy.name", {"strategy": {"name": "fednova"}}),
        ("strategy.name", {"strategy": {"name": "fedbuff"}}),
        ("extenders.aggregate", {"extenders": {"script_path": "e", "entry": "e.py", "aggregate": "f"}}),
    ],
)
def test_what_secure_aggregation_cannot_do_is_refused_at_submit(field: str, changes: dict[str, Any]) -> None:
    hyper = {"client_num": 3, "threshold_client_num": 2}
    assert (
        refusal(body(**{"secure_algorithm": {"type": "SSA"}, "hyper_parameters": hyper, **changes})).field
        == field
    )


WRONG_LATER = [
    ("secure_algorithm.type", {"type": "HE"}),
    ("secure_algorithm.type", {}),
    ("secure_algorithm", {"type": "DP"}),
    ("secure_algorithm", {"type": "SSA", "noise_multiplier": 1.0}),
    ("secure_algorithm", {"type": "DP", "noise_multiplier": 1.0, "mode": "onemask"}),
    ("secure_algorithm.noise_multiplier", {"type": "DP", "noise_multiplier": -1}),
    ("secure_algorithm.threshold", {"type": "SSA", "threshold": 1}),
    ("secure_algorithm.threshold", {"type": "SSA", "threshold": 2}),
    ("secure_algorithm.mode", {"type": "SSA", "mode": "triplemask"}),
    ("secure_algorithm.use_same_mask", {"type": "SSA", "use_same_mask": 1}),
    ("secure_algorithm.delta", {"type": "DP", "noise_multiplier": 1, "delta": 1}),
    ("secure_algorithm.clip_norm", {"type": "DP", "noise_multiplier": 1, "clip_norm": 0}),
    ("optimizer.name", {"name": "adam"}),
    ("optimizer.name", {}),
    ("optimizer.params.mu", {"name": "fedprox", "params": {"mu": -1}}),
    ("optimizer.params.batch_size", {"name": "scaffold", "params": {"batch_size": 0}}),
    ("loss.name", {"name": "cross_entropy"}),
    ("loss.params.alpha", {"name": "feddc", "params": {"alpha": 0}}),
    ("loss.params.epoch", {"name": "feddc", "params": {"epoch": 1.5}}),
    ("strategy.name", {}),
    ("strategy.name", {"name": "../krum"}),
    ("compression.type", {"type": ""}),
    ("extenders.script_path", {"script_path": 1}),
    ("register.name", {"name": "Digits"}),
    ("register.version", {"name": "digits", "version": "-1"}),
]


@pytest.mark.parametrize(("named", "value"), WRONG_LATER, ids=[f"{n}-{v}" for n, v in WRONG_LATER])
def test_what_comes_later_is_validated_all_the_same(named: str, value: Any) -> None:
    error = refusal(body(named.split(".", maxsplit=1)[0], value))
    assert error.field == named
