"""SavedModels and frozen graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from catchment.errors import InvalidField
from catchment.formats.convert.backends.tensorflow import exporting
from catchment.formats.convert.contract import Job, RefusedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, completed

_BARRED = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_INSIGNIFICANT = ("NoOp", "Assert", "Const", "Placeholder", "PlaceholderWithDefault")


class _Graph:
    """What both share: a function of named tensors."""

    takes_missing = False
    signature: ModelSignature

    def _call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def predict(self, sample: Arrays) -> Arrays:
        """Call the function."""
        made = self._call({name: tf.constant(value) for name, value in sample.items()})
        return {name: np.asarray(value) for name, value in made.items()}

    def convert(self, job: Job) -> None:
        """ONNX."""
        exporting.write_onnx(self._call, self.signature, job, self)

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


class SavedModel(_Graph):
    """A SavedModel's signature `serving_default`, or the one that the options name."""

    def __init__(self, job: Job) -> None:
        try:
            self._loaded = tf.saved_model.load(str(job.source))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise RefusedModelError(f"TensorFlow does not load the SavedModel: {error}"[:1500]) from error
        name = job.options.get("signature", exporting.SIGNATURE)
        there = list(self._loaded.signatures)
        if name not in there:
            raise InvalidField("signature", f"is {name!r}, the SavedModel has {', '.join(there) or 'none'}")
        self._function = self._loaded.signatures[name]
        taken = self._function.structured_input_signature[1]
        own = [exporting.spec_of(taken[each], each) for each in sorted(taken)]
        given = self._function.structured_outputs
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(exporting.spec_of(given[n], n) for n in sorted(given)),
        )

    def _call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        return dict(self._function(**tensors))


class GraphDef(_Graph):
    """A frozen graph: its placeholders go in, and what no node takes comes out."""

    def __init__(self, job: Job) -> None:
        path = job.one_file("*.graphdef", "*.pb")
        graph = tf.compat.v1.GraphDef()
        try:
            graph.ParseFromString(path.read_bytes())
        except Exception as error:
            raise RefusedModelError(f"{path.name} is no GraphDef: {error}") from error
        if strange := sorted({node.op for node in graph.node} & set(_BARRED)):
            raise RefusedModelError(f"{path.name} has the operator {strange[0]}, which calls Python code")
        inputs = [node.name for node in graph.node if node.op == "Placeholder"]
        outputs = _ends(graph)
        if not inputs or not outputs:
            raise RefusedModelError(f"{path.name} has {len(inputs)} placeholders and {len(outputs)} results")

        def imported() -> None:
            tf.graph_util.import_graph_def(graph, name="")

        wrapped = tf.compat.v1.wrap_function(imported, [])
        tensors = [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in inputs]
        results = [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in outputs]
        own = [exporting.spec_of(tensor, name) for tensor, name in zip(tensors, inputs, strict=True)]
        self._function = wrapped.prune(tensors, results)
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(exporting.spec_of(tensor, name) for tensor, name in zip(results, outputs, strict=True)),
        )

    def _call(self, tensors: dict[str, Any]) -> dict[str, Any]:
        made = self._function(*(tensors[each.name] for each in self.signature.inputs))
        return dict(zip((each.name for each in self.signature.outputs), made, strict=True))


def _ends(graph: Any) -> list[str]:
    """Nodes whose result nobody takes, in the order of the file."""
    taken = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    return [node.name for node in graph.node if node.name not in taken and node.op not in _INSIGNIFICANT]
