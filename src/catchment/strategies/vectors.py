"""What a client sends besides its model's tensors, and which of those it sends.

Coordinator, site and SDK read the same rules here. Vectors of an algorithm carry names that begin with
`@`, which no tensor of a model may:

```text
@control/NAME   SCAFFOLD, FedDC: change of the client's control variate of tensor NAME
@num_steps      FedNova: the optimizer steps that the client made, one element
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from catchment.errors import InvalidField
from catchment.models.signature import Signature, TensorInfo, update_signature

MARK = "@"
CONTROL = "@control/"
NUM_STEPS = "@num_steps"
WITH_VECTORS = ("scaffold", "feddc", "fednova")
"""Algorithms whose clients send vectors of their own."""


def partition(params: Mapping[str, Any], names: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Which tensors are shared, local and frozen, by the strategy's parameters `shared` and `local`.

    Patterns are shell patterns (`*.lora_*`). Shared tensors are aggregated, by default all that are not
    local; local ones stay at their sites (personal layers, local batch normalisation: Arivazhagan et al.
    2019, Li et al. 2021); frozen ones keep the values that the run began with (adapters only).

    Raises:
        InvalidField: a pattern fits no tensor, or nothing would be shared.
    """
    known = list(names)
    local_patterns, shared_patterns = params.get("local", []), params.get("shared", ["*"])
    if known and not local_patterns and list(shared_patterns) == ["*"]:
        return known, [], []
    for field, patterns in (("local", local_patterns), ("shared", shared_patterns)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise InvalidField(f"strategy.params.{field}", f"{pattern!r} fits no tensor of the model")
    local = [name for name in known if _fits(name, local_patterns)]
    shared = [name for name in known if name not in set(local) and _fits(name, shared_patterns)]
    if not shared:
        raise InvalidField("strategy.params.shared", "no tensor of the model would be shared")
    kept = {*local, *shared}
    return shared, local, [name for name in known if name not in kept]


def algorithm_of(*names: str | None) -> str | None:
    """The first of a job's strategy, optimizer and loss, by name, whose vectors travel too; None for none."""
    return next((name for name in names if name in WITH_VECTORS), None)


def sent_signature(
    weights: Signature, *, strategy: Mapping[str, Any] | None = None, algorithm: str | None = None
) -> Signature:
    """Names, dtypes and shapes of what a client sends in a round.

    Args:
        weights: signature of the global weights.
        strategy: the strategy's parameters.
        algorithm: name of the algorithm whose vectors travel too: scaffold, feddc, fednova; others none.
    """
    shared, _, _ = partition(strategy or {}, weights)
    model = update_signature({name: weights[name] for name in shared})
    floats = {name: info for name, info in model.items() if info.is_float}
    if algorithm in ("scaffold", "feddc"):
        return {**model, **{CONTROL + name: info for name, info in floats.items()}}
    if algorithm == "fednova":
        return {**model, NUM_STEPS: TensorInfo("F64", (1,))}
    return model


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
