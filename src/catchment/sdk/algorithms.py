"""Optimizers and losses that a job asks its scripts to use."""

from __future__ import annotations

import warnings
from typing import Any

from catchment.errors import SdkError
from catchment.sdk.folder import task
from catchment.wire.messages import Algorithm

_LATER = {"optimizer": ("fedprox", "scaffold"), "loss": ("feddc",)}


def create_optimizer(**kwargs: Any) -> Any:
    """The optimizer that the job configures; None, with a warning, where it configures none.

    Args:
        kwargs: the algorithm's arguments; they win over the job's.

    Raises:
        SdkError: outside of a task, or for an algorithm that arrives in a later version.
    """
    return _create("optimizer", task().optimizer)


def create_loss(**kwargs: Any) -> Any:
    """The loss that the job configures; None, with a warning, where it configures none.

    Args:
        kwargs: the algorithm's arguments; they win over the job's.

    Raises:
        SdkError: outside of a task, or for an algorithm that arrives in a later version.
    """
    return _create("loss", task().loss)


def _create(kind: str, algorithm: Algorithm | None) -> None:
    if algorithm is None:
        warnings.warn(f"the job configures no {kind}; the script uses its own", stacklevel=3)
        return
    if algorithm.name.lower() in _LATER[kind]:
        raise SdkError(f"the {kind} '{algorithm.name}' arrives in a later version of Catchment")
    warnings.warn(f"the {kind} '{algorithm.name}' is not known; the script uses its own", stacklevel=3)
