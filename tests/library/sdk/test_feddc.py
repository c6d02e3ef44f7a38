"""FedDC with PyTorch against its formula in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import read_tensors, write_tensors
from catchment.strategies.feddc import FedDC
from catchment.wire.task import TaskFile
from tests.library.sdk.regression import (
    BATCHES,
    CONTROL,
    DRIFT,
    FEDDC,
    OWN,
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
from tests.strategy_rounds import aggregate


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
