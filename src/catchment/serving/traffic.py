"""How a serving's traffic is split between what runs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catchment.serving.workload import Workload


def split(parts: Mapping[str, int], percent: int) -> dict[str, int]:
    """`percent` whole percents shared out in these proportions, by the largest remainder.

    Args:
        parts: proportions by workload key, not all 0.
        percent: 0 to 100.
    """
    whole = sum(parts.values())
    exact = {key: part * percent / whole for key, part in parts.items()}
    floors = {key: int(each) for key, each in exact.items()}
    left = percent - sum(floors.values())
    for key in sorted(exact, key=lambda key: (floors[key] - exact[key], key))[:left]:
        floors[key] += 1
    return floors


def shares(workloads: Sequence[Workload], traffic: Mapping[str, int]) -> dict[str, int]:
    """The predictors' shares by workload key; `traffic` is theirs by predictor."""
    return {each.key: traffic[each.predictor] for each in workloads}


def weights(stable: Mapping[str, int], new: Mapping[str, int], percent: int) -> dict[str, int]:
    """The traffic with `percent` for the new revision and the rest for the stable one; 100 together.

    Args:
        stable: shares within the stable revision by workload key; empty when there is none.
        new: shares within the new one.
        percent: for the new one; without a stable one it gets all, or nothing at 0.
    """
    if not stable:
        return split(new, 100) if percent else {}
    old = split(stable, 100 - percent)
    found = {**old, **{key: old.get(key, 0) + part for key, part in split(new, percent).items()}}
    return {key: part for key, part in found.items() if part}
