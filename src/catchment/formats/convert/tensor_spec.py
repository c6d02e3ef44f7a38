"""The inputs and outputs of a model as conversion speaks of them (standard library only)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from catchment.errors import InvalidField

DTYPES = (
    *("float16", "float32", "float64", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
MAX_DIMENSIONS = 16
MAX_TENSORS = 1000


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: as the model's runtime knows it.
        dtype: one of DTYPES.
        shape: lengths of the dimensions, None where any length will do; None: nothing is known of it.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def to_json(self) -> dict[str, Any]:
        """With the keys of stored signatures: name, dType, size (-1 for an open dimension)."""
        told: dict[str, Any] = {"name": self.name, "dType": self.dtype}
        if self.shape is not None:
            told["size"] = [-1 if length is None else length for length in self.shape]
        return told

    @classmethod
    def from_json(cls, value: Any, field: str) -> TensorSpec:
        """The tensor of a stored signature or of a job's `inputs`.

        Raises:
            InvalidField: a key below `field` is missing or wrong.
        """
        if not isinstance(value, Mapping):
            raise InvalidField(field, "must be an object with name, dType and size")
        name, dtype = value.get("name"), value.get("dType")
        if not isinstance(name, str) or not name or len(name) > 1000:
            raise InvalidField(f"{field}.name", "must be a text that is not empty")
        if dtype not in DTYPES:
            raise InvalidField(f"{field}.dType", f"must be one of {', '.join(DTYPES)}")
        return cls(name, dtype, _shape(value.get("size"), f"{field}.size"))

    def fits(self, other: TensorSpec) -> bool:
        """Whether dtype and shape can be the same; what one of the two leaves open fits."""
        if self.dtype != other.dtype or self.shape is None or other.shape is None:
            return self.dtype == other.dtype
        pairs = zip(self.shape, other.shape, strict=False)
        return len(self.shape) == len(other.shape) and all(a == b or None in (a, b) for a, b in pairs)

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name} {self.dtype}[{shape}]"


@dataclass(frozen=True)
class ModelSignature:
    """What a model takes and gives, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As stored signatures are written."""
        return {
            "inputs": [each.to_json() for each in self.inputs],
            "outputs": [each.to_json() for each in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], field: str = "signature") -> ModelSignature:
        """The signature that `to_json`, or an extraction, wrote.

        Raises:
            InvalidField: a key below `field` is missing or wrong.
        """
        return cls(
            specs(value.get("inputs") or (), f"{field}.inputs"),
            specs(value.get("outputs") or (), f"{field}.outputs"),
        )


def specs(values: Any, field: str) -> tuple[TensorSpec, ...]:
    """The tensors of a list.

    Raises:
        InvalidField: a key below `field` is missing or wrong, or a name comes twice.
    """
    if not isinstance(values, (list, tuple)) or len(values) > MAX_TENSORS:
        raise InvalidField(field, f"must be a list of at most {MAX_TENSORS} tensors")
    found = tuple(TensorSpec.from_json(value, f"{field}[{index}]") for index, value in enumerate(values))
    if len({each.name for each in found}) != len(found):
        raise InvalidField(field, "names a tensor twice")
    return found


def completed(own: Iterable[TensorSpec], given: Iterable[TensorSpec], field: str) -> tuple[TensorSpec, ...]:
    """What a file says of its inputs, with its open lengths filled from what was given for it.

    Raises:
        InvalidField: the given ones contradict the file.
    """
    own, known = tuple(own), {each.name: each for each in given}
    names = [each.name for each in own]
    if strange := sorted(set(known) - set(names)):
        raise InvalidField(field, f"names {strange[0]!r}, the model's inputs are {', '.join(names)}")
    return tuple(_filled(each, known[each.name], field) if each.name in known else each for each in own)


def _filled(own: TensorSpec, given: TensorSpec, field: str) -> TensorSpec:
    if not own.fits(given):
        raise InvalidField(field, f"says {given}, the model's file says {own}")
    if own.shape is None or given.shape is None:
        return replace(own, shape=own.shape if given.shape is None else given.shape)
    return replace(
        own, shape=tuple(a if b is None else b for a, b in zip(own.shape, given.shape, strict=True))
    )


def _shape(value: Any, field: str) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) > MAX_DIMENSIONS:
        raise InvalidField(field, f"must be a list of at most {MAX_DIMENSIONS} lengths")
    for length in value:
        if isinstance(length, bool) or not isinstance(length, int) or not -1 <= length < 2**31 or length == 0:
            raise InvalidField(field, "must hold lengths of 1 or more, or -1 for an open dimension")
    return tuple(None if length == -1 else length for length in value)
