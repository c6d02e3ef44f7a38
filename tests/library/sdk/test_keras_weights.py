"""Loading and committing weights of Keras 3 models, on the torch backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.initial import import_weights
from catchment.models.tensors import TensorFile, check_update, read_tensors

os.environ.setdefault("KERAS_BACKEND", "torch")

MakeTask = Callable[..., Any]

# Keras' torch backend hands its variables to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def keras() -> Iterator[Any]:
    import keras

    keras.utils.clear_session()
    yield keras
    keras.utils.clear_session()


def model_of(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5, name="drop"),
            layers.Normalization(name="scaled"),
            layers.Dense(2, name="out", dtype="bfloat16"),
        ],
        name="net",
    )


@pytest.fixture
def task(make_task: MakeTask, keras: Any) -> Any:
    task = make_task(runtime="keras")
    fl.save_weights(model_of(keras), task.folder / "weights.safetensors")
    return task


def test_names_are_variable_paths_without_random_state(task: Any) -> None:
    assert list(read_tensors(task.folder / "weights.safetensors")) == [
        "net/hidden/kernel", "net/hidden/bias", "net/norm/gamma", "net/norm/beta", "net/norm/moving_mean",
        "net/norm/moving_variance", "net/scaled/mean", "net/scaled/variance", "net/scaled/count",
        "net/out/kernel", "net/out/bias",
    ]  # fmt: skip


def test_load_train_commit(task: Any, keras: Any) -> None:
    model = model_of(keras)
    fl.load_weights(model)
    weights = read_tensors(task.folder / "weights.safetensors")
    for variable in model.weights:
        got = keras.ops.convert_to_numpy(variable).astype(weights[variable.path].dtype)
        np.testing.assert_array_equal(got, weights[variable.path])
    for variable in model.weights:
        variable.assign(variable + keras.ops.ones_like(variable))
    fl.commit_weights(model)
    with (
        TensorFile.open(task.folder / "weights.safetensors") as file,
        TensorFile.open(task.folder / "update.safetensors") as update,
    ):
        check_update(update, file.signature)
    update_arrays = read_tensors(task.folder / "update.safetensors")
    np.testing.assert_allclose(update_arrays["net/hidden/kernel"], 1, rtol=1e-5)
    assert update_arrays["net/scaled/count"] == weights["net/scaled/count"] + 1
    assert update_arrays["net/out/kernel"].dtype == np.float32


def test_the_same_model_from_a_file_has_other_scopes_and_still_fits(
    task: Any, keras: Any, tmp_path: Path
) -> None:
    model_of(keras).save(tmp_path / "m.keras")
    model = keras.models.load_model(tmp_path / "m.keras")
    assert model.weights[0].path == "hidden/kernel"
    fl.load_weights(model)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model.weights[0]),
        read_tensors(task.folder / "weights.safetensors")["net/hidden/kernel"],
    )
    fl.commit_weights(model)
    with TensorFile.open(task.folder / "update.safetensors") as update:
        assert "net/hidden/kernel" in update.signature


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_nested_model_imported_from_a_file_fits_the_live_one(
    make_task: MakeTask, keras: Any, tmp_path: Path, suffix: str
) -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2)], name="outer")
    path = tmp_path / f"m{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    task = make_task(runtime="keras")
    import_weights(path, task.folder / "weights.safetensors", "keras")
    fl.load_weights(model)
    fl.commit_weights(model)
    update = read_tensors(task.folder / "update.safetensors")
    assert all(not array.any() for array in update.values())


def test_a_subclassed_model(make_task: MakeTask, keras: Any) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.blocks = [keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]

        def call(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    task = make_task(runtime="keras")
    first, second = Own(), Own()
    with pytest.raises(SdkError, match="no weights yet"):
        fl.save_weights(first, task.folder / "weights.safetensors")
    for model in (first, second):
        model(np.zeros((1, 4), np.float32))
    fl.save_weights(first, task.folder / "weights.safetensors")
    fl.load_weights(second)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))


def test_two_layers_of_one_name_are_refused(make_task: MakeTask, keras: Any, tmp_path: Path) -> None:
    x = keras.Input((4,))
    outputs = x
    for name in ("a", "b"):
        inside = keras.Input((4,))
        outputs = keras.Model(inside, keras.layers.Dense(4, name="same")(inside), name=name)(outputs)
    with pytest.raises(SdkError, match="'same/kernel'; name the layers apart"):
        fl.save_weights(keras.Model(x, outputs), tmp_path / "w")


def test_differences_are_listed(task: Any, keras: Any) -> None:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, name="hidden"), keras.layers.Dense(2, name="more")],
        name="net",
    )
    with pytest.raises(SdkError) as caught:
        fl.load_weights(model)
    for part in (
        "missing: net/norm/gamma",
        "unexpected: net/more/kernel",
        "net/hidden/kernel [4, 5] instead of [4, 3]",
    ):
        assert part in str(caught.value)


def test_nan_is_refused_by_name(task: Any, keras: Any) -> None:
    model = model_of(keras)
    fl.load_weights(model)
    model.weights[1].assign([0.0, float("nan"), 0.0])
    with pytest.raises(SdkError, match="'net/hidden/bias' holds NaN"):
        fl.commit_weights(model)
