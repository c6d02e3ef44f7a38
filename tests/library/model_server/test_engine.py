"""One served model's states, and where its inferences run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ModelUnusable, NotFound, NotServing
from catchment.model_server.config import ServingConfig
from catchment.model_server.datatypes import DATATYPES
from catchment.model_server.engine import Engine
from catchment.model_server.tensors import InferRequest, Tensor
from tests.model_servers import counter, identity


def engine_of(folder: Path, **bounds: float) -> Engine:
    engine = Engine(ServingConfig(name="m", version="3", **bounds))  # type: ignore[arg-type]
    engine.load(folder)
    return engine


def count(engine: Engine, turns: int) -> int:
    given = Tensor("turns", DATATYPES["INT64"], np.array([turns], "<i8"))
    request = InferRequest({"turns": given}, ["counted"])
    return int(engine.run(request, time.monotonic() + 60)[0].array)


def test_a_model_is_served_between_its_loading_and_the_stop(tmp_path: Path) -> None:
    engine = Engine(ServingConfig(name="m"))
    assert (engine.state, engine.ready) == ("loading", False)
    with pytest.raises(NotServing, match="still being loaded"):
        _ = engine.model
    engine.load(identity(tmp_path, "FP32"))
    assert engine.ready
    assert engine.outputs == ["y"]
    engine.stop()
    assert not engine.ready
    with pytest.raises(NotServing):
        engine.gate.admit()


def test_a_stop_while_the_model_is_loaded_stays_a_stop(tmp_path: Path) -> None:
    engine = Engine(ServingConfig(name="m"))
    engine.stop()
    engine.load(identity(tmp_path, "FP32"))
    assert engine.state == "stopping"


def test_a_model_that_cannot_be_loaded_is_never_ready(tmp_path: Path) -> None:
    engine = Engine(ServingConfig(name="m"))
    with pytest.raises(ModelUnusable):
        engine.load(tmp_path / "absent")
    assert (engine.state, engine.ready) == ("failed", False)


def test_other_names_and_versions_are_not_found(tmp_path: Path) -> None:
    engine = engine_of(identity(tmp_path, "FP32"))
    engine.check_name("m")
    engine.check_name("m", "3")
    for name, version in (("M", None), ("m", "1"), ("n", "3")):
        with pytest.raises(NotFound):
            engine.check_name(name, version)


def test_one_slow_inference_ends_the_trust_in_quick_ones(tmp_path: Path) -> None:
    engine = engine_of(counter(tmp_path), inline_ms=10)
    assert not engine.quick  # nothing is known yet
    assert count(engine, 1) == 1
    assert engine.quick
    assert count(engine, 200_000) == 200_000
    assert not engine.quick
    for _ in range(500):
        count(engine, 1)
    assert engine.quick


def test_a_model_may_never_run_inline(tmp_path: Path) -> None:
    engine = engine_of(counter(tmp_path), inline_ms=0)
    count(engine, 1)
    assert not engine.quick
