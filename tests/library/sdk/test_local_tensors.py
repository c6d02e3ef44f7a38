"""Steps that are counted for FedNova, and tensors that stay at the site or are frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import write_tensors
from tests.library.sdk.regression import (
    BATCHES,
    START,
    MakeTask,
    kept_of,
    prox,
    train,
    update_of,
)


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
