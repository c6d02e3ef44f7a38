"""Admission: whether a delivered update may take part in its round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from catchment import archives
from catchment.errors import BadTensors, TransferError
from catchment.jobs import rows
from catchment.jobs.privacy import keeps_metrics
from catchment.jobs.secure import is_secure
from catchment.jobs.spec import Compression, Job
from catchment.models.tensors import Signature, TensorFile, check_update
from catchment.rounds.secure_layout import check_masked, round_layout
from catchment.rounds.updates import open_update
from catchment.secagg.vector import Layout
from catchment.store import Store
from catchment.strategies.base import Strategy
from catchment.strategies.plan import sent_by, strategy_of

MAX_SAMPLES = 2**40
"""More samples than any site has; a larger number would give one site all the weight."""
DOMINATING_SHARE = 0.9
"""More of a round's samples than this are said in the job's log, of DOMINATED updates or more."""
DOMINATED = 3
REFUSALS = (
    ("committed no weights", "no_weights"),
    ("does not fit the model", "mismatch"),
    ("NaN or infinite", "not_finite"),
    ("sample_num", "num_samples"),
    ("the script's files", "files"),
    ("masked update", "masked"),
)
"""What reasons of rejections say, and one word for each kind."""
MIN_REPORTS = 2
"""Under a secure algorithm a mean of fewer reports is not shown: it would be a single site's."""


def num_samples_of(metrics: dict[str, Any]) -> int:
    """The number of samples that a site trained or evaluated on; 1 where it says nothing, as the original.

    Raises:
        BadTensors: it is no integer, below 1, or absurdly large.
    """
    given = metrics.get("sample_num", 1)
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not math.isfinite(given) or given != math.floor(given):
        raise BadTensors(f"sample_num is {given!r:.80}, it must be a whole number")
    if not 1 <= given <= MAX_SAMPLES:
        raise BadTensors(f"sample_num is {given}, it must be between 1 and {MAX_SAMPLES}")
    return int(given)


@dataclass(frozen=True)
class Expected:
    """What an update of a job must be.

    Attributes:
        signature: names, dtypes and shapes of all vectors that its sites send.
        strategy: checks what is particular to its own vectors; None: there are none.
        compression: how the update was compressed on its way.
    """

    signature: Signature
    strategy: Strategy | None = None
    compression: Compression | None = None
    masked: Layout | None = None
    """Under secure aggregation: where each tensor stands in the masked vectors."""


def expected_of(store: Store, row: Row[Any], attempt: Row[Any]) -> Expected:
    """What updates of an attempt of a job must be."""
    job = rows.spec_of(row)
    strategy = strategy_of(job)
    with TensorFile.open(store.blobs.local_path(attempt.weights)) as file:
        masked = round_layout(row, attempt, file.signature) if is_secure(job) else None
        return Expected(sent_by(strategy, file.signature), strategy, job.compression, masked)


def admit_update(store: Store, work: Row[Any], expected: Expected) -> int | None:
    """Check a delivered update; the samples that it stands for, None where they are masked too.

    Raises:
        BadTensors: it must not take part; the message says why.
    """
    if work.update is None:
        raise BadTensors("committed no weights")
    path = store.blobs.local_path(work.update)
    if expected.masked is not None:
        check_masked(path, expected.masked)
        return None
    with open_update(path, expected.compression, expected.signature) as update:
        check_update(update, expected.signature)
        if expected.strategy is not None:
            expected.strategy.check(update)
    return num_samples_of(work.metrics or {})


def kind_of_refusal(reason: str) -> str:
    """One word for why an update was rejected, of few: the sentences name tensors and numbers."""
    return next((kind for words, kind in REFUSALS if words in reason), "other")


def dominating(reports: Mapping[str, int]) -> tuple[str, ...]:
    """Sentences for the job's log about a site whose number of samples outweighs all others' by far.

    A site may lie about its number, and nobody can check it; that it decides alone can be seen.

    Args:
        reports: site -> samples of the updates that are averaged by their samples.
    """
    total = sum(reports.values())
    return tuple(
        f"{site} reports {samples} of the round's {total} samples and decides nearly alone; if that cannot "
        "be, look at the site, or count all alike (strategy.params.weighting: uniform)"
        for site, samples in reports.items()
        if len(reports) >= DOMINATED and samples > DOMINATING_SHARE * total
    )


def admit_files(store: Store, work: Row[Any]) -> None:
    """Check the archive of what a script handed over with put_file, if there is one.

    Raises:
        TransferError: it holds anything but plain files, too much of them, or is damaged.
    """
    if work.files is not None:
        content = archives.Content(
            "the script's files", TransferError, max_bytes=store.settings.max_files_bytes, flat=True
        )
        archives.check(store.blobs.local_path(work.files), content)


def weighted_means(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Sample-weighted mean of each finite metric over the sites that report it; `sample_num` is the sum."""
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    total = 0
    for report in reports:
        samples = num_samples_of(report)
        total += samples
        for name, value in report.items():
            if name == "sample_num" or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                sums[name] = sums.get(name, 0.0) + samples * float(value)
                weights[name] = weights.get(name, 0) + samples
    means = {name: sums[name] / weights[name] for name in sums}
    # Finite values may have an infinite sum, and no JSON can show that.
    return {**{name: mean for name, mean in means.items() if math.isfinite(mean)}, "sample_num": total}


def shown_means(job: Job, reports: list[dict[str, Any]]) -> dict[str, float]:
    """The means of a round that are kept and shown.

    Under a secure algorithm none where the job says so or where they would be a single site's, and never the
    number of samples.
    """
    if job.secure_algorithm is None:
        return weighted_means(reports)
    if not keeps_metrics(job) or len(reports) < MIN_REPORTS:
        return {}
    return {name: mean for name, mean in weighted_means(reports).items() if name != "sample_num"}
