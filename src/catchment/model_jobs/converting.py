"""A ModelJob's conversion: what the converter is asked, and what its answer is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from catchment.catalog import rows as catalog_rows
from catchment.errors import ConversionFailed
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from catchment.formats.extract.result import Extracted
from catchment.model_jobs import rows
from catchment.model_jobs.working import Task
from catchment.store.database import Transaction


def task_of(tx: Transaction, job: Row[Any]) -> Task:
    """What the job's converter is asked. Raises ConversionFailed where the job has no conversion."""
    spec = rows.spec_of(job)
    if spec.conversion is None:
        raise ConversionFailed("the job has no conversion")
    stored = _stored_signature(tx, job.source_id)
    inputs = (TensorSpec(each.name, each.dtype, _open(each.shape)) for each in spec.inputs)
    return Task(
        "convert",
        spec.conversion.mmdnn.from_,
        spec.conversion.mmdnn.to,
        signature=None if stored is None else stored.to_json(),
        inputs=tuple(each.to_json() for each in inputs),
        options=spec.conversion.options,
        tolerance=spec.tolerance,
    )


def _open(shape: list[int]) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else size for size in shape)


def _stored_signature(tx: Transaction, model_id: str) -> ModelSignature | None:
    """The signature that an extraction has left with the source version, where it says shapes."""
    row = catalog_rows.by_id(tx, model_id)
    signature = (row.config or {}).get("signature") or {}
    inputs = [_tensor(each) for each in signature.get("inputs", [])]
    outputs = [_tensor(each) for each in signature.get("outputs", [])]
    if not inputs or None in inputs or None in outputs:
        return None
    return ModelSignature(tuple(each for each in inputs if each), tuple(each for each in outputs if each))


def _tensor(told: Mapping[str, Any]) -> TensorSpec | None:
    """A tensor of an ormbfile; None where its shape or dtype is not said."""
    size, dtype = told.get("size"), told.get("dType", "")
    if not size or not dtype:
        return None
    return TensorSpec(told["name"], dtype, _open([int(each) for each in size]))


def differences(said: Mapping[str, Any], read: Extracted) -> list[str]:
    """What our own reading of converted files contradicts in what the converter said of them."""
    signature = ModelSignature.from_json(dict(said))
    problems: list[str] = []
    for what, theirs, ours in (
        ("input", signature.inputs, read.inputs),
        ("output", signature.outputs, read.outputs),
    ):
        if not ours:
            continue  # the format's files do not say; so the extraction's `absent` tells
        names = {each.name for each in ours}
        problems += [f"{what} {each.name!r} is not in the files" for each in theirs if each.name not in names]
        known = {each.name: each for each in ours}
        problems += [
            f"{what} {each.name!r} is {known[each.name].d_type} in the files, not {each.dtype}"
            for each in theirs
            if each.name in known and known[each.name].d_type not in ("", each.dtype)
        ]
    return problems
