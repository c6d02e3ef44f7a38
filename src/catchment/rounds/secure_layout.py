"""The shape of a round's masked updates, and their admission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment.errors import BadTensors
from catchment.jobs import rows
from catchment.jobs.secure import secure_order
from catchment.models.signature import Signature, TensorInfo
from catchment.models.tensors import TensorFile
from catchment.secagg.noised import layout_of
from catchment.secagg.vector import Layout
from catchment.strategies.plan import sent_by, strategy_of
from catchment.wire.secagg import MASKED, SecureOrder


def masked_signature(layout: Layout) -> Signature:
    """What the file of a masked update holds."""
    return {MASKED: TensorInfo("U32", (layout.num_words,))}


def check_masked(path: Path, layout: Layout) -> None:
    """Admit a masked update by its length; nothing else can be told of it.

    Raises:
        BadTensors: it is no masked update of that length.
    """
    with TensorFile.open(path) as file:
        if file.signature != masked_signature(layout):
            found = ", ".join(f"{name} {info}" for name, info in list(file.signature.items())[:3])
            raise BadTensors(f"a masked update of {layout.num_words} words was expected, this holds {found}")


def round_layout(row: Row[Any], attempt: Row[Any], weights: Signature) -> Layout:
    """Where each tensor stands in the masked vectors of an attempt."""
    job = rows.spec_of(row)
    order = SecureOrder.model_validate(secure_order(job, "-", attempt.cohort))
    return layout_of(order, sent_by(strategy_of(job), weights))
