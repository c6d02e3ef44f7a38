"""The mmdnn backend: MMdnn's three steps for Caffe, with its known faults repaired."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from catchment.formats.convert.backends.mmdnn.repairs import repaired
from catchment.formats.convert.caffe.model import read_net
from catchment.formats.convert.contract import WORK, Job, Model, RefusedModelError, UnsupportedModelError
from catchment.formats.convert.samples import Arrays
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec, completed

PACKAGES = ("mmdnn", "onnx", "numpy", "protobuf")
RESULT_NAME = "model.onnx"


class Caffe:
    """A Caffe model; MMdnn reads it anew for each conversion, and cannot run it."""

    takes_missing = False

    def __init__(self, job: Job) -> None:
        net = read_net(job.source)
        given = {each.name for each in job.given}
        own = [
            TensorSpec(name, "float32", tuple(shape) if shape and name not in given else None)
            for name, shape in net.inputs.items()
        ]
        if len(own) != 1 or len(net.outputs) != 1:
            raise UnsupportedModelError("MMdnn's result can be repaired for one input and one output only")
        self.signature = ModelSignature(
            completed(own, job.given, job.given_by),
            tuple(TensorSpec(top, "float32", None) for top in net.outputs),
        )

    def predict(self, sample: Arrays) -> Arrays:
        """MMdnn runs nothing."""
        raise RefusedModelError("MMdnn converts Caffe models, it does not run them")

    def convert(self, job: Job) -> None:
        """Caffe to MMdnn's own graph, that to Python code, that to ONNX; then the repairs.

        Raises:
            UnsupportedModelError: MMdnn stumbled, for which it has many words.
        """
        import onnx
        from mmdnn.conversion._script import IRToCode, convertToIR, dump_code

        ir, code, raw = (str(job.folder / WORK / name) for name in ("ir", "code.py", "raw.onnx"))
        taken = self.signature.inputs[0]
        lengths = [1 if length is None else length for length in (taken.shape or ())]
        files = {"network": str(job.one_file("*.prototxt")), "weights": str(job.one_file("*.caffemodel"))}
        asked = {
            "srcFramework": "caffe",
            "dstPath": ir,
            "caffePhase": "TEST",
            "inNodeName": None,
            "dstNodeName": None,
        }
        shape = [",".join(map(str, lengths[1:]))] if lengths else None
        try:
            convertToIR._convert(Namespace(**files, **asked, inputShape=shape))
            IRToCode._convert(
                Namespace(
                    dstFramework="onnx",
                    IRModelPath=f"{ir}.pb",
                    IRWeightPath=f"{ir}.npy",
                    dstModelPath=code,
                    dstWeightPath=f"{ir}-weights.npy",
                    phase="test",
                )
            )
            dump_code.dump_code("onnx", code, f"{ir}.npy", raw, None)
        except Exception as error:
            raise UnsupportedModelError(f"MMdnn: {type(error).__name__}: {error}"[:1000]) from error
        onnx.save(repaired(onnx.load(raw), taken, self.signature.outputs[0].name), job.target / RESULT_NAME)

    def check(self) -> dict[str, Any]:
        """Nothing more than that it opens."""
        return {}


def open_model(job: Job) -> Model:
    """Open a Caffe model."""
    if job.source_format != "CaffeModel":
        raise RefusedModelError(f"the mmdnn backend does not open {job.source_format}")
    return Caffe(job)
