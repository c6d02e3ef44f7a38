"""A ModelJob's conversion: what the converter is asked, and what its answer is held against."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from catchment.catalog import rows as catalog_rows
from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert.conversion import Conversion, Converter, Request
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.isolation import Isolation
from catchment.formats.convert.running import Bounds, Runner
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from catchment.formats.extract.result import Extracted
from catchment.model_jobs import rows
from catchment.store import Store

SEED = 20_260_101
"""Of the samples that source and result are compared with: the same for everybody who looks again."""


def convert(
    store: Store,
    job: Row[Any],
    source: Path,
    target: Path,
    stop: threading.Event,
    say: Callable[[str], None],
) -> Conversion:
    """Convert the files in `source` to the new folder `target`, in an environment that is built where needed.

    Raises:
        ConversionFailed: as Converter.convert; also where a field of the spec is what lacks.
        GateFailed, BackendUnavailable, JobStopped: as Converter.convert.
    """
    spec = rows.spec_of(job)
    if spec.conversion is None:
        raise ConversionFailed("the job has no conversion")
    request = Request(
        source=source,
        source_format=spec.conversion.mmdnn.from_,
        target_format=spec.conversion.mmdnn.to,
        signature=_stored_signature(store, job.source_id),
        inputs=tuple(TensorSpec(each.name, each.dtype, _open(each.shape)) for each in spec.inputs),
        options=spec.conversion.options,
        seed=SEED,
        tolerance=spec.tolerance,
    )
    folder = target.parent
    environments = Environments(store.settings.effective_cache_dir / "environments", progress=say)
    converter = Converter(environments, Runner(Bounds(), Isolation.tried_out(folder)), scratch=folder)
    try:
        return converter.convert(request, target, stop)
    except InvalidField as error:
        raise ConversionFailed(f"spec.{error}") from error


def _open(shape: list[int]) -> tuple[int | None, ...]:
    return tuple(None if size < 0 else size for size in shape)


def _stored_signature(store: Store, model_id: str) -> ModelSignature | None:
    """The signature that an extraction has left with the source version, where it says shapes."""
    row = store.db.read(lambda tx: catalog_rows.by_id(tx, model_id))
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
