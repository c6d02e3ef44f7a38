"""Loading and committing weights of PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError
from catchment.models.tensors import TensorFile, check_update, read_tensors

MakeTask = Callable[..., Any]


class Net(torch.nn.Module):
    """Every kind of entry that a state dict may have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.half = torch.nn.Linear(3, 2).half()
        self.brain = torch.nn.Linear(3, 2).bfloat16()
        self.exact = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.tied = self.first
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)
        self.register_buffer("empty", torch.zeros(0, 2))


def changed(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for tensor in {id(item): item for item in module.state_dict(keep_vars=True).values()}.values():
            if tensor.dtype == torch.bool:
                tensor.logical_not_()
            else:
                tensor.add_(1)


def weights_of(module: torch.nn.Module, path: Path) -> dict[str, np.ndarray]:
    fl.save_weights(module, path)
    return read_tensors(path)


@pytest.fixture
def task(make_task: MakeTask) -> Any:
    """A task on the weights of one Net, which are not those of any other."""
    task = make_task()
    fl.save_weights(Net(), task.folder / "weights.safetensors")
    return task


def test_loading_sets_every_tensor_in_place(task: Any, tmp_path: Path) -> None:
    net = Net()
    before = {name: id(tensor) for name, tensor in net.named_parameters()}
    fl.load_weights(net)
    want = read_tensors(task.folder / "weights.safetensors")
    got = weights_of(net, tmp_path / "w")
    assert want.keys() == got.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
    assert {name: id(tensor) for name, tensor in net.named_parameters()} == before
    changed(net)  # what was loaded can be trained, and the file stays as it was
    np.testing.assert_array_equal(read_tensors(task.folder / "weights.safetensors")["exact"], want["exact"])


def test_an_update_holds_differences_and_integers_as_values(task: Any) -> None:
    net = Net()
    fl.load_weights(net)
    changed(net)
    fl.commit_weights(net)
    with (
        TensorFile.open(task.folder / "weights.safetensors") as weights,
        TensorFile.open(task.folder / "update.safetensors") as update,
    ):
        check_update(update, weights.signature)
        assert list(update.signature) == list(weights.signature)
        assert "scratch" not in update.signature
    got = read_tensors(task.folder / "update.safetensors")
    assert got["norm.num_batches_tracked"] == 1
    assert got["mask"].tolist() == [False, True]
    assert got["half.weight"].dtype == got["brain.weight"].dtype == np.float32
    assert got["exact"].dtype == np.float64
    for name in ("first.weight", "tied.weight", "norm.running_var", "exact"):
        np.testing.assert_allclose(got[name], 1, rtol=1e-5)
    np.testing.assert_allclose(got["half.weight"], 1, rtol=1e-2)


def test_weights_plus_update_is_the_trained_model(task: Any) -> None:
    net = Net()
    fl.load_weights(net)
    before = read_tensors(task.folder / "weights.safetensors")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float32).to(parameter.dtype))
    fl.commit({"sample_num": 3}, net)
    update = read_tensors(task.folder / "update.safetensors")
    for name, tensor in net.named_parameters():
        want = tensor.detach().float().numpy().astype(np.float64)
        np.testing.assert_allclose(before[name].astype(np.float64) + update[name], want, atol=1e-6)
    assert (task.folder / "metrics.json").exists()


@pytest.mark.parametrize(
    "wrap", [torch.nn.DataParallel, lambda net: torch.nn.DataParallel(torch.nn.DataParallel(net))]
)
def test_wrappers_are_looked_through(task: Any, wrap: Callable[[Any], Any]) -> None:
    model = wrap(Net())
    fl.load_weights(model)
    fl.commit_weights(model)
    assert (task.folder / "update.safetensors").exists()


def test_a_distributed_module_is_looked_through_and_only_rank_0_writes(task: Any) -> None:
    fl.save_weights(torch.nn.Linear(4, 3), task.folder / "weights.safetensors")
    done = task.run(
        """
        import os, torch, catchment.sdk as fl
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 3))
        fl.load_weights(net)
        for rank in ("1", "0"):
            os.environ["RANK"] = rank
            fl.commit({"sample_num": 1}, net)
            print(sorted({"update.safetensors", "metrics.json"} & set(os.listdir(os.environ["FOLDER"]))))
        torch.distributed.destroy_process_group()
        """,
        FOLDER=str(task.folder),
        WORLD_SIZE="2",
    )
    assert done.stdout.splitlines() == ["[]", "['metrics.json', 'update.safetensors']"], done.stderr


def test_a_script_with_torch_never_imports_keras(task: Any) -> None:
    fl.save_weights(torch.nn.Linear(4, 3), task.folder / "weights.safetensors")
    done = task.run(
        """
        import sys, torch, catchment.sdk as fl
        net = torch.nn.Linear(4, 3)
        fl.load_weights(net)
        fl.commit_weights(net)
        print("keras" in sys.modules, "tensorflow" in sys.modules)
        """
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(task: Any, value: float) -> None:
    net = Net()
    fl.load_weights(net)
    with torch.no_grad():
        net.norm.bias[1] = value
    with pytest.raises(SdkError, match=r"'norm\.bias' holds NaN or infinite"):
        fl.commit_weights(net)
    assert {path.name for path in task.folder.iterdir() if "update" in path.name} == set()


def test_differences_between_model_and_weights_are_listed(task: Any) -> None:
    class Other(Net):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(5, 3)
            self.more = torch.nn.Parameter(torch.ones(1))
            del self.exact

    model = Other()
    for call in (fl.load_weights, fl.commit_weights):
        with pytest.raises(SdkError) as caught:
            call(model)
        for part in ("missing: exact", "unexpected: more", r"first.weight [3, 5] instead of [3, 4]"):
            assert part in str(caught.value)


def test_an_integer_where_the_weights_have_floats_is_refused(make_task: MakeTask) -> None:
    make_task({"w": np.zeros(2, np.float32)})
    model = torch.nn.Module()
    model.register_buffer("w", torch.zeros(2, dtype=torch.int64))
    with pytest.raises(SdkError, match="wrong dtype: w"):
        fl.load_weights(model)


def test_training_in_another_precision_than_the_weights(make_task: MakeTask) -> None:
    task = make_task({"weight": np.full((1, 2), 0.5, np.float32)})
    model = torch.nn.Linear(2, 1, bias=False).double()
    fl.load_weights(model)
    assert model.weight.dtype == torch.float64
    assert model.weight.tolist() == [[0.5, 0.5]]
    fl.commit_weights(model)
    assert read_tensors(task.folder / "update.safetensors")["weight"].dtype == np.float32


def test_large_tensors_and_transposed_memory(make_task: MakeTask) -> None:
    base = np.random.default_rng(0).standard_normal((700, 500)).astype(np.float32)
    task = make_task({"w": base})
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(500, 700).t())
    fl.load_weights(model)
    with torch.no_grad():
        model.w.mul_(3)
    fl.commit_weights(model)
    np.testing.assert_array_equal(
        read_tensors(task.folder / "update.safetensors")["w"], base * np.float32(3) - base
    )


def test_a_task_that_evaluates_takes_no_weights(make_task: MakeTask) -> None:
    task = make_task({"weight": np.ones((1, 1), np.float32)}, kind="evaluate")
    with pytest.warns(UserWarning, match="evaluates"):
        fl.commit_weights(torch.nn.Linear(1, 1, bias=False))
    assert not (task.folder / "update.safetensors").exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: torch.zeros(2, dtype=torch.complex64), "complex64"),
        (lambda: torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_tensors_that_cannot_be_federated_are_refused_by_name(
    make_task: MakeTask, tensor: Callable[[], torch.Tensor], message: str
) -> None:
    make_task()
    model = torch.nn.Module()
    model.register_buffer("w", tensor())
    with pytest.raises(SdkError, match=f"'w'.*{message}"):
        fl.load_weights(model)


@pytest.mark.parametrize(
    "make", [lambda: torch.nn.LazyLinear(2), lambda: torch.nn.Linear(2, 2, device="meta")]
)
def test_a_module_without_values_is_refused(make_task: MakeTask, make: Callable[[], Any]) -> None:
    make_task()
    with pytest.raises(SdkError, match="'weight' has no values yet"):
        fl.commit_weights(make())


@pytest.mark.parametrize("model", [None, {}, "model", np.ones(1), torch.ones(1)])
def test_what_is_no_model_is_refused(make_task: MakeTask, model: Any) -> None:
    make_task()
    with pytest.raises(SdkError, match=r"torch\.nn\.Module or a keras\.Model"):
        fl.load_weights(model)


def test_save_weights_refuses_nan_and_leaves_nothing(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(SdkError, match="'bias'"):
        fl.save_weights(model, tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []
