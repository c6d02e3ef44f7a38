"""Which runtime serves which format on clusters, and how each is started and asked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from catchment.errors import InvalidField
from catchment.models.formats import FORMATS
from catchment.serving.manifests import mlserver, triton
from catchment.serving.workload import Workload
from catchment.settings import Settings

Form = Literal["kubernetes", "kserve", "seldon"]
Layout = Literal["files", "triton", "triton-repository", "mlserver"]
STORE = "/mnt"
"""Folder of models in a container: a serving's lies in STORE/<serving>, as in the original's."""
_VERSION = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,126}[A-Za-z0-9])?")
READY, LIVE = "/v2/models/{model}/ready", "/v2/health/live"


@dataclass(frozen=True)
class Runtime:
    """A program that serves models.

    Attributes:
        name: as a serving's `runtime` names it.
        formats: that it serves.
        http, grpc: ports of its container; 0: none.
        ready, live: paths of its probes.
        layout: how the initializer puts a model's files.
        image: the setting that names its image.
    """

    name: str
    formats: tuple[str, ...]
    http: int
    grpc: int
    ready: str
    live: str
    layout: Layout
    image: str


RUNTIMES: Mapping[str, Runtime] = {
    each.name: each
    for each in (
        Runtime("onnxruntime", ("ONNX",), 8000, 8001, READY, LIVE, "files", "serving_image"),
        Runtime("triton", tuple(triton.PLATFORMS), 8000, 8001, READY, LIVE, "triton", "serving_triton_image"),
        Runtime(
            "mlserver",
            tuple(mlserver.IMPLEMENTATIONS),
            8080,
            8081,
            READY,
            LIVE,
            "mlserver",
            "serving_mlserver_image",
        ),
        Runtime(
            "openscoring",
            ("PMML",),
            8000,
            0,
            "/openscoring/model/{model}",
            "/openscoring/model/{model}",
            "files",
            "serving_openscoring_image",
        ),
    )
}
"""In the order of preference of a format that several serve."""
CUSTOM = Runtime("custom", (), 8000, 8001, "", "", "files", "")
"""An image of the user's own, which is trusted to know what to do with the files."""


def choose(workload: Workload, form: Form) -> Runtime:
    """The runtime of a workload whose user brings no image.

    ONNX goes to Catchment's own server on plain Kubernetes, and to Triton elsewhere.

    Raises:
        InvalidField: nothing serves the format, or not the runtime that was asked for; the message says what
            would.
    """
    name = workload.model.format
    able = [each for each in RUNTIMES.values() if name in each.formats]
    if form != "kubernetes":
        able = [each for each in able if each.name != "onnxruntime" or workload.runtime == each.name]
    if not able:
        raise InvalidField("format", _unserved(name))
    if not workload.runtime:
        return able[0]
    if workload.runtime not in RUNTIMES:
        raise InvalidField(
            "runtime", f"{workload.runtime[:60]!r} is not known; known are {', '.join(RUNTIMES)}"
        )
    for each in able:
        if each.name == workload.runtime:
            return each
    raise InvalidField(
        "runtime", f"{workload.runtime} does not serve {name}; {' or '.join(each.name for each in able)} does"
    )


def check_signature(workload: Workload, runtime: Runtime) -> None:
    """Whether the runtime's own description of the model can be written. Raises InvalidField."""
    model = workload.model
    if runtime.layout == "triton":
        triton.config_pbtxt(workload.serving.name, model.format, model.inputs, model.outputs)
    elif runtime.layout == "mlserver":
        mlserver.model_settings(
            workload.serving.name, model.format, "model", inputs=model.inputs, outputs=model.outputs
        )


def image_of(runtime: Runtime, settings: Settings) -> str:
    """The runtime's image. Raises InvalidField where no setting names one."""
    image = str(getattr(settings, runtime.image))
    if not image:
        raise InvalidField(
            "format",
            f"{', '.join(runtime.formats)} needs an image: set CATCHMENT_{runtime.image.upper()}",
        )
    return image


def environment(workload: Workload) -> dict[str, str]:
    """What containers are told of the model, under the original's names."""
    model = workload.model
    return {
        "MODEL_STORE": STORE,
        "SERVING_NAME": workload.serving.name,
        "FORMAT": model.format,
        "INPUTS": json.dumps(list(map(dict, model.inputs)), separators=(",", ":")),
        "OUTPUTS": json.dumps(list(map(dict, model.outputs)), separators=(",", ":")),
    }


def model_folder(workload: Workload) -> str:
    """Where the model lies in its container."""
    return f"{STORE}/{workload.serving.name}"


def arguments(workload: Workload, runtime: Runtime, folder: str) -> dict[str, list[str]]:
    """Command and arguments of the runtime's container."""
    name = workload.serving.name
    if runtime.name == "onnxruntime":
        listen = ["--host", "0.0.0.0", "--http-port", str(runtime.http), "--grpc-port", str(runtime.grpc)]  # noqa: S104
        bounds = json.dumps(dict(workload.server), separators=(",", ":"), sort_keys=True)
        return {
            "command": ["python", "-m", "api.model_server"],
            "args": [
                "--model",
                folder,
                "--name",
                name,
                "--version",
                _version(workload),
                *listen,
                "--config",
                bounds,
            ],
        }
    if runtime.name == "triton":
        repository = folder.rpartition("/")[0] or "/"
        return {
            "command": ["tritonserver"],
            "args": [f"--model-repository={repository}", f"--exit-timeout-secs={drain_s(workload)}"],
        }
    if runtime.name == "mlserver":
        return {"command": ["mlserver"], "args": ["start", folder]}
    return {}


def drain_s(workload: Workload) -> int:
    """Seconds that requests in flight have when a pod ends."""
    told = workload.server.get("drain_s", 10)
    return max(1, math.ceil(told)) if isinstance(told, int | float) else 10


def _version(workload: Workload) -> str:
    """The model's version as the model server takes it; a few tags are no such thing."""
    tag = workload.model.reference.rpartition(":")[2]
    return tag if _VERSION.fullmatch(tag) else "1"


def _unserved(name: str) -> str:
    served = ", ".join(dict.fromkeys(each for runtime in RUNTIMES.values() for each in runtime.formats))
    known = FORMATS.get(name)
    targets = [each for each in known.converts_to if each in served] if known else []
    if targets:
        return f"{name} is served by no runtime; convert it to {' or '.join(targets)}, which is"
    return f"{name} is served by no runtime; served are {served}"
