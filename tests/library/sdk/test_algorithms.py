"""FedProx, SCAFFOLD, FedDC and counted steps with PyTorch, each against its formula in float64."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import TensorFile, read_tensors, write_tensors
from catchment.models.updates import check_fits
from catchment.strategies.feddc import FedDC
from catchment.strategies.vectors import sent_signature
from catchment.wire.task import TaskFile
from tests.strategy_rounds import aggregate

MakeTask = Callable[..., Any]
Weights = dict[str, np.ndarray]

START: Weights = {"weight": np.array([[0.5, -1.25, 2.0]]), "bias": np.array([0.25])}
CONTROL: Weights = {"weight": np.array([[0.1, -0.2, 0.3]]), "bias": np.array([-0.4])}
OWN: Weights = {"weight": np.array([[-0.05, 0.15, 0.02]]), "bias": np.array([0.07])}
DRIFT: Weights = {"weight": np.array([[0.3, 0.1, -0.2]]), "bias": np.array([0.05])}
X = np.array([[1.0, 2.0, -1.0], [0.5, -0.3, 0.8], [-1.2, 0.4, 0.1], [0.9, 1.1, -0.6]])
Y = np.array([[0.3], [1.2], [-0.7], [0.1]])
BATCHES = [slice(0, 2), slice(2, 4)] * 3
SCAFFOLD = {"name": "scaffold", "params": {"learning_rate": 0.1}}


def gradient(w: Weights, x: np.ndarray = X, y: np.ndarray = Y) -> Weights:
    """Of the mean squared error of a linear model."""
    error = x @ w["weight"].T + w["bias"] - y
    return {"weight": 2 * error.T @ x / len(x), "bias": 2 * error.mean(axis=0)}


def each(function: Callable[..., np.ndarray], *trees: Weights) -> Weights:
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


@pytest.fixture
def model(make_task: MakeTask) -> Callable[..., torch.nn.Linear]:
    """Begins a task and loads its weights."""

    def begin(own: Weights | None = None, state: Weights | None = None, **fields: Any) -> torch.nn.Linear:
        task = make_task(START, **fields)
        begin.folder = task.folder  # type: ignore[attr-defined]
        if state is not None:
            write_tensors(task.folder / "state.safetensors", state)
        if own is not None:
            write_tensors(task.folder / "client_state.safetensors", own)
        loaded = torch.nn.Linear(3, 1).double()
        fl.load_weights(loaded)
        return loaded

    return begin


def named(mark: str, tree: Weights) -> Weights:
    return {f"@{mark}/{name}": value for name, value in tree.items()}


def train(
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[slice] = BATCHES,
    loss_of: Any = None,
    scheduler: Any = None,
) -> None:
    loss_of = loss_of or torch.nn.functional.mse_loss
    for batch in batches:
        optimizer.zero_grad()
        loss_of(module(torch.from_numpy(X[batch])), torch.from_numpy(Y[batch])).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def values(module: torch.nn.Module) -> Weights:
    return {name: item.detach().numpy().copy() for name, item in module.named_parameters()}


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12)


def update_of(folder: Path) -> Weights:
    return read_tensors(folder / "update.safetensors")


def kept_of(folder: Path) -> Weights:
    return read_tensors(folder / "next_client_state.safetensors")


# FedProx


def prox(**params: Any) -> dict[str, Any]:
    return {"optimizer": {"name": "fedprox", "params": params}}


def test_fedprox_is_its_formula(model: Any) -> None:
    linear = model(**prox(mu=0.3, learning_rate=0.1))
    train(linear, fl.create_optimizer(params=linear.parameters()))
    w = START
    for batch in BATCHES:
        w = each(lambda v, g, v0: v - 0.1 * (g + 0.3 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_the_pull_comes_before_momentum_and_beside_weight_decay(model: Any) -> None:
    linear = model(**prox(mu=0.3, learning_rate=0.1))
    train(linear, fl.create_optimizer(momentum=0.9, weight_decay=0.01))
    w, velocity = START, None
    for batch in BATCHES:
        step = each(lambda v, g, v0: g + 0.3 * (v - v0) + 0.01 * v, w, gradient(w, X[batch], Y[batch]), START)
        velocity = step if velocity is None else each(lambda old, new: 0.9 * old + new, velocity, step)
        w = each(lambda v, s: v - 0.1 * s, w, velocity)
    assert_close(values(linear), w)


@pytest.mark.parametrize(
    ("base", "further"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, {"betas": (0.8, 0.99)}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_without_a_pull_fedprox_is_the_plain_optimizer_bit_by_bit(
    model: Any, base: Any, further: Any
) -> None:
    plain = model(**prox(learning_rate=0.05))
    train(plain, base(plain.parameters(), lr=0.05, **further))
    pulled = torch.nn.Linear(3, 1).double()
    fl.load_weights(pulled)
    made = fl.create_optimizer(params=pulled.parameters(), mu=0, optimizer=base, **further)
    assert isinstance(made, base)
    train(pulled, made)
    for one, other in zip(plain.parameters(), pulled.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_pull_is_towards_the_rounds_weights_whenever_the_optimizer_is_made(model: Any) -> None:
    linear = model(**prox(mu=0.5, learning_rate=0.1))
    for _ in range(3):  # once an epoch
        train(linear, fl.create_optimizer(params=linear.parameters()), BATCHES[:2])
    w = START
    for batch in BATCHES:
        w = each(lambda v, g, v0: v - 0.1 * (g + 0.5 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_gradients_are_the_scripts_own_after_a_step(model: Any) -> None:
    linear = model(**prox(mu=10.0))
    optimizer = fl.create_optimizer()
    train(linear, optimizer, BATCHES[:1])
    before = linear.weight.grad.clone()
    optimizer.step()
    assert torch.equal(linear.weight.grad, before)


def test_a_closure_is_pulled_too(model: Any) -> None:
    linear = model(**prox(mu=0.3))
    optimizer = fl.create_optimizer(optimizer=torch.optim.LBFGS, learning_rate=0.2, tolerance_change=0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(linear(torch.from_numpy(X)), torch.from_numpy(Y))
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    w = values(linear)
    # At the minimum of the pulled loss its gradient vanishes.
    assert_close(
        each(lambda g, v, v0: np.round(g + 0.3 * (v - v0), 5) + 0.0, gradient(w), w, START),
        each(np.zeros_like, START),
    )


def test_jobs_parameters_defaults_and_arguments(model: Any) -> None:
    linear = model(**prox())
    assert fl.create_optimizer().param_groups[0]["lr"] == 0.01
    assert fl.create_optimizer(lr=0.5).param_groups[0]["lr"] == 0.5
    train(linear, fl.create_optimizer(), BATCHES[:2])
    w = START
    for batch in BATCHES[:2]:
        w = each(lambda v, g, v0: v - 0.01 * (g + 0.6 * (v - v0)), w, gradient(w, X[batch], Y[batch]), START)
    assert_close(values(linear), w)


def test_the_originals_argument_serves_for_parameters_of_another_model(model: Any) -> None:
    linear = model(**prox(mu=1.0, learning_rate=0.1))
    further = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    origins = [*(item.detach().clone() for item in linear.parameters()), torch.zeros(2, dtype=torch.float64)]
    optimizer = fl.create_optimizer(params=[*linear.parameters(), further], origin_trainable_weights=origins)
    (further * 3).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(further.detach().numpy(), 1 - 0.1 * (3 + 1))
    with pytest.raises(SdkError, match="holds 1 tensors, the optimizer has 3"):
        fl.create_optimizer(params=[*linear.parameters(), further], origin_trainable_weights=origins[:1])


@pytest.mark.parametrize("value", [-0.1, float("nan"), "much", True])
def test_a_pull_that_is_no_number_is_refused(model: Any, value: Any) -> None:
    model(**prox())
    with pytest.raises(SdkError, match="mu must be a number >= 0"):
        fl.create_optimizer(mu=value)


def test_the_weights_must_be_loaded_first(make_task: MakeTask) -> None:
    make_task(START, **prox())
    linear = torch.nn.Linear(3, 1).double()
    with pytest.raises(SdkError, match=r"call fl\.load_weights\(model\) first"):
        fl.create_optimizer(params=linear.parameters())
    fl.load_weights(linear)
    with pytest.raises(SdkError, match="no parameter of the optimizer is one of the model"):
        fl.create_optimizer(params=torch.nn.Linear(3, 1).parameters())


def test_sparse_gradients_are_refused(make_task: MakeTask) -> None:
    make_task({"weight": np.zeros((4, 2), np.float32)}, **prox())
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    fl.load_weights(embedding)
    optimizer = fl.create_optimizer()
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(SdkError, match="sparse"):
        optimizer.step()


# SCAFFOLD


def reference_scaffold(rates: Sequence[float], c: Weights, ck: Weights, batches: Any = BATCHES) -> Weights:
    w = START
    for rate, batch in zip(rates, batches, strict=True):
        g = gradient(w, X[batch], Y[batch])
        w = each(lambda v, gi, a, b, r=rate: v - r * (gi - b + a), w, g, c, ck)
    return w


def test_scaffold_is_its_formula_with_option_2(model: Any) -> None:
    linear = model(named("control", OWN), named("control", CONTROL), optimizer=SCAFFOLD)
    optimizer = fl.create_optimizer(params=linear.parameters(), batch_size=2, sample_num=12)
    train(linear, optimizer)
    fl.commit_weights(linear, optimizer)
    w = reference_scaffold([0.1] * 6, CONTROL, OWN)
    assert_close(values(linear), w)
    after = each(lambda ck, c, w0, wk: ck - c + (w0 - wk) / (6 * 0.1), OWN, CONTROL, START, w)
    change = each(np.subtract, after, OWN)
    moved = each(np.subtract, w, START)
    assert_close(update_of(model.folder), {**moved, **named("control", change)})
    assert_close(kept_of(model.folder), named("control", after))
    with TensorFile.open(model.folder / "weights.safetensors") as weights:
        expected = sent_signature(weights.signature, algorithm="scaffold")
    with TensorFile.open(model.folder / "update.safetensors") as update:
        check_fits(update.signature, expected)
        assert list(update.signature) == list(expected)


def test_option_2_takes_the_rates_of_a_schedule(model: Any) -> None:
    linear = model(optimizer=SCAFFOLD, state=named("control", CONTROL))
    optimizer = fl.create_optimizer()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    train(linear, optimizer, scheduler=schedule)
    fl.commit_weights(linear)
    rates = [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    zero = each(np.zeros_like, START)
    w = reference_scaffold(rates, CONTROL, zero)
    after = each(lambda c, w0, wk: -c + (w0 - wk) / sum(rates), CONTROL, START, w)
    assert_close(kept_of(model.folder), named("control", after))


def test_option_1_keeps_the_gradient_at_the_rounds_weights(model: Any) -> None:
    linear = model(named("control", OWN), named("control", CONTROL), optimizer=SCAFFOLD)
    optimizer = fl.create_optimizer(option=1)

    def closure() -> None:
        for batch in (slice(0, 1), slice(1, 4)):  # in parts, each with its share of the mean
            loss = torch.nn.functional.mse_loss(
                linear(torch.from_numpy(X[batch])), torch.from_numpy(Y[batch]), reduction="sum"
            )
            (loss / len(X)).backward()

    optimizer.full_gradient(closure)
    assert linear.weight.grad is None
    train(linear, optimizer)
    with pytest.raises(SdkError, match="before the first step"):
        optimizer.full_gradient(closure)
    fl.commit_weights(linear)
    assert_close(values(linear), reference_scaffold([0.1] * 6, CONTROL, OWN))
    assert_close(kept_of(model.folder), named("control", gradient(START)))
    change = each(np.subtract, gradient(START), OWN)
    assert_close(
        {name: array for name, array in update_of(model.folder).items() if name.startswith("@")},
        named("control", change),
    )


def test_option_1_without_its_gradient_is_refused(model: Any) -> None:
    linear = model(optimizer={"name": "scaffold", "params": {"option": "I"}})
    train(linear, fl.create_optimizer())
    with pytest.raises(SdkError, match=r"optimizer\.full_gradient\(closure\)"):
        fl.commit_weights(linear)
    with pytest.raises(SdkError, match="options 1 and 2, not 3"):
        fl.create_optimizer(option=3)


@pytest.mark.parametrize(
    "arguments",
    [{"optimizer": torch.optim.Adam}, {"momentum": 0.9}, {"maximize": True}],
    ids=["adam", "momentum", "maximize"],
)
def test_scaffold_takes_plain_sgd_only(model: Any, arguments: Any) -> None:
    model(optimizer=SCAFFOLD)
    with pytest.raises(SdkError, match="plain SGD only"):
        fl.create_optimizer(**arguments)


def test_scaffold_without_its_optimizer_is_refused(model: Any) -> None:
    linear = model(optimizer=SCAFFOLD)
    train(linear, torch.optim.SGD(linear.parameters(), lr=0.1))
    with pytest.raises(SdkError, match="needs the steps of its own optimizer"):
        fl.commit_weights(linear)
    assert not (model.folder / "update.safetensors").exists()


@pytest.mark.parametrize(("samples", "said"), [(12, False), (14, False), (10, False), (4, True), (20, True)])
def test_a_wrong_number_of_samples_is_logged_and_the_steps_count(
    model: Any, caplog: pytest.LogCaptureFixture, samples: int, said: bool
) -> None:
    linear = model(optimizer={"name": "scaffold", "params": {"sample_num": samples, "batch_size": 2}})
    train(linear, fl.create_optimizer(learning_rate=0.1))
    with caplog.at_level(logging.WARNING):
        fl.commit_weights(linear)
    assert ("6 steps were made" in caplog.text) is said
    moved = each(np.subtract, values(linear), START)
    assert_close(kept_of(model.folder), named("control", each(lambda d: -d / 0.6, moved)))


def test_a_tensor_that_a_batch_does_not_use_moves_by_the_correction(make_task: MakeTask) -> None:
    names = ("used.weight", "idle.weight")
    start = {name: np.ones((1, 1)) for name in names}
    task = make_task(start, optimizer=SCAFFOLD)
    write_tensors(
        task.folder / "state.safetensors", {f"@control/{name}": np.full((1, 1), 0.5) for name in names}
    )
    net = torch.nn.Module()
    net.used, net.idle = (torch.nn.Linear(1, 1, bias=False).double() for _ in names)
    fl.load_weights(net)
    optimizer = fl.create_optimizer()
    net.used.weight.square().sum().backward()
    optimizer.step()
    fl.commit_weights(net)
    np.testing.assert_allclose(net.idle.weight.item(), 1 - 0.1 * 0.5)
    kept = kept_of(task.folder)
    # The mean gradient that the client saw: 2 w = 2, and none.
    np.testing.assert_allclose(kept["@control/used.weight"], 2, rtol=1e-12)
    np.testing.assert_allclose(kept["@control/idle.weight"], 0, atol=1e-12)


def test_tied_tensors_buffers_and_fixed_parameters(make_task: MakeTask) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(2, 2, bias=False)
            self.tied = self.first
            self.norm = torch.nn.BatchNorm1d(2)
            self.fixed = torch.nn.Linear(2, 2, bias=False).requires_grad_(False)

    net = Net()
    task = make_task({name: item.numpy() for name, item in net.state_dict().items()}, optimizer=SCAFFOLD)
    fl.load_weights(net)
    optimizer = fl.create_optimizer(params=[item for item in net.parameters() if item.requires_grad])
    net.norm(net.tied(torch.randn(5, 2)) * net.fixed.weight.sum()).square().sum().backward()
    optimizer.step()
    fl.commit_weights(net)
    update, kept = update_of(task.folder), kept_of(task.folder)
    assert "@control/norm.num_batches_tracked" not in update
    for name in ("norm.running_mean", "fixed.weight"):
        assert not update[f"@control/{name}"].any()
        assert f"@control/{name}" not in kept
    np.testing.assert_array_equal(update["@control/first.weight"], update["@control/tied.weight"])
    assert update["@control/first.weight"].any()
    assert update["norm.num_batches_tracked"] == 1


@pytest.mark.parametrize("num_steps", [1, 2, 10])
@pytest.mark.parametrize("slope", [1.0, 100.0])
@pytest.mark.parametrize("algorithm", ["scaffold", "fedavg"])
def test_two_quadratic_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, slope: float, num_steps: int
) -> None:
    """f1 = m x^2 + G x, f2 = -G x: the mean's optimum is 0, and FedAvg's fixed point is known."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a thousand files, and no power cut
    curve, rate = 1.0, 0.2
    x, control, kept = 3.0, 0.0, [None, None]
    for number in range(1, 110):
        updates = []
        for site in (0, 1):
            folder = tmp_path / f"site-{site}"
            folder.mkdir(exist_ok=True)
            write_tensors(folder / "weights.safetensors", {"x": np.array([x])})
            write_tensors(folder / "state.safetensors", {"@control/x": np.array([control])})
            if kept[site] is not None:
                write_tensors(folder / "client_state.safetensors", kept[site])
            chosen = {"optimizer": {"name": "scaffold", "params": {"learning_rate": rate}}}
            begin_task(folder, monkeypatch, round=number, **(chosen if algorithm == "scaffold" else {}))
            net = torch.nn.Module()
            net.x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
            fl.load_weights(net)
            sgd = fl.create_optimizer() if algorithm == "scaffold" else torch.optim.SGD([net.x], lr=rate)
            for _ in range(num_steps):
                sgd.zero_grad()
                (curve * net.x**2 + slope * net.x if site == 0 else -slope * net.x).sum().backward()
                sgd.step()
            fl.commit_weights(net, sgd)
            updates.append(read_tensors(folder / "update.safetensors"))
            if algorithm == "scaffold":
                kept[site] = read_tensors(folder / "next_client_state.safetensors")
        x += float(np.mean([update["x"] for update in updates]))
        if algorithm == "scaffold":
            control += float(np.mean([update["@control/x"] for update in updates]))
            mine = np.mean([state["@control/x"] for state in kept])
            assert abs(control - mine) <= 1e-9 * slope
    fixed = num_steps * rate * slope / (1 - (1 - 2 * curve * rate) ** num_steps) - slope / (2 * curve)
    assert x == pytest.approx(0.0 if algorithm == "scaffold" else fixed, abs=1e-9 * slope, rel=1e-9)


def begin_task(folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    from catchment.wire.task import TaskFile

    task = TaskFile(kind="train", namespace="n", job_id="j", run=1, runtime="pytorch", seed=1, **fields)
    (folder / "task.json").write_text(task.model_dump_json())
    monkeypatch.setenv("CATCHMENT_TASK", str(folder / "task.json"))


# FedDC

FEDDC = {"name": "feddc", "params": {"alpha": 0.5, "lr": 0.1}}


def test_feddc_is_its_formula(model: Any) -> None:
    linear = model({**named("control", OWN), **named("drift", DRIFT)}, named("control", CONTROL), loss=FEDDC)
    loss = fl.create_loss(
        train_model=linear, origin_loss_func=torch.nn.MSELoss(), sample_num=4, batch_size=2, epoch=3
    )
    train(linear, torch.optim.SGD(linear.parameters(), lr=0.1), loss_of=loss)
    fl.commit_weights(linear)
    w = START
    for batch in BATCHES:
        g = gradient(w, X[batch], Y[batch])
        w = each(
            lambda v, gi, v0, h, c, ck: v - 0.1 * (gi + 0.5 * (v - (v0 - h)) + c - ck),
            w, g, START, DRIFT, CONTROL, OWN,
        )  # fmt: skip
    assert_close(values(linear), w)
    moved = each(np.subtract, w, START)
    after = each(lambda ck, c, d: ck - c - d / 0.6, OWN, CONTROL, moved)
    assert_close(
        kept_of(model.folder), {**named("control", after), **named("drift", each(np.add, DRIFT, moved))}
    )
    assert_close(update_of(model.folder), {**moved, **named("control", each(np.subtract, after, OWN))})


def test_feddc_adds_its_terms_once_a_call_with_live_parameters(model: Any) -> None:
    linear = model(named("drift", DRIFT), named("control", CONTROL), loss=FEDDC)
    loss = fl.feddc_loss(linear, torch.nn.MSELoss(), 4, 2, 0.1, 1, alpha=2.0)
    prediction, target = torch.from_numpy(X @ START["weight"].T), torch.from_numpy(Y)
    plain = torch.nn.functional.mse_loss(prediction, target).item()
    for shift in (0.0, 1.0):
        with torch.no_grad():
            linear.weight.add_(shift)
        w = values(linear)
        penalty = sum(
            np.square(w[name] - (START[name] - DRIFT[name])).sum() + (w[name] * CONTROL[name]).sum()
            for name in w
        )
        assert loss(prediction, target).item() == pytest.approx(plain + penalty, rel=1e-12)


def test_feddc_takes_steps_and_rates_of_a_counted_optimizer(model: Any, caplog: Any) -> None:
    linear = model(loss={"name": "feddc", "params": {"alpha": 0.5}})
    loss = fl.create_loss(origin_loss_func=torch.nn.MSELoss())
    optimizer = fl.create_optimizer(learning_rate=0.2)
    train(linear, optimizer, BATCHES[:4], loss_of=loss)
    fl.commit_weights(linear)
    moved = each(np.subtract, values(linear), START)
    kept = kept_of(model.folder)
    np.testing.assert_allclose(kept["@control/weight"], -moved["weight"] / 0.8, rtol=1e-9)
    np.testing.assert_allclose(kept["@drift/weight"], moved["weight"], rtol=1e-9)
    assert "diverge" not in caplog.text


def test_feddc_warns_where_the_pull_is_too_weak(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    linear = model(loss={"name": "feddc", "params": {"lr": 0.1}})
    loss = fl.create_loss(origin_loss_func=torch.nn.MSELoss())
    train(linear, torch.optim.SGD(linear.parameters(), lr=0.1), loss_of=loss)
    fl.commit_weights(linear)
    assert "learning rate * steps * alpha is 0.06" in caplog.text  # alpha is 0.1 where nobody says


@pytest.mark.parametrize(
    ("fields", "with_loss", "steps", "message"),
    [
        (FEDDC, False, True, "train with loss = fl.create_loss"),
        ({"name": "feddc"}, True, True, "needs the learning rate"),
        (FEDDC, True, False, "was never computed"),
    ],
)
def test_feddc_says_what_it_lacks(
    model: Any, fields: Any, with_loss: bool, steps: bool, message: str
) -> None:
    linear = model(loss=fields)
    loss = fl.create_loss(origin_loss_func=torch.nn.MSELoss()) if with_loss else None
    if steps:
        train(linear, torch.optim.SGD(linear.parameters(), lr=0.1), loss_of=loss)
    with pytest.raises(SdkError, match=message):
        fl.commit_weights(linear)


def test_feddc_needs_one_number_and_has_cross_entropy_by_default(model: Any) -> None:
    linear = model(loss=FEDDC)
    scores, labels = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    assert fl.create_loss()(scores, labels).item() == pytest.approx(np.log(3))
    loss = fl.create_loss(train_model=linear, origin_loss_func=torch.nn.MSELoss(reduction="none"))
    with pytest.raises(SdkError, match="must be one number"):
        loss(scores, scores)
    with pytest.raises(SdkError, match="batch_size must be at least 1"):
        fl.create_loss(sample_num=4, batch_size=0)


# Steps for FedNova; local and frozen tensors


def test_fednova_gets_the_steps_that_were_made(model: Any) -> None:
    linear = model(strategy={"name": "fednova"})
    optimizer = fl.create_optimizer(learning_rate=0.1)
    assert type(optimizer) is torch.optim.SGD
    train(linear, optimizer)
    fl.commit_weights(linear)
    assert update_of(model.folder)["@num_steps"].tolist() == [6.0]
    assert not (model.folder / "next_client_state.safetensors").exists()


@pytest.mark.parametrize("together", [True, False])
def test_fednova_takes_the_scripts_word_for_its_steps(model: Any, together: bool) -> None:
    linear = model(strategy={"name": "fednova"})
    with pytest.raises(SdkError, match="FedNova needs the number of optimizer steps"):
        fl.commit_weights(linear)
    if together:
        fl.commit({"sample_num": 4, "num_steps": np.int64(9)}, linear)
    else:
        fl.commit_metrics({"num_steps": 9})
        fl.commit_weights(linear)
    assert update_of(model.folder)["@num_steps"].tolist() == [9.0]
    with pytest.raises(SdkError, match="num_steps must be an integer > 0, not 0"):
        fl.commit({"num_steps": 0}, linear)


def test_two_optimizers_on_parts_of_a_model_are_counted_apart(model: Any) -> None:
    linear = model(strategy={"name": "fednova"})
    first, second = (fl.create_optimizer(params=[item]) for item in (linear.weight, linear.bias))
    train(linear, first, BATCHES[:3])
    train(linear, second, BATCHES[:5])
    fl.commit_weights(linear)
    assert update_of(model.folder)["@num_steps"].tolist() == [5.0]


def test_local_tensors_are_the_sites_own_and_are_not_sent(model: Any) -> None:
    strategy = {"name": "fedavg", "params": {"local": ["bias"]}}
    linear = model({"bias": np.array([7.0])}, strategy=strategy)
    assert linear.bias.item() == 7
    np.testing.assert_array_equal(linear.weight.detach().numpy(), START["weight"])
    train(linear, torch.optim.SGD(linear.parameters(), lr=0.1))
    fl.commit_weights(linear)
    assert list(update_of(model.folder)) == ["weight"]
    assert kept_of(model.folder) == {"bias": linear.bias.detach().numpy()}


def test_the_first_round_of_a_local_tensor_begins_from_the_global_one(model: Any) -> None:
    linear = model(strategy={"name": "fedavg", "params": {"local": ["bias"]}})
    assert linear.bias.item() == START["bias"]
    with torch.no_grad():
        linear.bias.fill_(float("nan"))
    with pytest.raises(SdkError, match="'bias' holds NaN"):
        fl.commit_weights(linear)


def test_a_local_tensor_of_another_shape_is_refused(make_task: MakeTask) -> None:
    task = make_task(START, strategy={"name": "fedavg", "params": {"local": ["bias"]}})
    write_tensors(task.folder / "client_state.safetensors", {"bias": np.zeros(2)})
    with pytest.raises(SdkError, match="'bias' as this site kept it is of another shape"):
        fl.load_weights(torch.nn.Linear(3, 1))


def test_local_batch_normalisation_stays_with_its_counter(make_task: MakeTask) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    task = make_task(
        {name: item.numpy() for name, item in net.state_dict().items()},
        strategy={"name": "fedavg", "params": {"local": ["1.*"]}},
    )
    fl.load_weights(net)
    net(torch.randn(8, 2))
    fl.commit_weights(net)
    assert list(update_of(task.folder)) == ["0.weight", "0.bias"]
    kept = kept_of(task.folder)
    assert kept["1.num_batches_tracked"] == 1
    np.testing.assert_array_equal(kept["1.running_mean"], net[1].running_mean.numpy())


def test_frozen_tensors_are_not_sent(model: Any) -> None:
    linear = model(strategy={"name": "fedavg", "params": {"shared": ["weight"]}})
    train(linear, torch.optim.SGD(linear.parameters(), lr=0.1))
    fl.commit_weights(linear)
    assert list(update_of(model.folder)) == ["weight"]
    assert not (model.folder / "next_client_state.safetensors").exists()


def test_fedprox_pulls_no_tensor_that_the_site_keeps(model: Any) -> None:
    linear = model(**prox(mu=5.0), strategy={"name": "fedavg", "params": {"local": ["bias"]}})
    plain = torch.nn.Linear(3, 1).double()
    fl.load_weights(plain)
    optimizer = fl.create_optimizer(model=linear, learning_rate=0.1)
    with torch.no_grad():
        for module in (linear, plain):
            module.bias.add_(1)
    train(linear, optimizer, BATCHES[:1])
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.1), BATCHES[:1])
    assert torch.equal(linear.bias, plain.bias)


def test_running_statistics_do_not_drift_under_feddc(make_task: MakeTask, tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).double()
    weights = {name: item.numpy().copy() for name, item in net.state_dict().items()}
    task = make_task(weights, loss={**FEDDC, "params": {"alpha": 1.0, "lr": 0.1}}, round=1)
    written = TaskFile.read(task.folder / "task.json")
    state: Weights = {}
    for number in range(1, 6):
        (task.folder / "task.json").write_text(written.model_copy(update={"round": number}).model_dump_json())
        fl.load_weights(net)
        loss = fl.create_loss(train_model=net, origin_loss_func=torch.nn.MSELoss())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            loss(net(3 + torch.randn(8, 2).double()), torch.zeros(8, 2).double()).backward()
            optimizer.step()
        fl.commit_weights(net)
        own = {name: item.numpy().copy() for name, item in net.state_dict().items()}
        new, outcome = aggregate(
            tmp_path,
            FedDC(),
            weights,
            [(8, update_of(task.folder))],
            state=state or None,
            round_number=number,
        )
        weights, state = read_tensors(new), outcome.state
        # The only client: its statistics are the coordinator's, while its weights get the drift added.
        for name in ("1.running_mean", "1.running_var"):
            np.testing.assert_allclose(weights[name], own[name], rtol=1e-12)
        assert not np.allclose(weights["1.weight"], own["1.weight"])
        write_tensors(task.folder / "weights.safetensors", weights)
        write_tensors(task.folder / "state.safetensors", state)
        (task.folder / "next_client_state.safetensors").replace(task.folder / "client_state.safetensors")


def test_a_batch_larger_than_the_data_is_one_step_an_epoch(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    linear = model(optimizer={"name": "scaffold", "params": {"sample_num": 3, "batch_size": 64}})
    optimizer = fl.create_optimizer(learning_rate=0.1)
    optimizer.zero_grad()
    linear(torch.ones(3, linear.in_features, dtype=linear.weight.dtype)).sum().backward()
    optimizer.step()
    with caplog.at_level(logging.WARNING):
        fl.commit_weights(linear)
    assert "steps were made" not in caplog.text
