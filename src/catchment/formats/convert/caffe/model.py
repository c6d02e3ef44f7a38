"""A Caffe network as it runs in the TEST phase: its layers in order, its inputs, and what nobody consumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catchment.errors import ConversionFailed
from catchment.formats.convert.caffe.legacy import V1_TYPES
from catchment.formats.convert.caffe.params import Params
from catchment.formats.convert.caffe.prototxt import parse
from catchment.formats.convert.caffe.weights import Blob, read_blobs
from catchment.formats.convert.files import only_file, read_text

LOSSES = {
    "Accuracy",
    "ContrastiveLoss",
    "EuclideanLoss",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
}
"""Left out of a converted model: they need labels."""

DATA_SOURCES = {"Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData", "AnnotatedData"}
"""Their tops that are used become inputs."""


@dataclass(frozen=True)
class Layer:
    """One layer: `params` is the whole message, `blobs` are its trained parameters."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Params
    blobs: tuple[Blob, ...]


@dataclass(frozen=True)
class Net:
    """A network.

    Attributes:
        name: of the network.
        inputs: blob -> shape; None where the files have none.
        layers: in the order of computation, without inputs, losses and data sources.
        outputs: blobs that nobody consumes, in order.
        dropped: sentences about layers that were left out.
    """

    name: str
    inputs: dict[str, tuple[int, ...] | None]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    dropped: tuple[str, ...]


def read_net(folder: Path) -> Net:
    """The network of a folder with one prototxt and one caffemodel.

    Raises:
        ConversionFailed: a file is missing or broken, or a layer reads a blob that is not there.
    """
    drawing = only_file(folder, "*.prototxt")
    blobs = read_blobs(only_file(folder, "*.caffemodel"))
    net = Params(parse(read_text(drawing), drawing.name), drawing.name)
    layers = _layers(net, blobs)
    inputs = _declared_inputs(net)
    kept, dropped = [], []
    for layer in layers:
        if layer.type == "Input":
            inputs.update(_input_layer(layer))
        elif layer.type in LOSSES:
            dropped.append(f"the layer '{layer.name}' ({layer.type}) was left out, it needs labels")
        elif layer.type in DATA_SOURCES:
            dropped.append(f"the data source '{layer.name}' ({layer.type}) was replaced by inputs")
        else:
            kept.append(layer)
    used = {bottom for layer in kept for bottom in layer.bottoms}
    sources = {top for layer in layers if layer.type in DATA_SOURCES for top in layer.tops}
    inputs.update(dict.fromkeys(sorted(sources & used)))
    outputs = _outputs(kept, inputs)
    return Net(net.text("name", "caffe"), inputs, tuple(kept), outputs, tuple(dropped))


def _layers(net: Params, blobs: dict[str, list[Blob]]) -> list[Layer]:
    found = []
    for field in ("layers", "layer"):
        for each in net.messages(field):
            if field == "layers" and each.has("layer"):
                raise ConversionFailed(
                    "the prototxt is of Caffe's first format (V0); upgrade it with Caffe's tools"
                )
            kind = each.text("type")
            kind = V1_TYPES.get(kind, kind) if field == "layers" else kind
            name = each.text("name")
            if not kind:
                raise ConversionFailed(f"the layer '{name}' has no type")
            if _runs_in_test(each):
                bottoms, tops = tuple(each.texts("bottom")), tuple(each.texts("top"))
                found.append(Layer(name, kind, bottoms, tops, each, tuple(blobs.get(name, ()))))
    return found


def _runs_in_test(layer: Params) -> bool:
    include, exclude = layer.messages("include"), layer.messages("exclude")
    if include:
        return any(_rule_met(rule) for rule in include)
    return not any(_rule_met(rule) for rule in exclude)


def _rule_met(rule: Params) -> bool:
    """Whether a NetStateRule holds for phase TEST, level 0 and no stages."""
    phase = rule.text("phase", "TEST") == "TEST" if rule.has("phase") else True
    return phase and rule.whole("min_level", 0) <= 0 <= rule.whole("max_level", 0) and not rule.texts("stage")


def _declared_inputs(net: Params) -> dict[str, tuple[int, ...] | None]:
    """The older way: `input` names with `input_dim` or `input_shape` beside them."""
    names = net.texts("input")
    shapes = [tuple(each.ints("dim")) for each in net.messages("input_shape")]
    dims = net.ints("input_dim")
    if dims and not shapes:
        shapes = [tuple(dims[at : at + 4]) for at in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(names):
        raise ConversionFailed(f"the prototxt has {len(names)} inputs and shapes for {len(shapes)}")
    return dict(zip(names, shapes, strict=True)) if shapes else dict.fromkeys(names)


def _input_layer(layer: Layer) -> dict[str, tuple[int, ...] | None]:
    shapes = [tuple(each.ints("dim")) for each in layer.params.message("input_param").messages("shape")]
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    if shapes and len(shapes) != len(layer.tops):
        raise ConversionFailed(
            f"the layer '{layer.name}' has {len(layer.tops)} tops and {len(shapes)} shapes"
        )
    return dict(zip(layer.tops, shapes, strict=True)) if shapes else dict.fromkeys(layer.tops)


def _outputs(layers: list[Layer], inputs: dict[str, tuple[int, ...] | None]) -> tuple[str, ...]:
    """Blobs that no later layer reads; also checks that each layer finds its bottoms."""
    there = set(inputs)
    unread: dict[str, None] = {}
    for layer in layers:
        lost = [bottom for bottom in layer.bottoms if bottom not in there]
        if lost:
            raise ConversionFailed(
                f"the layer '{layer.name}' reads '{lost[0]}', which no layer before it makes; "
                "Caffe's layers must not form a circle"
            )
        for bottom in layer.bottoms:
            unread.pop(bottom, None)
        if layer.type != "Silence":
            unread.update(dict.fromkeys(layer.tops))
        there.update(layer.tops)
    return tuple(unread)
