"""Which strategy a job gets, and which wishes are refused together."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.jobs.spec import Extenders, Job, parse_job
from catchment.strategies import plan
from tests.thread_sites import job


def parsed(**changes: Any) -> Job:
    return parse_job(job(**changes))


def unchecked(**changes: Any) -> Job:
    """A job with fields that other parts refuse, for the rules of this one."""
    return Job.model_validate(job(**changes))


def named(name: str, **params: Any) -> dict[str, Any]:
    return {"strategy": {"name": name, "params": params}}


SSA = {"secure_algorithm": {"type": "SSA"}}
DP = {"secure_algorithm": {"type": "DP", "noise_multiplier": 1.0}}
SCAFFOLD = {"optimizer": {"name": "scaffold"}}
FEDPROX = {"optimizer": {"name": "fedprox"}}
FEDDC = {"loss": {"name": "feddc"}}
TOPK = {"compression": {"type": "topk"}}
FIVE = {"hyper_parameters": {"client_num": 5, "threshold_client_num": 5}}
AGGREGATE = {"extenders": {"script_path": "scripts/x.py", "aggregate": "mean"}}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "fedavg"),
        (FEDPROX, "fedavg"),
        (SCAFFOLD, "scaffold"),
        (FEDDC, "feddc"),
        ({**FEDPROX, **named("fedadam")}, "fedadam"),
        ({**SCAFFOLD, **named("scaffold", weighting="samples")}, "scaffold"),
        ({**FEDDC, **named("feddc", local=["bn.*"])}, "feddc"),
    ],
)
def test_the_strategy_of_a_job(changes: dict[str, Any], name: str) -> None:
    assert plan.strategy_of(parsed(**changes)).name == name


@pytest.mark.parametrize("name", sorted(set(plan.STRATEGIES) - {"scaffold", "feddc"}))
def test_every_strategy_can_be_named(name: str) -> None:
    assert plan.strategy_of(parsed(**FIVE, **named(name))).name == name


CLASHES: list[tuple[str, dict[str, Any], str]] = [
    ("strategy.name", named("magic"), "known are fedadagrad"),
    ("strategy.name", {**SCAFFOLD, **named("fedadam")}, "optimizer scaffold brings its own strategy"),
    ("strategy.name", {**FEDDC, **named("median")}, "loss feddc brings its own strategy"),
    ("strategy.name", named("scaffold"), "needs optimizer: {name: scaffold}"),
    ("strategy.name", named("feddc"), "needs loss: {name: feddc}"),
    ("optimizer", {**SCAFFOLD, **FEDDC}, "cannot be used with loss feddc"),
    ("optimizer", {**FEDPROX, **FEDDC}, "cannot be used with loss feddc"),
    ("strategy.name", {**SSA, **named("median")}, "hides single updates; use one of fedadagrad, fedadam"),
    ("strategy.name", {**SSA, **named("norm_clipping")}, "hides single updates"),
    ("strategy.name", {**SSA, **named("fednova")}, "hides single updates"),
    ("strategy.name", {**DP, **named("trimmed_mean")}, "bounds each client's part"),
    ("secure_algorithm.type", {**DP, **SCAFFOLD}, "noise would never fade"),
    ("secure_algorithm.type", {**DP, **FEDDC}, "noise would never fade"),
    ("compression", {**SSA, **TOPK}, "masked numbers cannot be compressed"),
    ("compression", {**SCAFFOLD, **TOPK}, "the same control variates"),
    ("compression.type", {**TOPK, **named("median")}, "use 'int8' or 'bf16'"),
    ("compression", {**AGGREGATE, **TOPK}, "reads updates as they were sent"),
    ("extenders.aggregate", {**SSA, **AGGREGATE}, "hides"),
    ("extenders.aggregate", {**SCAFFOLD, **AGGREGATE}, "keep a common state"),
    ("hyper_parameters.threshold_client_num", named("krum"), "needs 2 * malicious + 3 = 3 updates"),
    ("strategy.params.buffer_size", {**FIVE, **named("fedbuff", buffer_size=4)}, "must lie between"),
    ("strategy.params.buffer_size", {**FIVE, **named("fedbuff", buffer_size=6)}, "must lie between"),
    ("strategy.name", {**DP, **named("fedbuff")}, "looks at single updates"),
    ("strategy.params.malicious", {**FIVE, **named("multi_krum", malicious=2)}, "= 7 updates in each round"),
]


@pytest.mark.parametrize(("field", "changes", "words"), CLASHES)
def test_what_does_not_go_together_is_refused(field: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidField) as raised:
        plan.check(unchecked(**changes))
    assert raised.value.field == field
    assert words in str(raised.value)


TOGETHER: list[dict[str, Any]] = [
    {**SSA},
    {**SSA, **SCAFFOLD},
    {**SSA, **FEDDC},
    {**DP, **named("fedadam")},
    {**TOPK, **named("norm_clipping")},
    {"compression": {"type": "int8"}, **named("median")},
    {**AGGREGATE, **named("fedavgm")},
    {**FIVE, **named("krum", malicious=1)},
]


@pytest.mark.parametrize("changes", TOGETHER)
def test_what_goes_together(changes: dict[str, Any]) -> None:
    plan.check(unchecked(**changes))


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("strategy.params.momentum", named("fedavgm", momentum=1.0), "less than 1"),
    ("strategy.params.momentum", named("fedavgm", momentum="0.9"), "valid number"),
    ("strategy.params.eta", named("fedadam", eta=0), "greater than 0"),
    ("strategy.params.beta2", named("fedadagrad", beta2=0.9), "is not a field"),
    ("strategy.params.trim", named("trimmed_mean", trim=0.5), "less than 0.5"),
    ("strategy.params.malicious", named("krum", malicious=-1), "greater than or equal to 0"),
    ("strategy.params.malicious", named("krum", malicious=True), "valid integer"),
    ("strategy.params.keep", named("krum", keep=2), "is not a field"),
    ("strategy.params.keep", named("multi_krum", keep=0), "greater than or equal to 1"),
    ("strategy.params.clip_norm", named("norm_clipping", clip_norm=float("nan")), "finite"),
    ("strategy.params.weighting", named("fedavg", weighting="sample"), "'samples' or 'uniform'"),
    ("strategy.params.shared", named("fedavg", shared="*"), "valid list"),
    ("strategy.params.local.0", named("fedavg", local=[1]), "valid string"),
    ("compression.type", {"compression": {"type": "zip"}}, "bf16, int8, topk"),
    (
        "compression.params.ratio",
        {"compression": {"type": "topk", "params": {"ratio": 2}}},
        "less than or equal",
    ),
    ("strategy.params.nu", named("geometric_median", nu=0), "greater than 0"),
]


@pytest.mark.parametrize(("field", "changes", "words"), WRONG)
def test_a_wrong_parameter_is_named(field: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidField) as raised:
        parsed(**changes)
    assert raised.value.field == field
    assert words in str(raised.value)


def test_privacy_counts_every_client_alike() -> None:
    strategy = plan.strategy_of(unchecked(**DP))
    assert getattr(strategy, "weighting") == "uniform"  # noqa: B009 - not every strategy has one
    assert getattr(plan.strategy_of(parsed()), "weighting") == "samples"  # noqa: B009


def test_sites_keep_a_state_for_control_variates_and_for_local_tensors() -> None:
    assert not plan.keeps_client_state(parsed())
    assert plan.keeps_client_state(parsed(**SCAFFOLD))
    assert plan.keeps_client_state(parsed(**named("fedavg", local=["bn.*"])))
    assert not plan.keeps_client_state(parsed(**named("fedavg", shared=["*.lora"])))


def test_extenders_without_a_script_clash_with_nothing() -> None:
    quiet = Extenders(aggregate="mean")
    plan.check(unchecked(**SCAFFOLD, extenders=quiet.model_dump()))
