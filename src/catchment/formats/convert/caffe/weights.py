"""The blobs of a caffemodel file, by layer name (caffe.proto: NetParameter, LayerParameter, BlobProto)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.dimensions import checked_size
from catchment.formats.protobuf import Broken, Message, exact_text, mapped, message, numbers, signed
from catchment.formats.protobuf_reals import reals

V1_LAYERS, LAYER = 2, 100
"""Field numbers inside V1's `layers`: name 4, blobs 6; inside `layer`: name 1, blobs 7."""
_NAME_AND_BLOBS = {V1_LAYERS: (4, 6), LAYER: (1, 7)}
_LEGACY_DIMS = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLES = 5, 7, 8


@dataclass(frozen=True)
class Blob:
    """A trained parameter.

    Attributes:
        values: flat float32 numbers, a view of the file where they are stored as such.
        shape: as stored; files of the first format have four dimensions, ones in front.
    """

    values: np.ndarray
    shape: tuple[int, ...]


def read_blobs(path: Path) -> dict[str, list[Blob]]:
    """Blobs of each layer that has any.

    Raises:
        ConversionFailed: the file is no caffemodel, or a blob has not as many values as its shape says.
    """
    found: dict[str, list[Blob]] = {}
    try:
        for number, value in Message(mapped(path)):
            if number in _NAME_AND_BLOBS:
                layer, blobs = _layer(message(value), *_NAME_AND_BLOBS[number])
                if blobs:
                    found[layer] = blobs
    except Broken as problem:
        raise ConversionFailed(f"{path.name} is no caffemodel: {problem}") from None
    return found


def _layer(data: Message, name_field: int, blobs_field: int) -> tuple[str, list[Blob]]:
    layer, blobs = "", []
    for number, value in data:
        if number == name_field:
            layer = exact_text(value)
        elif number == blobs_field:
            blobs.append(message(value))
    return layer, [_blob(each, layer) for each in blobs]


def _blob(data: Message, layer: str) -> Blob:
    dims, shape = dict.fromkeys(_LEGACY_DIMS, 0), None
    for number, value in data:
        if number in dims:
            dims[number] = signed(value)
        elif number == _SHAPE:
            shape = [dim for found, each in message(value) if found == 1 for dim in numbers(each)]
    values = reals(data, _DATA, "<f4")
    if not len(values):
        values = reals(data, _DOUBLES, "<f8").astype(np.float32)
    stored = tuple(dims.values()) if shape is None else tuple(shape)
    if checked_size(stored, f"a blob of layer '{layer}'") != len(values):
        raise ConversionFailed(
            f"a blob of layer '{layer}' has {len(values)} values, its shape {list(stored)} says otherwise"
        )
    return Blob(values, stored)
