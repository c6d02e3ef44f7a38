"""The job's `compression`: its types and their parameters, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catchment.compression.bf16 import Bf16
from catchment.compression.codec import Codec
from catchment.compression.int8 import Int8
from catchment.compression.topk import TopK
from catchment.errors import InvalidField


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Bf16Params(_Params):
    """bf16 has none."""


class Int8Params(_Params):
    """Parameters of int8."""

    block: Annotated[int, Field(ge=16, le=65536, description="Elements that share a scale.")] = 2048


class TopKParams(_Params):
    """Parameters of topk."""

    ratio: Annotated[float, Field(gt=0, le=1, description="Share of the elements that is sent.")] = 0.01


TYPES = ("bf16", "int8", "topk")


def codec_of(kind: str, params: Mapping[str, Any]) -> Codec:
    """The compression of that type (the job's `compression.type`) with these parameters.

    Raises:
        InvalidField: no such type, or a parameter that it does not have or that is out of range.
    """
    try:
        if kind == "bf16":
            Bf16Params(**params)
            return Bf16()
        if kind == "int8":
            return Int8(Int8Params(**params).block)
        if kind == "topk":
            return TopK(TopKParams(**params).ratio)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(("compression.params", *map(str, first["loc"])))
        raise InvalidField(field, first["msg"].lower()) from None
    raise InvalidField("compression.type", f"is {kind!r}; it must be one of {', '.join(TYPES)}")
