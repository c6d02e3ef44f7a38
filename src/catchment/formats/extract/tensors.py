"""How stored tensors are listed among a result's extras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_LISTED = 5_000


def listed(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """The tensors, name -> dtype and shape, as entries of extras; so many at most, with their number."""
    shown = [
        {"name": name, "size": list(shape), "dType": dtype}
        for name, (dtype, shape), _ in zip(tensors, tensors.values(), range(MAX_LISTED), strict=False)
    ]
    return {"numTensors": len(tensors), "tensors": shown}
