"""The demo's second half: the trained weights become a model in production, and it reads some digits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catchment.client import Client
from catchment.client.servings import Serving

NAME = "digits"
SHADES = " ░▒▓█"
SHOWN = 6
WAIT_S = 180.0


def serve(client: Client, home: Path, shown: int = SHOWN) -> bool:
    """Register, extract, convert, roll out, predict; whether most of the digits were read right."""
    with tempfile.TemporaryDirectory() as scratch:
        weights = client.models.pull(NAME, "weights", Path(scratch))
        print(f"\nmodel version  {NAME}:weights, registered by the job; with its graph it becomes {NAME}:v1")
        folder = export(weights, Path(scratch) / "exported")
        client.models.push(folder, NAME, "v1", format="ExportedProgram")
    client.servings.create({"name": NAME, "model": f"default/{NAME}:v1"})
    print(
        "serving        rolling it out: extraction, conversion to ONNX, model server, smoke inference ...",
        flush=True,
    )
    running = client.servings.wait(NAME, timeout_s=WAIT_S)
    tell(client, running)
    x, y = some_digits(home, shown)
    answers = predict(client, x)
    for picture, wanted, found in zip(x, y, answers, strict=True):
        print(f"\n{picture_of(picture)}\n   read as {found}{'' if found == wanted else f', it is {wanted}'}")
    right = int((answers == y).sum())
    print(f"\npredicted      {right} of {len(y)} right, over {running.address}/infer", flush=True)
    return right > len(y) // 2


def export(weights: Path, folder: Path) -> Path:
    """The weights in the model's graph, as PyTorch exports it; a folder that can be pushed."""
    import torch
    from model import build_model
    from safetensors.torch import load_file

    model = build_model().eval()
    model.load_state_dict(load_file(weights))
    (folder / "model").mkdir(parents=True)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.zeros(2, 64),), dynamic_shapes={"input": {0: batch}})
    torch.export.save(program, folder / "model" / "digits.pt2")
    return folder


def tell(client: Client, running: Serving) -> None:
    """What the rollout came to: the report of the conversion, the model that serves, its address."""
    for version in client.models.versions(NAME):
        report = version.document.get("equivalence")
        if report:
            error = max(each["max_abs"] for each in report["outputs"])
            print(
                f"converted      to {version.format}; the largest difference to the original is {error:.2g}"
            )
    print(f"serving        {running.models[0]} at {running.address}", flush=True)


def some_digits(home: Path, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pictures [count, 64] and labels of a site's test set, one of each of the first digits."""
    data = next(iter(sorted(home.glob("sites/*/**/test.npz"))))
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    chosen = [int(np.flatnonzero(y == digit)[0]) for digit in range(10) if (y == digit).any()][:count]
    return x[chosen].astype(np.float32), y[chosen]


def predict(client: Client, x: NDArray[Any]) -> NDArray[Any]:
    """What the serving takes the pictures for."""
    (wanted,) = client.servings.metadata(NAME)["inputs"]
    tensor = {"name": wanted["name"], "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    answer = client.servings.infer(NAME, json.dumps({"inputs": [tensor]}).encode())
    (output,) = answer["outputs"]
    scores: NDArray[Any] = np.reshape(output["data"], output["shape"])
    return scores.argmax(axis=1)


def picture_of(pixels: Sequence[float] | NDArray[Any]) -> str:
    """An 8x8 picture in characters, two for each pixel."""
    grey = np.reshape(np.asarray(pixels, np.float64), (8, 8))
    steps = np.rint(grey / max(float(grey.max()), 1e-9) * (len(SHADES) - 1)).astype(int)
    return "\n".join("   " + "".join(SHADES[step] * 2 for step in row) for row in steps)
