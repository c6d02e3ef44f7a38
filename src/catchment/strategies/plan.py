"""Which strategy a job asks for, and which of its wishes do not go together.

`optimizer: scaffold` and `loss: feddc` bring their own strategy; everything else is aggregated by the one
that `strategy` names, FedAvg by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from catchment.compression import codec_of
from catchment.errors import InvalidField
from catchment.findings import invalid_field
from catchment.models.signature import Signature
from catchment.strategies.base import LinearStrategy, Strategy
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.fedavgm import FedAvgM
from catchment.strategies.fedbuff import FedBuff
from catchment.strategies.feddc import FedDC
from catchment.strategies.fednova import FedNova
from catchment.strategies.fedopt import FedAdagrad, FedAdam, FedYogi
from catchment.strategies.geometric_median import GeometricMedian
from catchment.strategies.krum import Krum, MultiKrum
from catchment.strategies.median import Median
from catchment.strategies.norm_clipping import NormClipping
from catchment.strategies.scaffold import Scaffold
from catchment.strategies.trimmed_mean import TrimmedMean
from catchment.strategies.vectors import MARK, sent_signature

if TYPE_CHECKING:
    from catchment.jobs.spec import Job

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (
        FedAvg,
        FedAvgM,
        FedAdam,
        FedYogi,
        FedAdagrad,
        Median,
        TrimmedMean,
        Krum,
        MultiKrum,
        GeometricMedian,
        NormClipping,
        FedNova,
        FedBuff,
        Scaffold,
        FedDC,
    )
}
"""Every strategy by its name."""


def strategy_of(job: Job) -> Strategy:
    """The job's strategy, with its parameters.

    Raises:
        InvalidField: there is no such strategy, or a parameter is wrong.
    """
    name = strategy_name(job)
    kind = STRATEGIES.get(name)
    if kind is None:
        known = ", ".join(sorted(STRATEGIES))
        raise InvalidField("strategy.name", f"{name!r} is not known; known are {known}")
    try:
        strategy = kind(**(job.strategy.params if job.strategy else {}))
    except ValidationError as error:
        raise invalid_field(error, "strategy.params") from None
    if _private(job) and isinstance(strategy, LinearStrategy):
        # A mean weighted by samples would have no bound that a single client's part keeps.
        strategy.weighting = "uniform"
    return strategy


def strategy_name(job: Job) -> str:
    """Name of the job's strategy."""
    if job.strategy is not None:
        return job.strategy.name
    return _brought(job)[1] or "fedavg"


def sent_by(strategy: Strategy, weights: Signature) -> Signature:
    """What a client of the strategy sends for weights of that signature.

    Raises:
        InvalidField: a pattern of the strategy's parameters fits no tensor.
    """
    return sent_signature(weights, strategy=strategy.params.model_dump(), algorithm=strategy.name)


def keeps_client_state(job: Job) -> bool:
    """Whether the job's sites keep something from one of their rounds to the next."""
    strategy = strategy_of(job)
    return strategy.stateful_clients or bool(strategy.params.local) or job.compression is not None


def check(job: Job) -> None:
    """Refuse what cannot go together.

    Raises:
        InvalidField: names the field, and what would be right.
    """
    field, brought = _brought(job)
    if job.loss is not None and job.optimizer is not None:
        raise InvalidField("optimizer", f"cannot be used with loss {job.loss.name}, which has a penalty too")
    strategy = strategy_of(job)
    if brought and strategy.name != brought:
        raise InvalidField(
            "strategy.name",
            f"{field} {brought} brings its own strategy; leave this out or say {brought!r}",
        )
    if strategy.stateful_clients and not brought:
        other = "loss" if strategy.name == "feddc" else "optimizer"
        raise InvalidField("strategy.name", f"{strategy.name!r} needs {other}: {{name: {strategy.name}}}")
    for refused, problem in _clashes(job, strategy):
        raise InvalidField(refused, problem)


def buffer_size(job: Job) -> int | None:
    """With so many updates a round closes, whoever is still busy; None: rounds wait for their own cohort."""
    strategy = strategy_of(job)
    if not isinstance(strategy, FedBuff):
        return None
    return strategy.params.buffer_size or job.hyper_parameters.threshold_client_num


def check_model(job: Job, weights: Signature) -> None:
    """Refuse a model whose tensors do not suit the job's strategy.

    Raises:
        InvalidField: a pattern fits no tensor, or a name is one that algorithms have for their own vectors.
    """
    marked = [name for name in weights if name.startswith(MARK)]
    if marked:
        raise InvalidField(
            job.model_source[0],
            f"tensor {marked[0]!r}: names with a first {MARK!r} are kept for algorithms",
        )
    sent_by(strategy_of(job), weights)


def _brought(job: Job) -> tuple[str, str]:
    """Which of the job's fields brings a strategy, and its name; ("", "") when none does."""
    if job.loss is not None:
        return "loss", job.loss.name
    if job.optimizer is not None and job.optimizer.name == "scaffold":
        return "optimizer", "scaffold"
    return "", ""


def _private(job: Job) -> bool:
    return job.secure_algorithm is not None and job.secure_algorithm.private


def _clashes(job: Job, strategy: Strategy) -> Iterator[tuple[str, str]]:
    """Fields that do not fit the rest of the job, each with what is wrong."""
    secure = job.secure_algorithm.type if job.secure_algorithm else ""
    extended = "aggregate" in job.extender_functions
    if secure and not strategy.linear:
        does = "hides single updates" if secure == "SSA" else "bounds each client's part in a mean"
        yield (
            "strategy.name",
            f"{strategy.name!r} looks at single updates, secure_algorithm {secure} {does}; "
            f"use one of {', '.join(_linear_names())}",
        )
    if _private(job) and strategy.stateful_clients:
        yield (
            "secure_algorithm.noise_multiplier" if secure == "SSA" else "secure_algorithm.type",
            f"differential privacy adds noise to what {strategy.name} sums up over all rounds, so the noise "
            "would never fade; use another optimizer or loss",
        )
    if secure == "SSA" and extended:
        yield "extenders.aggregate", "reads single updates, which secure_algorithm SSA hides"
    if job.compression is not None:
        codec_of(job.compression.type, job.compression.params)
        kind = job.compression.type
        yield from _compression_clashes(kind, strategy, secure, extended=extended)
    if extended and strategy.stateful_clients:
        yield (
            "extenders.aggregate",
            f"cannot replace the aggregation of {strategy.name}: server and clients keep a common state",
        )
    if isinstance(strategy, MultiKrum):
        yield from _krum_clashes(job, strategy)
    if isinstance(strategy, FedBuff):
        yield from _buffer_clashes(job, strategy, extended=extended)


def _compression_clashes(
    kind: str, strategy: Strategy, secure: str, *, extended: bool
) -> Iterator[tuple[str, str]]:
    if kind == "topk" and isinstance(strategy, Median | TrimmedMean):
        yield (
            "compression.type",
            f"'topk' sends few elements of an update, and the {strategy.name} of the others is zero; "
            "use 'int8' or 'bf16'",
        )
    if secure == "SSA":
        yield "compression", "cannot be used with secure_algorithm SSA: masked numbers cannot be compressed"
    if strategy.stateful_clients:
        yield (
            "compression",
            f"cannot be used with {strategy.name}: server and clients must know the same control variates",
        )
    if extended:
        yield "compression", "cannot be used with extenders.aggregate, which reads updates as they were sent"


def _krum_clashes(job: Job, strategy: MultiKrum) -> Iterator[tuple[str, str]]:
    malicious: int = getattr(strategy.params, "malicious", None) or 0
    threshold = job.hyper_parameters.threshold_client_num
    if 2 * malicious + 3 <= threshold:
        return
    yield (
        "strategy.params.malicious" if malicious else "hyper_parameters.threshold_client_num",
        f"{strategy.name} needs 2 * malicious + 3 = {2 * malicious + 3} updates in each round, "
        f"hyper_parameters.threshold_client_num is {threshold}",
    )


def _buffer_clashes(job: Job, strategy: FedBuff, *, extended: bool) -> Iterator[tuple[str, str]]:
    hyper, size = job.hyper_parameters, strategy.params.buffer_size
    if size is not None and not hyper.threshold_client_num <= size <= hyper.client_num:
        yield (
            "strategy.params.buffer_size",
            f"is {size}, it must lie between threshold_client_num, {hyper.threshold_client_num}, "
            f"and client_num, {hyper.client_num}",
        )
    if extended:
        yield "extenders.aggregate", "cannot replace fedbuff's aggregation, which mixes rounds"


def _linear_names() -> list[str]:
    return sorted(name for name, kind in STRATEGIES.items() if kind.linear and not kind.stateful_clients)
