"""The ModelJob of a retraining: its body, and its own check of that body, in the words of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catchment.errors import InvalidField
from catchment.model_jobs.spec import parse
from catchment.retraining import naming

if TYPE_CHECKING:
    from catchment.retraining.plan import Servable

ONNX = "ONNX"
_SOURCE = "v1"
"""Stands for the version that there will be: its name is Catchment's own, and short."""
_OPTIONS = "spec.conversion.options"
_FIELDS = {
    "spec.conversion.mmdnn.to": "convert.to",
    "spec.model": "register_as.name",
    "spec.desiredTag": "register_as.name",
}


def converts_further(convert: Servable) -> bool:
    """Whether something is made of the grafted model; else a ModelJob only reads its signature."""
    return bool(convert.options) or convert.to.upper() != ONNX


def body(convert: Servable, name: str, reference: str) -> dict[str, Any]:
    """What the ModelJob is created with.

    Args:
        convert: as the plan has it.
        name: of the ModelJob.
        reference: of the version with the weights in their graph, `namespace/name:version`.
    """
    spec: dict[str, Any] = {"model": reference}
    if converts_further(convert):
        target = f"{reference.removesuffix(naming.MADE_OF[0])}-{convert.to.lower()}"
        pair = {"from": ONNX, "to": convert.to}
        spec |= {"desiredTag": target, "conversion": {"mmdnn": pair, "options": convert.options}}
    else:
        spec |= {"extraction": {"format": ONNX}}
    return {"metadata": {"name": name}, "spec": spec}


def check(convert: Servable, namespace: str, model: str) -> None:
    """Refuse what the ModelJob would be refused for, before there is anything to convert.

    Args:
        convert: as the plan has it.
        namespace: of the plan.
        model: that the result is registered as.

    Raises:
        InvalidField: as ModelJobs have it, with the plan's field.
    """
    version = naming.grafted_version(_SOURCE, further=converts_further(convert))
    try:
        parse(body(convert, "retrain", f"{namespace}/{model}:{version}"), namespace)
    except InvalidField as error:
        raise InvalidField(_plans_field(error.field), error.problem) from None


def _plans_field(field: str) -> str:
    if field == _OPTIONS or field.startswith(f"{_OPTIONS}."):
        return field.replace(_OPTIONS, "convert.options", 1)
    return _FIELDS.get(field, "convert")
