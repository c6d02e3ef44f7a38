"""SCAFFOLD with PyTorch against its formula in float64."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import TensorFile, read_tensors, write_tensors
from catchment.models.updates import check_fits
from catchment.strategies.vectors import sent_signature
from catchment.wire.task import TaskFile
from tests.library.sdk.regression import (
    BATCHES,
    CONTROL,
    OWN,
    SCAFFOLD,
    START,
    MakeTask,
    Weights,
    X,
    Y,
    assert_close,
    each,
    gradient,
    kept_of,
    named,
    train,
    update_of,
    values,
)


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

    task = TaskFile(kind="train", namespace="n", job_id="j", run=1, runtime="pytorch", seed=1, **fields)
    (folder / "task.json").write_text(task.model_dump_json())
    monkeypatch.setenv("CATCHMENT_TASK", str(folder / "task.json"))


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
