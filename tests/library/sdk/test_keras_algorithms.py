"""FedProx, SCAFFOLD, FedDC and counted steps with Keras on its torch backend, against their formulas."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import read_tensors, write_tensors

os.environ.setdefault("KERAS_BACKEND", "torch")

MakeTask = Callable[..., Any]
Weights = dict[str, np.ndarray]

# Keras' torch backend hands its variables to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

START: Weights = {"net/out/kernel": np.array([[0.5], [-1.25], [2.0]]), "net/out/bias": np.array([0.25])}
CONTROL: Weights = {"net/out/kernel": np.array([[0.1], [-0.2], [0.3]]), "net/out/bias": np.array([-0.4])}
OWN: Weights = {"net/out/kernel": np.array([[-0.05], [0.15], [0.02]]), "net/out/bias": np.array([0.07])}
# Exact in float32, which Keras passes data and learning rates through.
X = np.array([[1.0, 2.0, -1.0], [0.5, -0.25, 0.75], [-1.25, 0.5, 0.125], [0.875, 1.125, -0.5]])
Y = np.array([[0.25], [1.25], [-0.75], [0.125]])
EPOCHS, BATCH, STEPS, RATE = 3, 2, 6, 0.125


def gradient(w: Weights, start: int) -> Weights:
    x, y = X[start : start + BATCH], Y[start : start + BATCH]
    error = x @ w["net/out/kernel"] + w["net/out/bias"] - y
    return {"net/out/kernel": 2 * x.T @ error / BATCH, "net/out/bias": 2 * error.mean(axis=0)}


def each(function: Callable[..., np.ndarray], *trees: Weights) -> Weights:
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def descend(term: Callable[[str, np.ndarray], np.ndarray]) -> Weights:
    """Plain SGD with `term(name, w)` added to the gradient."""
    w = START
    for _ in range(EPOCHS):
        for start in (0, 2):
            g = gradient(w, start)
            w = {name: value - RATE * (g[name] + term(name, value)) for name, value in w.items()}
    return w


def named(mark: str, tree: Weights) -> Weights:
    return {f"@{mark}/{name}": value for name, value in tree.items()}


@pytest.fixture
def begin(make_task: MakeTask) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Begins a task; gives its folder and a model with its weights."""
    import keras

    keras.utils.clear_session()

    def make(state: Weights | None = None, own: Weights | None = None, **fields: Any) -> tuple[Any, Any]:
        task = make_task(START, runtime="keras", **fields)
        for name, tree in (("state", state), ("client_state", own)):
            if tree is not None:
                write_tensors(task.folder / f"{name}.safetensors", tree)
        layers = [keras.Input((3,)), keras.layers.Dense(1, name="out", dtype="float64")]
        model = keras.Sequential(layers, name="net")
        fl.load_weights(model)
        return task.folder, model

    yield make
    keras.utils.clear_session()


def fit(model: Any, optimizer: Any, loss: Any = "mse") -> None:
    model.compile(optimizer, loss)
    model.fit(X, Y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0)


def values(model: Any) -> Weights:
    import keras

    return {one.path: np.array(keras.ops.convert_to_numpy(one)) for one in model.weights}


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        # Keras computes losses in float32, whatever the model is.
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-7)


def test_fedprox_is_its_formula(begin: Any) -> None:
    _, model = begin(optimizer={"name": "fedprox", "params": {"mu": 0.3, "learning_rate": RATE}})
    fit(model, fl.create_optimizer(origin_trainable_weights=model.trainable_weights))
    assert_close(values(model), descend(lambda name, w: 0.3 * (w - START[name])))


def test_without_a_pull_it_is_the_plain_optimizer_bit_by_bit(begin: Any) -> None:
    import keras

    _, plain = begin(optimizer={"name": "fedprox"})
    pulled = keras.models.clone_model(plain)
    fl.load_weights(pulled)
    optimizer = fl.create_optimizer(mu=0, learning_rate=0.05, optimizer=keras.optimizers.Adam)
    assert isinstance(optimizer, keras.optimizers.Adam)
    fit(plain, keras.optimizers.Adam(0.05))
    fit(pulled, optimizer)
    for one, other in zip(values(plain).values(), values(pulled).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_scaffold_is_its_formula(begin: Any) -> None:
    folder, model = begin(
        named("control", CONTROL), named("control", OWN),
        optimizer={"name": "scaffold", "params": {"learning_rate": RATE}},
    )  # fmt: skip
    fit(model, fl.create_optimizer())
    fl.commit_weights(model)
    w = descend(lambda name, _: CONTROL[name] - OWN[name])
    assert_close(values(model), w)
    after = each(lambda ck, c, w0, wk: ck - c + (w0 - wk) / (STEPS * RATE), OWN, CONTROL, START, w)
    assert_close(read_tensors(folder / "next_client_state.safetensors"), named("control", after))
    update = read_tensors(folder / "update.safetensors")
    assert_close(update, {**each(np.subtract, w, START), **named("control", each(np.subtract, after, OWN))})


def test_scaffold_takes_plain_sgd_and_option_2_only(begin: Any) -> None:
    import keras

    begin(optimizer={"name": "scaffold"})
    for arguments in ({"momentum": 0.9}, {"optimizer": keras.optimizers.Adam}):
        with pytest.raises(SdkError, match="plain SGD only"):
            fl.create_optimizer(**arguments)
    with pytest.raises(SdkError, match="option 1 is for PyTorch"):
        fl.create_optimizer(option=1)


def test_feddc_is_its_formula(begin: Any) -> None:
    folder, model = begin(
        named("control", CONTROL), {**named("control", OWN), **named("drift", OWN)},
        loss={"name": "feddc", "params": {"alpha": 0.5, "lr": RATE}},
    )  # fmt: skip
    import keras

    loss = fl.create_loss(train_model=model, origin_loss_func=keras.losses.MeanSquaredError())
    fit(model, keras.optimizers.SGD(RATE), loss)
    model.evaluate(X, Y, verbose=0)  # counts as no step
    fl.commit_weights(model)
    w = descend(
        lambda name, v: 0.5 * (v - (START[name] - OWN[name])) + CONTROL[name] - OWN[name],
    )
    assert_close(values(model), w)
    moved = each(np.subtract, w, START)
    after = each(lambda ck, c, d: ck - c - d / (STEPS * RATE), OWN, CONTROL, moved)
    kept = read_tensors(folder / "next_client_state.safetensors")
    assert_close(kept, {**named("control", after), **named("drift", each(np.add, OWN, moved))})


def test_feddc_has_categorical_cross_entropy_by_default(begin: Any) -> None:
    import keras

    begin(loss={"name": "feddc", "params": {"alpha": 0.5}})
    loss = fl.create_loss()
    truth, guess = keras.ops.eye(4), keras.ops.full((4, 4), 0.25)
    assert loss(truth, guess).detach().item() == pytest.approx(np.log(4))


def test_steps_are_counted_also_where_gradients_are_gathered(begin: Any) -> None:
    folder, model = begin(strategy={"name": "fednova"})
    fit(model, fl.create_optimizer(gradient_accumulation_steps=2))
    fl.commit_weights(model)
    assert read_tensors(folder / "update.safetensors")["@num_steps"].tolist() == [STEPS / 2]


def test_a_model_that_was_not_loaded_is_refused(begin: Any) -> None:
    import keras

    _, model = begin(strategy={"name": "fednova"})
    with pytest.raises(SdkError, match="another model"):
        fit(keras.models.clone_model(model), fl.create_optimizer())


def test_another_backend_is_refused(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    begin(optimizer={"name": "fedprox"}, loss={"name": "feddc"})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for create in (fl.create_optimizer, fl.create_loss):
        with pytest.raises(SdkError, match="need Keras' torch backend, not jax"):
            create()


def test_local_layers_stay(begin: Any) -> None:
    strategy = {"name": "fedavg", "params": {"local": ["*/bias"]}}
    folder, model = begin(own={"net/out/bias": np.array([7.0])}, strategy=strategy)
    assert values(model)["net/out/bias"] == 7
    fit(model, "sgd")
    fl.commit_weights(model)
    assert list(read_tensors(folder / "update.safetensors")) == ["net/out/kernel"]
    kept = read_tensors(folder / "next_client_state.safetensors")
    np.testing.assert_array_equal(kept["net/out/bias"], values(model)["net/out/bias"])
