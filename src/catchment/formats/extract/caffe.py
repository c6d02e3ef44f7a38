"""Caffe: layers and inputs from the prototxt, learned numbers from the caffemodel."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from catchment.errors import ExtractionFailed
from catchment.formats.extract import prototxt
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.prototxt import Block
from catchment.formats.extract.result import Extracted, TensorSpec, count, shown, sizes
from catchment.formats.protobuf import Message, message, numbers, signed, text

MAX_PROTOTXT_BYTES = 4 * 2**20
_DTYPE = "float32"
"""Caffe computes in single precision, whatever it stores."""
_OLD_NAMES = {"MVN": "MVN", "LRN": "LRN", "RELU": "ReLU", "BNLL": "BNLL", "TANH": "TanH", "ABSVAL": "AbsVal"}
_OLD_NAMES |= {"HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "IM2COL": "Im2col", "ARGMAX": "ArgMax"}


def read(folder: ModelFolder) -> Extracted:
    """The one pair of *.prototxt and *.caffemodel; of several prototxt the one named deploy*."""
    name = folder.one("deploy*.prototxt" if len(folder.all("deploy*.prototxt")) == 1 else "*.prototxt")
    net = prototxt.parse(folder.content(name, MAX_PROTOTXT_BYTES))
    layers = [layer for layer in (*net.blocks("layer"), *net.blocks("layers")) if _is_for_use(layer)]
    if not layers:
        raise ExtractionFailed(f"{shown(name)} is no net of Caffe: it has no layers")
    weights_name = folder.one("*.caffemodel")
    with folder.mapped(weights_name) as data:
        stored, shapes = _weights(Message(data))
    if not stored:
        raise ExtractionFailed(f"{shown(weights_name)} is no caffemodel: it has no layers")
    inputs = _inputs(net, layers)
    outputs = tuple(TensorSpec(top, None, _DTYPE) for top in _outputs(inputs, layers))
    absent = [f"the size of {shown(each.name)}: not in the prototxt" for each in inputs if each.size is None]
    absent += [] if inputs else ["inputs: the net reads its data itself"]
    absent += ["the sizes of the outputs: they are not in the files and would have to be inferred"]
    absent += ["the Caffe version: not in the files"]
    return Extracted(
        "CaffeModel",
        "Caffe",
        inputs=inputs,
        outputs=outputs,
        layers=Counter(_kind(layer) for layer in layers),
        parameters=count(shapes),
        extras={"net": net.text("name"), "layersWithoutWeights": _unstored(layers, stored)},
        absent=tuple(absent),
    )


def _unstored(layers: list[Block], stored: set[str]) -> list[str]:
    """Layers of the net that the caffemodel does not know: the files may not belong together."""
    names = [layer.text("name") for layer in layers if _kind(layer) not in ("Input", "Data")]
    return [name for name in names if name not in stored][:100]


def _is_for_use(layer: Block) -> bool:
    """Whether the layer is there when the net is used, not trained."""
    phases = [rule.text("phase") for rule in layer.blocks("include")]
    if any(phases) and "TEST" not in phases:
        return False
    return all(rule.text("phase") != "TEST" for rule in layer.blocks("exclude"))


def _kind(layer: Block) -> str:
    kind = layer.text("type")
    if not kind.isupper():
        return kind
    return _OLD_NAMES.get(kind) or "".join(part.capitalize() for part in kind.split("_"))


def _inputs(net: Block, layers: list[Block]) -> tuple[TensorSpec, ...]:
    """Blobs that are named as inputs, in either way that Caffe knows."""
    names = net.texts("input")
    shapes: list[tuple[int, ...] | None] = [
        _dims(block.texts("dim"), "input") for block in net.blocks("input_shape")
    ]
    if not shapes:
        dims = _dims(net.texts("input_dim"), "input")
        shapes = [dims[begin:end] for begin, end in pairwise(range(0, len(dims) + 1, 4))]
    shapes += [None] * (len(names) - len(shapes))
    found = [TensorSpec(name, shape, _DTYPE) for name, shape in zip(names, shapes, strict=False)]
    for layer in layers:
        if _kind(layer) == "Input":
            given = [block for param in layer.blocks("input_param") for block in param.blocks("shape")]
            for index, top in enumerate(layer.texts("top")):
                block = given[min(index, len(given) - 1)] if given else None
                found.append(TensorSpec(top, _dims(block.texts("dim"), top) if block else None, _DTYPE))
    return tuple(found)


def _dims(texts: list[str], whose: str) -> tuple[int, ...]:
    for each in texts:
        if not each.isdecimal() or len(each) > 18:
            raise ExtractionFailed(f"the size {shown(each)} of {shown(whose)} is no number")
    return sizes([int(each) for each in texts], whose)


def _outputs(inputs: tuple[TensorSpec, ...], layers: list[Block]) -> list[str]:
    """Blobs that no later layer reads, as Caffe itself finds them; a layer may write what it reads."""
    unread = dict.fromkeys(each.name for each in inputs)
    for layer in layers:
        for bottom in layer.texts("bottom"):
            unread.pop(bottom, None)
        unread.update(dict.fromkeys(layer.texts("top")))
    return list(unread)


def _weights(net: Message) -> tuple[set[str], list[tuple[int, ...]]]:
    """Names of the stored layers, and the shapes of all their blobs."""
    names: set[str] = set()
    shapes: list[tuple[int, ...]] = []
    for number, value in net:
        if number not in (2, 100):  # layers of the old and of the new kind
            continue
        of_name, of_blobs = (1, 7) if number == 100 else (4, 6)
        for part, item in message(value):
            if part == of_name:
                names.add(text(item))
            elif part == of_blobs:
                shapes.append(_blob_shape(message(item)))
    return names, shapes


def _blob_shape(blob: Message) -> tuple[int, ...]:
    """The shape, or the four sizes that Caffe wrote before it had one."""
    old = [0, 0, 0, 0]
    dims: list[int] | None = None
    for number, value in blob:
        if number <= 4:
            old[number - 1] = signed(value)
        elif number == 7:
            dims = [size for part, item in message(value) if part == 1 for size in numbers(item)]
    shape = sizes(old if dims is None else dims, "a blob")
    if min(shape, default=0) < 0:
        raise ExtractionFailed(f"a blob of the shape {list(shape)} cannot be")
    return shape
