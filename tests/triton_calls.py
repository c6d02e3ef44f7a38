"""What an original client of the protocol gets: run by the interpreter that has `tritonclient`, prints JSON.

python tests/triton_calls.py HTTP_PORT GRPC_PORT, against the model `linear` called `m`.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def main() -> None:
    """Talk to both ports; one object of what each said."""
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}", concurrency=16)
    calls = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{sys.argv[2]}")
    metadata = calls.get_model_metadata("m", as_json=True)
    print(
        json.dumps(
            {
                "rest": {**said(tritonclient.http, rest), "metadata": rest.get_model_metadata("m", "1")},
                "grpc": {**said(tritonclient.grpc, calls), "metadata": metadata},
            }
        )
    )


def said(package: Any, client: Any) -> dict[str, Any]:
    """Health, good inferences, wrong ones, and sixteen at a time."""
    many = sixteen_at_a_time(package, client)
    return {
        "health": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("m", "1")],
        "server": metadata_name(client.get_server_metadata()),
        "all": infer(package, client, A, request_id="7"),
        "product": infer(package, client, A, outputs=[package.InferRequestedOutput("product")]),
        "many": all(each == (A + turn + A).tolist() for turn, each in enumerate(many)),
        "wrong": {
            "model": refusal(package, client, model="other"),
            "version": refusal(package, client, version="9"),
            "name": refusal(package, client, name="c"),
            "datatype": refusal(package, client, values=A.astype(np.float64)),
            "shape": refusal(package, client, values=A[:, :2]),
            "sizes": refusal(package, client, values=A[:1]),
            "output": refusal(package, client, outputs=[package.InferRequestedOutput("q")]),
        },
    }


def sixteen_at_a_time(package: Any, client: Any) -> list[Any]:
    """The sums of 64 inferences, in order."""
    if package is tritonclient.http:  # its greenlets stay in one thread
        asked = [client.async_infer("m", inputs(package, "a", A + each)) for each in range(64)]
        return [each.get_result(timeout=30).as_numpy("sum").tolist() for each in asked]
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda each: infer(package, client, A + each)["sum"], range(64)))


def metadata_name(metadata: Any) -> str:
    """Its name, from either client's kind of answer."""
    return str(metadata["name"] if isinstance(metadata, dict) else metadata.name)


def inputs(package: Any, name: str, first: Any) -> list[Any]:
    """`name` and `b` as the client sends them: raw bytes."""
    given = []
    for each, values in ((name, first), ("b", A)):
        datatype = "FP64" if values.dtype == np.float64 else "FP32"
        given.append(package.InferInput(each, values.shape, datatype))
        given[-1].set_data_from_numpy(values)
    return given


def infer(package: Any, client: Any, first: Any, **options: Any) -> dict[str, Any]:
    """One inference's outputs as lists."""
    result = client.infer("m", inputs(package, "a", first), **options)
    found = {name: result.as_numpy(name) for name in ("sum", "product")}
    return {name: array.tolist() for name, array in found.items() if array is not None}


def refusal(
    package: Any,
    client: Any,
    *,
    model: str = "m",
    version: str = "",
    name: str = "a",
    values: Any = A,
    **more: Any,
) -> list[str]:
    """The status and the sentence of an inference that must fail."""
    try:
        client.infer(model, inputs(package, name, values), version, **more)
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["none", "was answered"]


if __name__ == "__main__":
    main()
