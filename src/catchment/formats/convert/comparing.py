"""Comparing what two runtimes made of the same samples, output by output (NumPy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.formats.convert.samples import Arrays, Kind

FLOAT32_TOLERANCE = 1e-5
FLOAT16_TOLERANCE = 2e-3
LOSSY_TOLERANCE = 0.5
"""Of the outputs' own spread, for conversions that change numbers by design; argmax must agree as often as
`LOSSY_ARGMAX` says. It catches a broken model, and says nothing of a task's accuracy."""
LOSSY_ARGMAX = 0.7


@dataclass(frozen=True)
class OutputError:
    """How far one output is from its source's.

    Attributes:
        name: of the output.
        max_abs, mean_abs: errors over all samples where both are finite; errors of a "large"
            or a "known" sample are divided by its scale.
        share: the largest error as a share of what was allowed; above 1 is too much.
        argmax_agreement: share of rows whose largest entry is at the same place; None where there is one
            column only.
        worst: name of the sample with the largest share.
        problem: "" or what cannot be told in numbers: another shape, dtype, or NaN on one side only.
    """

    name: str
    max_abs: float
    mean_abs: float
    share: float
    argmax_agreement: float | None
    worst: str
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the report is stored."""
        return {key: value for key, value in vars(self).items() if value not in ("", None) or key == "worst"}


@dataclass(frozen=True)
class Tolerance:
    """What may differ: |result - source| <= tolerance * (1 + the source's largest value in this output).

    Attributes:
        relative: the tolerance; None: by the output's dtype.
        lossy: the conversion changes numbers by design; another measure is used and the report says so.
    """

    relative: float | None = None
    lossy: bool = False

    def of(self, dtype: np.dtype[Any]) -> float:
        """The tolerance of an output of that dtype."""
        if self.relative is not None:
            return self.relative
        if self.lossy:
            return LOSSY_TOLERANCE
        return FLOAT16_TOLERANCE if dtype == np.float16 else FLOAT32_TOLERANCE


@dataclass(frozen=True)
class _Pair:
    """One output of one sample on both sides."""

    kind: Kind
    source: NDArray[Any]
    result: NDArray[Any]


def compare_output(
    name: str, pairs: Sequence[tuple[Kind, Arrays, Arrays]], tolerance: Tolerance
) -> OutputError:
    """Compare one output over all samples that both sides took.

    Args:
        name: of the output.
        pairs: sample, what the source made of it, what the result made of it.
        tolerance: what may differ.
    """
    seen = [_Pair(kind, source[name], result[name]) for kind, source, result in pairs]
    for pair in seen:
        if problem := _cannot_be_compared(pair):
            return OutputError(name, float("inf"), float("inf"), float("inf"), None, pair.kind.name, problem)
    if seen[0].source.dtype.kind not in "fc":
        return _compare_exactly(name, seen, tolerance)
    return _compare_floats(name, seen, tolerance)


def _cannot_be_compared(pair: _Pair) -> str:
    source, result = pair.source, pair.result
    if source.shape != result.shape:
        return f"the source gives the shape {list(source.shape)}, the result {list(result.shape)}"
    if source.dtype.kind != result.dtype.kind or (source.dtype != result.dtype and source.dtype.kind != "U"):
        return f"the source gives {source.dtype}, the result {result.dtype}"
    if source.dtype.kind == "f":
        if not np.array_equal(np.isnan(source), np.isnan(result)):
            return "NaN where the other side has none"
        infinite = np.isinf(source) | np.isinf(result)
        if not np.array_equal(source[infinite], result[infinite]):
            return "infinite where the other side is not"
    return ""


def _compare_exactly(name: str, seen: Sequence[_Pair], tolerance: Tolerance) -> OutputError:
    """Labels, counts, text: equal or not."""
    different = [
        (float(np.mean(each.source != each.result)) if each.source.size else 0.0, each) for each in seen
    ]
    total = sum(each.source.size for each in seen)
    wrong = sum(share * each.source.size for share, each in different) / max(1, total)
    share, worst = max(different, key=lambda found: found[0])
    allowed = 1 - LOSSY_ARGMAX if tolerance.lossy else 0.0
    too_much = _share(wrong, allowed)
    problem = f"{wrong:.2%} of the values are others" if too_much > 1 else ""
    return OutputError(name, float(share > 0), wrong, too_much, 1.0 - wrong, worst.kind.name, problem)


def _compare_floats(name: str, seen: Sequence[_Pair], tolerance: Tolerance) -> OutputError:
    max_abs = share = 0.0
    sums, count, worst = 0.0, 0, seen[0].kind.name
    for pair in seen:
        finite = np.isfinite(pair.source)
        source = pair.source[finite].astype(np.float64)
        if not source.size:
            continue
        errors = np.abs(pair.result[finite].astype(np.float64) - source) / pair.kind.scale
        allowed = tolerance.of(pair.source.dtype) * _measure(source, pair.kind, tolerance)
        own = _share(float(errors.max()), allowed)
        if own > share:
            share, worst = own, pair.kind.name
        max_abs = max(max_abs, float(errors.max()))
        sums, count = sums + float(errors.sum()), count + source.size
    agreement = _argmax_agreement(seen)
    problem = ""
    if share > 1:
        problem = f"the error {max_abs:.3g} is {share:.3g} times what is allowed"
    elif tolerance.lossy and agreement is not None and agreement < LOSSY_ARGMAX:
        problem = f"the largest entry is another one in {1 - agreement:.0%} of the rows"
    return OutputError(name, max_abs, sums / max(1, count), share, agreement, worst, problem)


def _share(error: float, allowed: float) -> float:
    """The error as a share of what is allowed, which may be nothing."""
    if allowed > 0:
        return error / allowed
    return float("inf") if error > 0 else 0.0


def _measure(source: NDArray[Any], kind: Kind, tolerance: Tolerance) -> float:
    """What the tolerance is multiplied with: 1 + the largest value, or the spread of what is lossy."""
    if tolerance.lossy:
        return max(float(source.std()), float(np.abs(source).max()) / 2) / kind.scale + 1e-3
    return 1.0 + float(np.abs(source).max()) / kind.scale


def _argmax_agreement(seen: Sequence[_Pair]) -> float | None:
    """Share of rows with the same largest entry. Rows whose two largest are equal but for rounding agree."""
    rows = agreed = 0
    for pair in seen:
        if pair.source.ndim < 1 or pair.source.shape[-1] < 2 or not pair.source.size:
            continue
        source = np.nan_to_num(pair.source.reshape(-1, pair.source.shape[-1]).astype(np.float64))
        result = np.nan_to_num(pair.result.reshape(source.shape).astype(np.float64))
        chosen = np.take_along_axis(source, result.argmax(axis=1)[:, None], axis=1)[:, 0]
        best = source.max(axis=1)
        agreed += int(np.sum(best - chosen <= 1e-6 * (np.abs(best) + 1e-6)))
        rows += len(source)
    return agreed / rows if rows else None
