"""SavedModel of TensorFlow 1 and 2: signatures, and the operations behind the one that is served."""

from __future__ import annotations

from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import tf_graph
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, shown
from catchment.formats.protobuf import Message, first, message, pair, signed, text

_SERVED = "serving_default"
_NOT_SERVED = ("__saved_model_init_op", "__saved_model_train_op")
_MAX_SIGNATURES = 100


def read(folder: ModelFolder) -> Extracted:
    """The signature that is served by default, its operations and variables, from saved_model.pb."""
    with folder.mapped(folder.one("saved_model.pb")) as data:
        metas = [_Meta(message(value)) for number, value in Message(data) if number == 2]
        if not metas:
            raise ExtractionFailed("saved_model.pb is no SavedModel: it holds no graph")
        meta = next((each for each in metas if "serve" in each.tags), metas[0])
        graph = tf_graph.Graph(meta.graph)
        chosen = meta.chosen()
        inputs, outputs = meta.signatures.get(chosen, ([], []))
        served = [each.tensor_name for each in outputs if each.tensor_name]
        nodes = graph.reached(served) if served else list(graph.nodes.values())
        return Extracted(
            "SavedModel",
            "TensorFlow",
            meta.version,
            tuple(inputs),
            tuple(outputs),
            graph.layers(nodes),
            tf_graph.variables(nodes) or tf_graph.constants(nodes),
            extras=_extras(meta, chosen),
            absent=_absent(chosen, inputs, outputs),
        )


def _extras(meta: _Meta, chosen: str) -> dict[str, Any]:
    others = {
        name: {
            "inputs": [tensor.to_json() for tensor in inputs],
            "outputs": [tensor.to_json() for tensor in outputs],
        }
        for name, (inputs, outputs) in meta.signatures.items()
        if name != chosen and name not in _NOT_SERVED
    }
    return {"signature": chosen, "tags": sorted(meta.tags), **({"otherSignatures": others} if others else {})}


def _absent(chosen: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> tuple[str, ...]:
    if not chosen:
        return ("inputs and outputs: the SavedModel has no signature, so layers count the whole graph",)
    absent = [] if inputs else [f"inputs: the signature {shown(chosen)} has none"]
    absent += [] if outputs else [f"outputs: the signature {shown(chosen)} has none"]
    sizeless = [each.name for each in (*inputs, *outputs) if each.size is None]
    if sizeless:
        absent.append(f"the size of {', '.join(shown(name) for name in sizeless[:20])}: its rank is open")
    return tuple(absent)


class _Meta:
    """One MetaGraphDef.

    Attributes:
        tags: such as "serve".
        version: of TensorFlow.
        graph: its GraphDef.
        signatures: name -> inputs and outputs, sorted by name.
    """

    def __init__(self, span: Message) -> None:
        self.tags: set[str] = set()
        self.version = ""
        self.graph = Message(b"")
        self.signatures: dict[str, tuple[list[TensorSpec], list[TensorSpec]]] = {}
        for number, value in span:
            if number == 1:
                self._add_info(message(value))
            elif number == 2:
                self.graph = message(value)
            elif number == 5:
                self._add_signature(message(value))

    def chosen(self) -> str:
        """The signature that is served: the default, else the first that is not of loading or training."""
        if _SERVED in self.signatures:
            return _SERVED
        return next((name for name in self.signatures if name not in _NOT_SERVED), "")

    def _add_info(self, info: Message) -> None:
        for number, value in info:
            if number == 4:
                self.tags.add(text(value))
            elif number == 5:
                self.version = text(value)

    def _add_signature(self, entry: Message) -> None:
        name, span = pair(entry)
        if len(self.signatures) >= _MAX_SIGNATURES:
            raise ExtractionFailed(f"the SavedModel has more than {_MAX_SIGNATURES} signatures")
        sides: tuple[list[TensorSpec], list[TensorSpec]] = ([], [])
        for number, value in span if span is not None else ():
            if number in (1, 2):
                sides[number - 1].append(_tensor(message(value)))
        for side in sides:
            # A map's order in the file is no order.
            side.sort(key=lambda tensor: tensor.name)
        self.signatures[name] = sides


def _tensor(entry: Message) -> TensorSpec:
    name, info = pair(entry)
    tensor_name = dtype = ""
    size = None
    for number, value in info if info is not None else ():
        if number == 1:
            tensor_name = text(value)
        elif number == 2:
            dtype = tf_graph.dtype_of(signed(value))
        elif number == 3:
            size = tf_graph.shape_of(message(value), name)
        elif number == 4:
            values = first(message(value), 1)
            tensor_name = "" if values is None else text(values)
    return TensorSpec(name, size, dtype, tensor_name=tensor_name)
