"""A ModelJob's conversion: what the converter is asked, and what its answer is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from catchment.catalog import rows as catalog_rows
from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from catchment.formats.extract.result import Extracted
from catchment.model_jobs import rows
from catchment.model_jobs.working import Task
from catchment.store.database import Transaction


def task_of(tx: Transaction, job: Row[Any]) -> Task:
    """What the job's converter is asked.

    Raises:
        ConversionFailed: the job has no conversion, or a field of the spec is what lacks.
    """
    spec = rows.spec_of(job)
    if spec.conversion is None:
        raise ConversionFailed("the job has no conversion")
    inputs = tuple(TensorSpec(each.name, each.dtype, _open(each.shape)) for each in spec.inputs)
    try:
        stored = _stored_signature(tx, job.source_id, inputs)
    except InvalidField as error:
        raise ConversionFailed(f"spec.{error}") from error
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


def _stored_signature(tx: Transaction, model_id: str, asked: tuple[TensorSpec, ...]) -> ModelSignature | None:
    """What the source version says of itself, where it says the shapes of all inputs.

    Outputs count by their names: few formats say their sizes. What is asked for may open or fix a dimension.

    Raises:
        InvalidField: what is asked for contradicts it.
    """
    row = catalog_rows.by_id(tx, model_id)
    signature = (row.config or {}).get("signature") or {}
    inputs = [_tensor(each) for each in signature.get("inputs", [])]
    outputs = [_tensor(each) for each in signature.get("outputs", [])]
    if not inputs or any(each.shape is None or not each.dtype for each in inputs):
        return None
    wanted = {each.name: each for each in asked}
    if strange := sorted(set(wanted) - {each.name for each in inputs}):
        raise InvalidField("inputs", f"names {strange[0]!r}, which the version's signature does not know")
    agreed = (_agreed(each, wanted[each.name]) if each.name in wanted else each for each in inputs)
    return ModelSignature(tuple(agreed), tuple(outputs))


def _tensor(told: Mapping[str, Any]) -> TensorSpec:
    """A tensor of an ormbfile, which has no empty sizes and dtypes: these are not known then."""
    size = [int(each) for each in told.get("size", ())]
    return TensorSpec(told["name"], told.get("dType", ""), _open(size) if size else None)


def _agreed(stored: TensorSpec, asked: TensorSpec) -> TensorSpec:
    """The stored tensor with the dimensions open, or fixed, that are asked to be."""
    if not stored.fits(asked):
        raise InvalidField("inputs", f"says {asked}, the version's signature says {stored}")
    return replace(stored, shape=asked.shape)


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
