"""Algorithms at a site, with the agent as a process: states, what is sent, compression, links."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from catchment.compression import opened
from catchment.models.tensors import TensorFile
from catchment.wire.messages import Algorithm, WorkOrder
from tests.library.site.conftest import AgentProcess
from tests.library.site.exchange_double import ExchangeDouble

Start = Callable[..., AgentProcess]

SCAFFOLD = """
import sys, torch, catchment.sdk as fl
model = torch.nn.Linear(2, 1, bias=False).double()
fl.load_weights(model)
if fl.task().kind == "evaluate":
    fl.commit_metrics({"sample_num": 1, "accuracy": float(model.weight.sum())})
    sys.exit()
optimizer = fl.create_optimizer(params=model.parameters())
if optimizer is None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
optimizer.zero_grad()
(model.weight * torch.tensor([[1.0, 2.0]])).sum().backward()
optimizer.step()
fl.commit({"sample_num": 1}, model)
"""
WEIGHTS = save({"weight": np.zeros((1, 2))})
RULE = Algorithm(name="scaffold", params={"learning_rate": 0.5})

WRITE = """
import os, pathlib, numpy as np
from safetensors.numpy import load_file, save_file
folder = pathlib.Path(os.environ["CATCHMENT_TASK"]).parent
weights = load_file(folder / "weights.safetensors")
rng = np.random.default_rng(int(os.environ.get("SEED", "0")))
save_file({name: rng.standard_normal(value.shape).astype(value.dtype) for name, value in weights.items()},
          folder / "update.safetensors")
"""


@pytest.fixture
def begin(exchange: ExchangeDouble, start_agent: Start, add_entry: Any, order: Any) -> Any:
    """Starts an agent with a script; gives what publishes a work and waits for its update."""

    def make(source: str, weights: bytes, **always: Any) -> Any:
        add_entry("e", source)
        agent = start_agent()
        blob = exchange.add_blob(weights)

        def work(**changes: Any) -> WorkOrder:
            given: WorkOrder = exchange.publish(order(weights=blob, **always, **changes))
            result = exchange.result(given.work_id, 60)
            exchange.until(lambda: given.work_id not in exchange.polls[-1].holding)
            work.last = result  # type: ignore[attr-defined]
            return given

        work.agent = agent  # type: ignore[attr-defined]
        return work

    exchange.poll_s = 0.2
    return make


def update(exchange: ExchangeDouble, work: WorkOrder) -> dict[str, np.ndarray]:
    return dict(load(bytes(exchange.uploads[work.work_id])))


def kept(agent: AgentProcess) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in (agent.home / "states").glob("*/*/*"))


def test_scaffold_goes_on_from_the_work_that_counted(exchange: ExchangeDouble, begin: Any) -> None:
    work = begin(SCAFFOLD, WEIGHTS, optimizer=RULE)
    first = work()
    assert work.last.status == "done", work.last
    # c_k' = (w^t - w_k) / lr = g
    np.testing.assert_allclose(update(exchange, first)["@control/weight"], [[1, 2]])
    rejected = work(
        client_state=first.work_id, state=exchange.add_blob(save({"@control/weight": np.ones(2)}))
    )
    sent = update(exchange, rejected)
    # w - lr * (g - c_k + c), with c_k = g from the first work and c = 1; then c_k' = g again
    np.testing.assert_allclose(sent["weight"], [[-0.5, -0.5]])
    np.testing.assert_allclose(sent["@control/weight"], [[0, 0]], atol=1e-12)
    again = work(client_state=first.work_id)
    np.testing.assert_allclose(update(exchange, again)["weight"], [[0, 0]], atol=1e-12)
    assert kept(work.agent) == sorted([first.work_id, rejected.work_id, again.work_id])
    last = work(client_state=again.work_id)
    assert kept(work.agent) == sorted([again.work_id, last.work_id])
    assert "begins anew" not in work.last.log_tail


def test_a_lost_state_is_begun_anew_with_a_warning(exchange: ExchangeDouble, begin: Any) -> None:
    work = begin(SCAFFOLD, WEIGHTS, optimizer=RULE)
    given = work(client_state="of-another-disk")
    np.testing.assert_allclose(update(exchange, given)["weight"], [[-0.5, -1]])
    assert "nothing is kept here of work of-another-disk" in work.last.log_tail
    assert "begins anew" in work.last.log_tail


def test_a_script_that_fails_leaves_no_state(exchange: ExchangeDouble, begin: Any) -> None:
    work = begin(SCAFFOLD + "\nraise SystemExit(3)", WEIGHTS, optimizer=RULE)
    work()
    assert work.last.status == "failed"
    assert kept(work.agent) == []


def test_local_tensors_stay_at_the_site_and_serve_its_evaluation(
    exchange: ExchangeDouble, begin: Any
) -> None:
    weights = save({"weight": np.zeros((1, 2)), "other": np.zeros(1)})
    source = SCAFFOLD.replace(
        "fl.load", "model.register_buffer('other', torch.zeros(1).double()); fl.load", 1
    )
    work = begin(source, weights, strategy=Algorithm(name="fedavg", params={"local": ["weight"]}))
    first = work()
    assert list(update(exchange, first)) == ["other"]
    work(kind="evaluate", client_state=first.work_id)
    assert work.last.metrics["accuracy"] == -1.5
    assert kept(work.agent) == [first.work_id]
    work(kind="evaluate", client_state="lost")
    assert work.last.metrics["accuracy"] == 0
    assert "begins anew" in work.last.log_tail


def test_an_agent_that_starts_anew_still_has_its_states(
    exchange: ExchangeDouble, begin: Any, start_agent: Start, order: Any
) -> None:
    work = begin(SCAFFOLD, WEIGHTS, optimizer=RULE)
    first = work()
    assert work.agent.stop() == 0
    start_agent()
    second = exchange.publish(
        order(weights=exchange.add_blob(WEIGHTS), optimizer=RULE, client_state=first.work_id)
    )
    exchange.result(second.work_id, 60)
    np.testing.assert_allclose(update(exchange, second)["weight"], [[0, 0]], atol=1e-12)


@pytest.mark.parametrize(("kind", "share"), [("bf16", 0.5), ("int8", 0.25), ("topk", 0.02)])
def test_a_compressed_update_is_what_the_coordinator_opens(
    exchange: ExchangeDouble, begin: Any, tmp_path: Path, kind: str, share: float
) -> None:
    weights = save({"w": np.zeros((400, 500), np.float32), "b": np.zeros(3, np.float32)})
    rule = Algorithm(name=kind)
    work = begin(WRITE, weights, compression=rule)
    first = work()
    assert work.last.status == "done", work.last
    data = bytes(exchange.uploads[first.work_id])
    assert len(data) == pytest.approx(share * 800_000, rel=0.02)
    (tmp_path / "sent").write_bytes(data)
    (tmp_path / "weights").write_bytes(weights)
    with (
        TensorFile.open(tmp_path / "weights") as file,
        opened(tmp_path / "sent", rule, file.signature) as got,
    ):
        exact = np.random.default_rng(0).standard_normal(3)
        assert got.values("w").std() > 0.1
        np.testing.assert_array_equal(got.values("b").shape, exact.shape)
    assert kept(work.agent) == ([first.work_id] if kind == "topk" else [])
    work(client_state=first.work_id)
    assert work.last.status == "done"
    assert "begins anew" not in work.last.log_tail


def test_what_topk_left_out_is_in_the_next_update(
    exchange: ExchangeDouble, begin: Any, tmp_path: Path
) -> None:
    rule = Algorithm(name="topk", params={"ratio": 0.5})
    work = begin(WRITE, save({"w": np.zeros(64, np.float32)}), compression=rule)
    values = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    order = np.argsort(-np.abs(values))
    first = work()
    np.testing.assert_array_equal(update(exchange, first)["@indices/w"], np.sort(order[:32]))
    # The script makes the same update again: the half that was left out counts twice now.
    second = work(client_state=first.work_id)
    total = values.copy()
    total[order[32:]] *= 2
    sent = update(exchange, second)
    places = np.sort(np.argsort(-np.abs(total))[:32])
    np.testing.assert_array_equal(sent["@indices/w"], places)
    np.testing.assert_array_equal(sent["@values/w"], total[places])


AFTER = (
    SCAFFOLD
    + """
import os, pathlib
kept = pathlib.Path(os.environ["CATCHMENT_TASK"]).parent / "next_client_state.safetensors"
"""
)
OTHER = WRITE.replace('load_file(folder / "weights.safetensors")', "{'x': np.ones(2)}")


def shared(name: str) -> dict[str, Any]:
    return {"strategy": Algorithm(name="fedavg", params={"shared": [name]})}


@pytest.mark.parametrize(
    ("fields", "source", "reason"),
    [
        ({"optimizer": RULE}, WRITE, "left no next_client_state.safetensors"),
        (
            {"optimizer": RULE},
            AFTER + "kept.rename(kept.with_name('x')); kept.symlink_to(kept.with_name('x'))",
            "left no next_client_state.safetensors",
        ),
        (
            {"optimizer": RULE},
            AFTER + "kept.write_bytes(b'rubbish' * 9)",
            "next_client_state.safetensors cannot be used",
        ),
        ({"optimizer": RULE}, SCAFFOLD + WRITE, "missing: @control/weight"),
        (shared("weight"), OTHER, "missing: weight; unexpected: x"),
        (shared("nobody"), WRITE, "'nobody' fits no tensor"),
        ({"compression": Algorithm(name="zip")}, WRITE, "compression.type"),
        ({"compression": Algorithm(name="topk", params={"ratio": 2})}, WRITE, "compression.params.ratio"),
    ],
)
def test_what_cannot_be_sent_or_kept_fails_with_the_reason(
    begin: Any, fields: dict[str, Any], source: str, reason: str
) -> None:
    work = begin(source, WEIGHTS, **fields)
    work()
    assert work.last.status == "failed"
    assert reason in work.last.reason
    assert kept(work.agent) == []


def test_the_script_knows_the_jobs_algorithms(begin: Any) -> None:
    source = (
        WRITE
        + """
import json
task = json.loads((folder / "task.json").read_text())
told = {name: task[name] for name in ("strategy", "optimizer", "loss")}
(folder / "metrics.json").write_text(json.dumps(told))
"""
    )
    strategy, loss = Algorithm(name="fedadam", params={"tau": 0.1}), Algorithm(name="other")
    work = begin(source, WEIGHTS, strategy=strategy, loss=loss)
    work()
    assert work.last.metrics == {
        "strategy": json.loads(strategy.model_dump_json()),
        "optimizer": None,
        "loss": {"name": "other", "params": {}},
    }
