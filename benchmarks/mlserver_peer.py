"""MLServer over onnxruntime, a peer of `model_server.py`; needs an interpreter with mlserver and onnxruntime.

python benchmarks/mlserver_peer.py FILE.onnx HTTP_PORT GRPC_PORT
"""

from __future__ import annotations

import asyncio
import sys

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """One session, one thread for an inference, as on the other side."""

    async def load(self) -> bool:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = self.settings.parameters.uri
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The output, as the codec writes it."""
        given = NumpyCodec.decode_input(payload.inputs[0])
        values = self._session.run(None, {"x": given})[0]
        output = NumpyCodec.encode_output("y", values)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(file: str, http_port: int, grpc_port: int) -> None:
    """Serve until a signal."""
    settings = Settings(
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
    )
    model = ModelSettings(name="m", implementation=OnnxModel, parameters={"uri": file})
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
