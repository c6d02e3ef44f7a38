"""Handing over metrics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from catchment.errors import SdkError
from catchment.sdk.folder import is_writer, task_folder, write_json
from catchment.sdk.plain import is_finite, plain
from catchment.wire.task import METRICS

_NUMBERS = ("accuracy", "loss", "precision", "recall_rate", "spend_time")


def commit_metrics(metrics: Mapping[str, Any]) -> None:
    """Hand over what was measured; a second call replaces the first.

    `sample_num`, the number of samples trained or evaluated on, is the weight of this site's result.
    `accuracy` and `loss` are averaged over the sites; other keys are kept. A value that is not finite is
    left out, with a warning. Only rank 0 of several workers writes.

    Args:
        metrics: name -> number (of Python, numpy or the framework), or anything that JSON can hold.

    Raises:
        SdkError: outside of a task, or a value that JSON cannot hold.
    """
    folder = task_folder()
    if not isinstance(metrics, Mapping):
        raise SdkError(f"metrics must be a dict of names and numbers, not a {type(metrics).__name__}")
    values = plain("metrics", dict(metrics))
    _warn_about_types(values)
    finite = {name: value for name, value in values.items() if is_finite(value)}
    for name in values.keys() - finite.keys():
        warnings.warn(f"metric '{name}' is not finite and is left out: {values[name]}", stacklevel=2)
    if is_writer():
        write_json(folder / METRICS, finite)


def _warn_about_types(values: dict[str, Any]) -> None:
    number = values.get("sample_num")
    if "sample_num" in values and (type(number) is not int or number <= 0):
        warnings.warn(f"sample_num must be an integer > 0, not {number!r}", stacklevel=3)
    for name in _NUMBERS:
        if name in values and type(values[name]) not in (int, float):
            warnings.warn(f"metric '{name}' must be a number, not {values[name]!r}", stacklevel=3)
