"""KServe's own ModelServer over onnxruntime, the peer of `model_server.py`; needs an interpreter with kserve.

python benchmarks/kserve_peer.py FILE.onnx HTTP_PORT GRPC_PORT
"""

from __future__ import annotations

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    """One session, one thread for an inference, as on the other side."""

    def __init__(self, file: str) -> None:
        super().__init__("m")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(
        self, payload: InferRequest, headers: Any = None, response_headers: Any = None
    ) -> InferResponse:
        """The output, as raw bytes where the request's inputs came so."""
        given = payload.inputs[0]
        values = self.session.run(None, {"x": given.as_numpy()})[0]
        output = InferOutput("y", list(values.shape), "FP32")
        output.set_data_from_numpy(values, binary_data="binary_data_size" in (given.parameters or {}))
        return InferResponse(payload.id or "1", "m", [output])


if __name__ == "__main__":
    server = ModelServer(
        http_port=int(sys.argv[2]),
        grpc_port=int(sys.argv[3]),
        workers=1,
        enable_latency_logging=False,
        access_log_format=None,
    )
    server.start([OnnxModel(sys.argv[1])])
