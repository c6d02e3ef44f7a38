"""Keras files as initial weights: tensors are named as in the live model, or the file is refused."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from catchment.errors import BadTensors
from catchment.models.initial import import_weights
from catchment.models.tensors import read_tensors

os.environ.setdefault("KERAS_BACKEND", "torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # the framework warns about its own formats

FORMATS = [".keras", ".weights.h5", ".h5"]


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    import keras

    keras.utils.clear_session()
    yield keras
    keras.utils.clear_session()


def save(model: Any, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def convolutional(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(3, use_bias=False),
        ]
    )


def recurrent(keras: Any) -> Any:
    layers = keras.layers
    x = keras.Input((5, 3))
    cells = [layers.LSTMCell(2), layers.GRUCell(3)]
    outputs = [
        layers.GRU(2)(x),
        layers.Bidirectional(layers.LSTM(3, name="inside"))(x),
        layers.RNN(cells)(x),
        layers.SimpleRNN(2, name="mine")(x),
        layers.TimeDistributed(layers.Dense(3))(x),
        layers.MultiHeadAttention(2, 2)(x, x),
    ]
    return keras.Model(x, outputs)


def nested(keras: Any) -> Any:
    layers = keras.layers
    x = keras.Input((4,))
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.Dense(3, name="inner_dense")(inner_input), name="inner")
    deferred = keras.Sequential([layers.Dense(3), layers.Dense(2)], name="deferred")
    return keras.Model(x, deferred(inner(x)))


def image(keras: Any) -> Any:
    layers = keras.layers
    x = keras.Input((8, 8, 2))
    return keras.Model(
        x, layers.Conv2DTranspose(2, 2)(layers.SeparableConv2D(2, 2)(layers.DepthwiseConv2D(2)(x)))
    )


def embedded(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Embedding(3, 2), layers.Flatten(), layers.Dense(1), layers.PReLU()]
    )


def normalized(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(scale=False),
            layers.LayerNormalization(center=False),
            layers.GroupNormalization(2, scale=False),
            layers.RMSNormalization(),
            layers.Normalization(),
        ]
    )


def compiled(keras: Any) -> Any:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    return model


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("make", [convolutional, recurrent, nested, image, embedded, compiled])
def test_tensors_are_named_by_variable_path(
    tmp_path: Path, keras: Any, make: Callable[[Any], Any], suffix: str
) -> None:
    model = make(keras)
    path = save(model, tmp_path / f"m{suffix}")
    import_weights(path, tmp_path / "out", "keras")
    got = read_tensors(tmp_path / "out")
    assert set(got) == {variable.path for variable in model.weights}
    for variable in model.weights:
        np.testing.assert_array_equal(got[variable.path], keras.ops.convert_to_numpy(variable))


def test_gamma_and_beta_are_told_apart_by_the_configuration(tmp_path: Path, keras: Any) -> None:
    model = normalized(keras)
    import_weights(save(model, tmp_path / "m.keras"), tmp_path / "out", "keras")
    assert set(read_tensors(tmp_path / "out")) == {variable.path for variable in model.weights}
    with pytest.raises(BadTensors, match=r"does not tell the names of the 3 variables.*save_weights"):
        import_weights(save(model, tmp_path / "m.weights.h5"), tmp_path / "out", "keras")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_half_precision_keeps_every_bit(tmp_path: Path, keras: Any, suffix: str) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, dtype="bfloat16"), layers.Dense(2, dtype="float16")]
    )
    signature = import_weights(save(model, tmp_path / f"m{suffix}"), tmp_path / "out", "keras")
    assert {info.dtype for info in signature.values()} == {"BF16", "F16"}
    got = read_tensors(tmp_path / "out")
    for variable in model.weights:
        want = keras.ops.convert_to_numpy(variable).astype(np.float32)
        np.testing.assert_array_equal(got[variable.path].astype(np.float32), want)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_subclassed_model_is_refused_with_a_way_that_works(tmp_path: Path, keras: Any, suffix: str) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [keras.layers.Dense(3)]

        def call(self, x: Any) -> Any:
            return self.blocks[0](x)

    model = Own()
    model(np.zeros((1, 4)))
    with pytest.raises(BadTensors, match=r"save_weights\(model"):
        import_weights(save(model, tmp_path / f"m{suffix}"), tmp_path / "out", "keras")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_quantised_model_is_refused(tmp_path: Path, keras: Any, suffix: str) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.quantize("int8")
    with pytest.raises(BadTensors):
        import_weights(save(model, tmp_path / f"m{suffix}"), tmp_path / "out", "keras")


def test_code_in_a_configuration_is_not_run(tmp_path: Path, keras: Any) -> None:
    canary = tmp_path / "canary"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    save(model, tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as old, zipfile.ZipFile(tmp_path / "m.keras", "w") as new:
        config = json.loads(old.read("config.json"))
        config["config"]["layers"].append(
            {
                "module": "builtins",
                "class_name": "exec",
                "config": {"name": "x", "code": f"open({str(canary)!r}, 'w')"},
                "registered_name": "exec",
            }
        )
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    import_weights(tmp_path / "m.keras", tmp_path / "out", "keras")
    assert set(read_tensors(tmp_path / "out")) == {variable.path for variable in model.weights}
    assert not canary.exists()


def weights_file(path: Path, build: Callable[[h5py.Group], None]) -> Path:
    """A weights file of a Sequential model with one Dense layer, whose `vars` group `build` fills."""
    with h5py.File(path, "w") as file:
        file.create_group("vars").attrs["name"] = "sequential"
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        build(group)
    return path


def test_the_handmade_file_is_what_keras_would_write(tmp_path: Path) -> None:
    path = weights_file(
        tmp_path / "m.weights.h5", lambda group: group.create_dataset("0", data=np.ones((2, 3)))
    )
    import_weights(path, tmp_path / "out", "keras")
    assert list(read_tensors(tmp_path / "out")) == ["sequential/dense/kernel"]


def soft(group: h5py.Group) -> None:
    group["0"] = h5py.SoftLink("/elsewhere")


def external(group: h5py.Group) -> None:
    group["0"] = h5py.ExternalLink("/etc/hostname", "/x")


def external_storage(group: h5py.Group) -> None:
    group.create_dataset("0", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "x", (4,))
    group.create_virtual_dataset("0", layout)


def bomb(group: h5py.Group) -> None:
    group.create_dataset("0", (2**20, 2**16), "f8", chunks=(2**10, 2**10), compression="gzip")


def text(group: h5py.Group) -> None:
    group.create_dataset("0", data=["a", "b"])


def complex_numbers(group: h5py.Group) -> None:
    group.create_dataset("0", data=np.zeros(2, np.complex64))


def compound(group: h5py.Group) -> None:
    group.create_dataset("0", data=np.zeros(2, [("a", "f4"), ("b", "i4")]))


def nothing(group: h5py.Group) -> None:
    group.create_dataset("0", data=h5py.Empty("f4"))


def not_numbered(group: h5py.Group) -> None:
    group.create_dataset("kernel", data=np.zeros(2))


def too_many(group: h5py.Group) -> None:
    for number in range(3):
        group.create_dataset(str(number), data=np.zeros(2))


def group_for_a_dataset(group: h5py.Group) -> None:
    group.create_group("0")


def no_name(group: h5py.Group) -> None:
    del group.attrs["name"]
    group.create_dataset("0", data=np.zeros(2))


def endless(group: h5py.Group) -> None:
    group.create_dataset("0", data=np.zeros(2))
    group.parent["again"] = group.parent


def doubling(group: h5py.Group) -> None:
    """Thirty groups, of which each is linked twice from the one before: 2**30 ways to the last."""
    above = group.parent
    for _ in range(30):
        below = above.create_group("a")
        above["b"] = below
        above = below


@pytest.mark.parametrize(
    "build",
    [
        soft, external, external_storage, virtual, bomb, text, complex_numbers, compound, nothing,
        not_numbered, too_many, group_for_a_dataset, no_name, endless, doubling,
    ],
)  # fmt: skip
def test_a_file_that_points_elsewhere_or_lies_is_refused(
    tmp_path: Path, build: Callable[[h5py.Group], None]
) -> None:
    path = weights_file(tmp_path / "m.weights.h5", build)
    with pytest.raises(BadTensors, match=r"m\.weights\.h5"):
        import_weights(path, tmp_path / "out", "keras")
    assert not (tmp_path / "out").exists()


def test_a_model_of_keras_2_is_refused_with_a_way_that_works(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"dense"])
        file.attrs["keras_version"] = b"2.15.0"
    with pytest.raises(BadTensors, match=r"Keras 2\.15\.0.*save_weights"):
        import_weights(tmp_path / "m.h5", tmp_path / "out", "keras")


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_an_archive_without_its_parts_is_refused(tmp_path: Path, missing: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name in {"config.json", "model.weights.h5"} - {missing}:
            archive.writestr(name, "{}")
    with pytest.raises(BadTensors, match=missing):
        import_weights(tmp_path / "m.keras", tmp_path / "out", "keras")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(64 * 2**20))
    with pytest.raises(BadTensors, match="would be 67108864 bytes"):
        import_weights(tmp_path / "m.keras", tmp_path / "out", "keras")
