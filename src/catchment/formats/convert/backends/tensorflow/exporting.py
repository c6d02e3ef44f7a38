"""From a function of named tensors to ONNX or a SavedModel, with the names kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from catchment.errors import InvalidField
from catchment.formats.convert import onnx_repair
from catchment.formats.convert.contract import Job, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

ONNX_NAME = "model.onnx"
OPSET = 17
SIGNATURE = "serving_default"

Named = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes tensors by the names of the signature's inputs, gives them by those of its outputs."""


def write_onnx(call: Named, signature: ModelSignature, job: Job, variables: Any = None) -> None:
    """Write `model.onnx`; `variables` keeps what the function refers to alive.

    Raises:
        UnsupportedModelError: tf2onnx does not know an operator.
    """
    import onnx
    import tf2onnx

    names = [each.name for each in signature.outputs]
    wanted = [tf_spec(each) for each in signature.inputs]

    @tf.function(autograph=False)
    def listed(*tensors: Any) -> list[Any]:
        made = call({spec.name: tensor for spec, tensor in zip(signature.inputs, tensors, strict=True)})
        return [tf.identity(made[name]) for name in names]

    try:
        model, _ = tf2onnx.convert.from_function(
            listed, input_signature=wanted, opset=int(job.options.get("opset", OPSET))
        )
    except (ValueError, RuntimeError, NotImplementedError) as error:
        if "not supported" in str(error):
            raise UnsupportedModelError(f"tf2onnx: {error}"[:1000]) from error
        raise
    # tf2onnx sorts neither: inputs come in the order of the arguments, outputs in the order of the list.
    onnx_repair.merge_opsets(model)
    onnx_repair.name_ends(model, [each.name for each in signature.inputs], names)
    onnx_repair.set_shapes(model, {e.name: e.shape for e in (*signature.inputs, *signature.outputs)})
    onnx.save(model, job.target / ONNX_NAME)


def write_saved_model(call: Named, signature: ModelSignature, job: Job, tracked: Any) -> None:
    """Write a SavedModel whose `serving_default` has the signature's names."""
    module = tf.Module()
    module.model = tracked

    @tf.function(autograph=False)
    def serve(**tensors: Any) -> dict[str, Any]:
        return call(tensors)

    module.serve = serve
    named = {each.name: tf_spec(each) for each in signature.inputs}
    if not all(name.isidentifier() for name in named):
        raise RefusedModelError(
            f"a SavedModel's inputs must be plain names, the model's are {', '.join(named)}"
        )
    tf.saved_model.save(module, str(job.target), signatures={SIGNATURE: serve.get_concrete_function(**named)})


def tf_spec(spec: TensorSpec) -> Any:
    """The input as TensorFlow speaks of it."""
    if spec.shape is None:
        raise InvalidField(f"inputs.{spec.name}", "has no shape in the file; give its `size`")
    return tf.TensorSpec(spec.shape, spec.dtype, name=spec.name)


def spec_of(tensor: Any, name: str) -> TensorSpec:
    """A symbolic tensor of TensorFlow or Keras as conversion speaks of it."""
    dtype = tensor.dtype if isinstance(tensor.dtype, str) else tensor.dtype.name
    shape = tensor.shape
    known = getattr(shape, "rank", len(shape) if isinstance(shape, tuple) else None)
    return TensorSpec(name, dtype, None if known is None else tuple(shape))
