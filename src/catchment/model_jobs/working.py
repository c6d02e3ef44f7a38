"""What the middle step of a ModelJob does to files: the same here and in a pod, without a store."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from catchment import errors
from catchment.errors import CatchmentError, ConversionFailed, ExtractionFailed, GateFailed, InvalidField
from catchment.formats.convert.conversion import Conversion, Converter, Request
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.isolation import Isolation
from catchment.formats.convert.running import Bounds, Runner
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from catchment.formats.extract.running import run_extraction

SEED = 20_260_101
"""Of the samples that source and result are compared with: the same for everybody who looks again."""
Found = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One step's work.

    Attributes:
        kind: read a model's signature, or make another format of it.
        format: of the files.
        target: format to make.
        signature: stored with the source, as JSON; None: there is none that says shapes.
        inputs: that the user gave, `{"name", "dType", "size"}`.
        options, tolerance: of the conversion.
    """

    kind: Literal["extract", "convert"]
    format: str
    target: str = ""
    signature: Mapping[str, Any] | None = None
    inputs: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads."""
        return {**vars(self), "inputs": list(self.inputs)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The task that `to_json` wrote."""
        return cls(**{**value, "inputs": tuple(value["inputs"])})

    def request(self, source: Path) -> Request:
        """The conversion's request."""
        return Request(
            source=source,
            source_format=self.format,
            target_format=self.target,
            signature=self._signature(),
            inputs=tuple(map(_tensor, self.inputs)),
            options=self.options,
            seed=SEED,
            tolerance=self.tolerance,
        )

    def _signature(self) -> ModelSignature | None:
        if self.signature is None:
            return None
        ends = (tuple(map(_tensor, self.signature[key])) for key in ("inputs", "outputs"))
        return ModelSignature(*ends)


def _tensor(told: Mapping[str, Any]) -> TensorSpec:
    size = told.get("size")
    shape = None if size is None else tuple(None if length < 0 else length for length in size)
    return TensorSpec(told["name"], told["dType"], shape)


def work(task: Task, source: Path, made: Path, environments: Environments, stop: threading.Event) -> Found:
    """Do the task with the files in `source`; what it found. A conversion writes the new folder `made`.

    Raises:
        ExtractionFailed: the files are damaged, hostile, or of another format.
        ConversionFailed, GateFailed, BackendUnavailable, JobStopped: as Converter.convert; also where a field
            of the spec is what lacks.
    """
    if task.kind == "extract":
        return run_extraction(source, task.format).to_json()
    runner = Runner(Bounds(), Isolation.tried_out(made.parent))
    try:
        converted = Converter(environments, runner, scratch=made.parent).convert(
            task.request(source), made, stop
        )
    except InvalidField as error:
        raise ConversionFailed(f"{_place(error.field)}: {error.problem}") from error
    return _found(converted)


def _place(field: str) -> str:
    """Where the user finds a field of the conversion's request: the rest are its options."""
    if field.startswith("signature."):
        return f"the version's {field}"
    return f"spec.{field}" if field.partition(".")[0] == "inputs" else f"spec.conversion.options.{field}"


def _found(converted: Conversion) -> Found:
    return {
        "backend": converted.backend,
        "format": converted.report.target_format,
        "report": converted.report.to_json(),
        "signature": converted.signature.to_json(),
        "passedOver": dict(converted.passed_over),
        "notIsolated": dict(converted.missing),
        "log": converted.log,
    }


def told(found: Found) -> str:
    """A conversion in one sentence."""
    report = found["report"]
    largest = max((float(each["max_abs"]) for each in report["outputs"]), default=None)
    compared = "not compared in numbers" if largest is None else f"largest error {largest:.3g}"
    words = f"converted {report['source_format']} to {found['format']} with {found['backend']}, {compared}"
    return words + (", lossy by design" if report["lossy"] else "")


def problem(error: CatchmentError) -> dict[str, Any]:
    """An error as JSON, for whoever waits for the outcome."""
    more = {key: value for key in ("log", "report") if (value := getattr(error, key, None))}
    return {"type": type(error).__name__, "message": str(error), **more}


def as_error(told: Mapping[str, Any]) -> CatchmentError:
    """The error that `problem` wrote, as far as a task's errors go; anything else has failed."""
    message, log = str(told.get("message", "it failed"))[:4000], str(told.get("log", ""))[:20_000]
    kind = told.get("type")
    if kind == "GateFailed" and isinstance(told.get("report"), dict):
        return GateFailed(message, told["report"])
    if kind in ("ExtractionFailed", "FormatMismatch"):
        return {"ExtractionFailed": ExtractionFailed, "FormatMismatch": errors.FormatMismatch}[kind](message)
    return ConversionFailed(message, log)
