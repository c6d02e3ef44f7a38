"""One model being served: its state, its admission, its inferences, its figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from catchment.errors import CatchmentError, NotFound, NotServing
from catchment.model_server.config import ServingConfig
from catchment.model_server.gate import Gate
from catchment.model_server.metrics import Metrics
from catchment.model_server.onnx_model import OnnxModel, find_model_file
from catchment.model_server.tensors import InferRequest, Tensor
from catchment.model_server.watch import Watch

log = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed", "stopping"]
FORGETS = 0.98
"""What one inference adds to the memory of slow ones fades by so much with each that follows."""


class Engine:
    """What both protocols call; used by many threads.

    Args:
        config: the bounds.
    """

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self.gate = Gate(config.concurrency, config.queue)
        self.metrics = Metrics(config.name, config.version)
        self.state: State = "loading"
        self._model: OnnxModel | None = None
        self._watch = Watch()
        self._recent_s = float("inf")

    def load(self, folder: Path) -> None:
        """Load the model, try it, and be ready.

        Raises:
            ModelUnusable: it cannot be served; the state is then `failed`.
        """
        began = time.monotonic()
        try:
            model = OnnxModel(find_model_file(folder), self.config.threads)
            if self.config.smoke:
                model.smoke(self.config.smoke_shapes)
        except CatchmentError:
            self.state = "failed"
            raise
        self._model = model
        if self.state == "loading":
            self.state = "ready"
        log.info("the model is loaded", extra={"facts": {"seconds": round(time.monotonic() - began, 3)}})

    @property
    def model(self) -> OnnxModel:
        """The loaded model. Raises NotServing."""
        if self._model is None:
            raise NotServing("the model is still being loaded" if self.state == "loading" else self.state)
        return self._model

    @property
    def ready(self) -> bool:
        """Whether inferences are taken."""
        return self.state == "ready"

    def check_name(self, name: str, version: str | None = None) -> None:
        """Raises NotFound for another model or version than the one served; no version is any."""
        if name != self.config.name:
            raise NotFound(f"there is no model {name!r:.200} here, but {self.config.name!r}")
        if version and version != self.config.version:
            served = self.config.version
            raise NotFound(f"there is no version {version!r:.200} of {name!r} here, but {served!r}")

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the model's outputs."""
        return [each.name for each in self.model.outputs]

    @property
    def quick(self) -> bool:
        """Whether the last inferences took less than a change of threads would cost."""
        return self._recent_s * 1000 < self.config.inline_ms

    def run(self, request: InferRequest, deadline: float) -> list[Tensor]:
        """One inference by a caller that holds a slot of the gate.

        Args:
            request: checked against the model.
            deadline: of time.monotonic.

        Raises:
            DeadlinePassed: it did not end in time.
            InferenceFailed: the model failed.
        """
        began = time.perf_counter()
        with self._watch.until(deadline) as options:
            tensors = self.model.run(request.inputs, request.outputs, options)
        took = time.perf_counter() - began
        faded = self._recent_s * FORGETS if self._recent_s != float("inf") else 0.0
        self._recent_s = max(took, faded)
        self.metrics.inferred(took)
        return tensors

    def stop(self) -> None:
        """Be ready no more, and admit nobody."""
        self.state = "stopping"
        self.gate.close()

    def metrics_text(self) -> str:
        """All figures, in Prometheus' text format."""
        admitted, running = self.gate.admitted, self.gate.running
        return self.metrics.text(
            {
                "model_info": 1,
                "ready": self.ready,
                "in_flight": admitted,
                "running": running,
                "queue": max(0, admitted - running),
            }
        )
