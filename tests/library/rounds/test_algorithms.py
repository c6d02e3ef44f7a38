"""Algorithms through whole rounds: what orders carry, what is admitted, where the state is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select as sql_select

from catchment.compression import codec_of, encode, opened
from catchment.errors import CatchmentError, InvalidField
from catchment.exchange import transfer
from catchment.jobs import lifecycle, log, purge, rows
from catchment.models.tensors import TensorFile, read_tensors, write_tensors
from catchment.rounds import aggregation, collect, commit, journal, prepare, select
from catchment.rounds.claim import claim_job
from catchment.store import Store
from catchment.store.schema import checkpoints, rounds
from catchment.wire.messages import WorkOrder, WorkResult
from tests.runs import begin, drive, one_round
from tests.thread_sites import add_one, job

SCAFFOLD = {"optimizer": {"name": "scaffold", "params": {"learning_rate": 0.1}}}


def blobs(store: Store) -> set[str]:
    folder = store.settings.home / "blobs" / "sha256"
    return {"sha256:" + "".join(path.parts[-2:]) for path in folder.rglob("*") if path.is_file()}


def attempts(store: Store) -> list[Any]:
    return store.db.read(lambda tx: tx.execute(sql_select(rounds).order_by(rounds.c.number)).all())


def final_weights(store: Store) -> dict[str, np.ndarray]:
    return read_tensors(store.blobs.local_path(attempts(store)[-1].new_weights))


def moving(value: float, control: float = 0.0, samples: int = 10) -> Any:
    """A training that always moves by the same, and moves its control variate too."""

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update = {"w": np.full_like(weights["w"], value), "steps": weights["steps"] + 1}
        if control:
            update["@control/w"] = np.full_like(weights["w"], control)
        return update, {"sample_num": samples, "loss": 1.0}

    return train


def test_fedadam_goes_on_from_its_state_round_after_round(store, make_site):
    make_site("a", moving(1.0))
    make_site("b", moving(3.0, samples=30))
    body = job(strategy={"name": "fedadam", "params": {"eta": 0.5, "tau": 0.01}})
    drive(store, begin(store, body))
    first, second, weight = 0.0, 0.01**2, 0.0
    for _ in range(3):
        first, second = 0.9 * first + 0.1 * 2.5, 0.99 * second + 0.01 * 2.5**2
        weight += 0.5 * first / (second**0.5 + 0.01)
    np.testing.assert_allclose(final_weights(store)["w"], np.full((2, 3), weight), rtol=1e-6)
    report = lifecycle.job_rounds(store, "default", "j")[0]
    assert report["strategy"] == {"name": "fedadam", "metrics": {}}


def test_old_states_are_swept_and_a_delete_leaves_no_blob(store, make_site):
    make_site("a", moving(1.0))
    make_site("b", moving(2.0))
    drive(store, begin(store, job(strategy={"name": "fedavgm"}, hyper_parameters={"max_round_num": 4})))
    last = attempts(store)[-1]
    row = store.db.read(lambda tx: rows.require(tx, "default", "j"))
    expected = {row.initial_weights, last.weights, last.new_weights, last.state_before, last.new_state}
    assert blobs(store) == expected
    lifecycle.request_delete(store, "default", "j")
    purge.purge_job(store, row.uid)
    assert blobs(store) == set()


def test_scaffold_sends_its_control_and_names_the_clients_last_counted_work(store, make_site):
    site = make_site("a", moving(1.0, control=0.5))
    make_site("b", moving(3.0, control=1.5))
    make_site("idle", moving(9.0, control=9.0))
    claim = begin(store, job(**SCAFFOLD, clients="a,b,idle,unborn", hyper_parameters={"max_round_num": 3}))
    drive(store, claim)
    trained = [order for order in site.seen if order.kind == "train"]
    assert trained[0].state is None
    assert trained[0].client_state is None
    assert [order.client_state for order in trained[1:]] == [order.work_id for order in trained[:-1]]
    assert trained[1].state is not None
    assert trained[1].strategy is not None
    assert trained[1].strategy.name == "scaffold"
    assert trained[1].optimizer is not None
    assert trained[1].optimizer.params == {"learning_rate": 0.1}
    # N is 4, the sites that `clients` names: (0.5 + 1.5) / 4 a round.
    state = read_tensors(store.blobs.local_path(attempts(store)[-1].new_state))
    np.testing.assert_allclose(state["@control/w"], np.full((2, 3), 1.5))
    np.testing.assert_allclose(final_weights(store)["w"], np.full((2, 3), 6.0))


def test_a_site_may_fetch_the_state_that_its_order_names_and_no_other(store, make_site):
    fetched: list[dict[str, np.ndarray]] = []

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        if order.state is not None:
            path, _ = transfer.site_blob(store, "a", order.state.digest)
            fetched.append(read_tensors(path))
        return moving(1.0, control=1.0)(order, weights)

    make_site("a", train)
    other = make_site("b", moving(1.0, control=1.0))
    claim = begin(store, job(**SCAFFOLD, hyper_parameters={"max_round_num": 2}))
    drive(store, claim)
    np.testing.assert_array_equal(fetched[0]["@control/w"], np.ones((2, 3), np.float32))
    state = next(order.state for order in other.seen if order.state)
    with pytest.raises(CatchmentError, match="no open work"):
        transfer.site_blob(store, "b", state.digest)


def test_a_rejected_work_is_not_what_its_client_goes_on_from(store, make_site):
    def sometimes(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update, metrics = moving(1.0, control=1.0)(order, weights)
        if order.round == 2:
            update["@control/w"][0, 0] = np.nan
        return update, metrics

    site = make_site("a", sometimes)
    make_site("b", moving(1.0, control=1.0))
    claim = begin(store, job(**SCAFFOLD, hyper_parameters={"threshold_client_num": 1}))
    drive(store, claim)
    trained = [order for order in site.seen if order.kind == "train"]
    assert [order.client_state for order in trained] == [None, trained[0].work_id, trained[0].work_id]
    outcomes = {row["site"]: row for row in lifecycle.job_rounds(store, "default", "j")[1]["sites"]}
    assert "'@control/w' holds NaN" in outcomes["a"]["reason"]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [({}, "missing: @control/w"), ({"@control/w": np.zeros(2, np.float32)}, "wrong shape: @control/w")],
)
def test_an_update_without_its_algorithms_vectors_is_rejected(store, make_site, vectors, words):
    def wrong(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        update, metrics = add_one(order, weights)
        return {**update, **vectors}, metrics

    make_site("a", wrong)
    make_site("b", moving(1.0, control=1.0))
    hyper = {"max_round_num": 1, "threshold_client_num": 1}
    one_round(store, begin(store, job(**SCAFFOLD, hyper_parameters=hyper)), 1)
    outcomes = {row["site"]: row for row in lifecycle.job_rounds(store, "default", "j")[0]["sites"]}
    assert outcomes["a"]["outcome"] == "rejected"
    assert words in outcomes["a"]["reason"]


@pytest.mark.parametrize("steps", [0, -1, 2.5, 1e300])
def test_fednova_refuses_numbers_of_steps_that_are_none(store, make_site, steps):
    def train(count: float) -> Any:
        def run(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
            update, metrics = add_one(order, weights)
            return {**update, "@num_steps": np.array([count], np.float64)}, metrics

        return run

    make_site("a", train(steps))
    make_site("b", train(4))
    hyper = {"max_round_num": 1, "threshold_client_num": 1}
    one_round(store, begin(store, job(strategy={"name": "fednova"}, hyper_parameters=hyper)), 1)
    report = lifecycle.job_rounds(store, "default", "j")[0]
    assert [site["outcome"] for site in report["sites"]] == ["rejected", "admitted"]
    assert "@num_steps" in report["sites"][0]["reason"]
    assert report["strategy"]["metrics"] == {"mean_steps": 4.0}


def test_krum_rejects_who_lies_far_off_and_the_report_names_it(store, make_site):
    for name, value in {"a": 1.0, "b": 1.1, "c": 0.9, "d": 1.05, "e": -50.0}.items():
        make_site(name, moving(value))
    hyper = {"max_round_num": 1, "client_num": 5, "threshold_client_num": 5}
    strategy = {"name": "multi_krum", "params": {"malicious": 1}}
    drive(store, begin(store, job(strategy=strategy, hyper_parameters=hyper)))
    metrics = lifecycle.job_rounds(store, "default", "j")[0]["strategy"]["metrics"]
    assert metrics == {"selected": ["a", "b", "c", "d"], "rejected": ["e"], "malicious": 1}
    np.testing.assert_allclose(final_weights(store)["w"], np.full((2, 3), 1.0125), rtol=1e-6)


def test_what_is_not_shared_is_not_sent_and_keeps_its_value(store, make_site):
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        return {"w": np.full_like(weights["w"], order.round)}, {"sample_num": 1}

    site = make_site("a", train)
    make_site("b", train)
    drive(store, begin(store, job(strategy={"name": "fedavg", "params": {"local": ["steps"]}})))
    new = final_weights(store)
    np.testing.assert_array_equal(new["w"], np.full((2, 3), 6, np.float32))
    assert new["steps"] == 0
    evaluated = [order for order in site.seen if order.kind == "evaluate"]
    trained = [order for order in site.seen if order.kind == "train"]
    assert [order.client_state for order in evaluated] == [order.work_id for order in trained]


@pytest.mark.parametrize(
    ("params", "field"), [({"local": ["bn.*"]}, "local"), ({"shared": ["lora*"]}, "shared")]
)
def test_patterns_that_fit_nothing_end_the_run_before_its_first_round(store, params, field):
    with pytest.raises(InvalidField, match=f"strategy.params.{field}: .* fits no tensor"):
        begin(store, job(strategy={"name": "fedavg", "params": params}))


def test_a_model_with_an_algorithms_name_is_refused(store, tmp_path):
    write_tensors(tmp_path / "odd.safetensors", {"@control/w": np.zeros(2, np.float32)})
    store.files.write_file("default", "models/odd.safetensors", tmp_path / "odd.safetensors")
    with pytest.raises(InvalidField, match="model_path: tensor '@control/w'"):
        begin(store, job(model_path="models/odd.safetensors"))


def test_a_checkpoint_keeps_the_state_and_a_run_from_it_goes_on_bit_for_bit(store, make_site):
    make_site("a", moving(1.0))
    make_site("b", moving(2.0))
    strategy = {"name": "fedyogi"}
    hyper = {"max_round_num": 4, "save_interval": 2}
    drive(store, begin(store, job(strategy=strategy, hyper_parameters=hyper)))
    whole = attempts(store)[-1]
    saved = store.db.read(lambda tx: tx.execute(sql_select(checkpoints)).all())
    folder = store.settings.home / "namespaces/default"
    beside = (folder / saved[0].path).with_name("state.safetensors")
    with TensorFile.open(beside) as state:
        assert state.metadata == {"strategy": "fedyogi"}
        assert set(state.signature) == {"@first/w", "@second/w"}
    again = job(
        strategy=strategy, hyper_parameters={**hyper, "max_round_num": 2}, checkpoint_id="checkpoint_v1"
    )
    lifecycle.update_job(store, "default", "j", again)
    lifecycle.request_start(store, "default", "j")
    claim = claim_job(store, "default", "j", flow_run_id="second", attempt=1)
    prepare.prepare_run(store, claim)
    drive(store, claim)
    continued = [row for row in attempts(store) if row.run == 2][-1]
    assert (continued.new_weights, continued.new_state) == (whole.new_weights, whole.new_state)


@pytest.mark.parametrize("change", [{"strategy": {"name": "fedavgm"}}, {"strategy": {"name": "fedavg"}}])
def test_a_checkpoints_state_of_another_strategy_is_not_used(store, make_site, change):
    make_site("a", moving(1.0))
    make_site("b", moving(2.0))
    drive(store, begin(store, job(strategy={"name": "fedyogi"})))
    lifecycle.update_job(store, "default", "j", job(checkpoint_id="checkpoint_v1", **change))
    lifecycle.request_start(store, "default", "j")
    claim = claim_job(store, "default", "j", flow_run_id="second", attempt=1)
    prepare.prepare_run(store, claim)
    assert store.db.read(lambda tx: rows.require(tx, "default", "j")).initial_state is None


def test_an_aggregation_done_again_after_a_crash_makes_the_same_bits(store, make_site):
    make_site("a", moving(1.0, control=0.5))
    make_site("b", moving(3.0, control=1.5))
    claim = begin(store, job(**SCAFFOLD))
    one_round(store, claim, 1)
    select.select_cohort(store, claim, 2)
    select.publish_work(store, claim, 2)
    assert collect.collect_updates(store, claim, 2).enough
    row = store.db.read(lambda tx: rows.require(tx, "default", "j"))
    attempt = store.db.read(lambda tx: journal.latest_attempt(tx, claim, 2))
    works = store.db.read(lambda tx: journal.works_of(tx, claim, 2, 0, "train"))
    lost = aggregation.aggregate_round(store, claim, row, attempt, works[::-1])
    commit.aggregate_and_commit(store, claim, 2)
    done = attempts(store)[1]
    assert (done.new_weights, done.new_state) == (lost.weights, lost.state)


def test_feddc_says_in_the_jobs_log_that_the_drift_grows(store, make_site):
    make_site("a", moving(1.0, control=0.1))
    make_site("b", moving(1.0, control=0.1))
    hyper = {"max_round_num": 10, "evaluate_interval": 10, "save_interval": 10}
    drive(store, begin(store, job(loss={"name": "feddc"}, hyper_parameters=hyper)))
    uid = log.uid_of(store, "default", "j")
    warned = [line for line in log.read(store, uid, after=0).lines if line["level"] == "warning"]
    assert ["drift has grown for 10 rounds" in line["text"] for line in warned] == [True]
    assert warned[0]["round"] == 10


BIG = {"w": np.zeros((40, 50), np.float32)}


@pytest.fixture
def big_model(store: Store, tmp_path: Path) -> str:
    write_tensors(tmp_path / "big.safetensors", BIG)
    store.files.write_file("default", "models/big.safetensors", tmp_path / "big.safetensors")
    return "models/big.safetensors"


@pytest.mark.parametrize(
    ("kind", "strategy"), [("bf16", "fedavg"), ("int8", "fedavg"), ("topk", "fedavg"), ("int8", "median")]
)
def test_compressed_updates_are_decoded_wherever_they_are_read(
    store, make_site, tmp_path, big_model, kind, strategy
):
    sites: dict[str, Any] = {}
    decoded: dict[str, np.ndarray] = {}

    def compressing(name: str) -> Any:
        def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
            random = np.random.default_rng(order.seed)
            plain, sent = (tmp_path / f"{order.work_id}.{part}" for part in ("plain", "sent"))
            signature = write_tensors(plain, {"w": random.normal(size=(40, 50)).astype(np.float32)})
            assert order.compression is not None
            codec = codec_of(order.compression.name, order.compression.params)
            encode(plain, sent, codec, generator=random)
            with opened(sent, order.compression, signature) as file:
                decoded[name] = file.array("w").copy()
            return WorkResult(
                status="done", metrics={"sample_num": 1}, update=sites[name].upload_file(order, sent)
            )

        return train

    hyper = {"max_round_num": 1, "client_num": 3, "threshold_client_num": 3}
    body = job(
        model_path=big_model,
        compression={"type": kind},
        strategy={"name": strategy},
        hyper_parameters=hyper,
    )
    claim = begin(store, body)
    for name in ("a", "b", "c"):
        sites[name] = make_site(name, compressing(name))
    drive(store, claim)
    combine = np.mean if strategy == "fedavg" else np.median
    wanted = combine(list(decoded.values()), axis=0)
    np.testing.assert_allclose(final_weights(store)["w"], wanted, rtol=1e-5, atol=1e-7)
    assert np.count_nonzero(wanted)


def test_an_update_that_was_not_compressed_as_the_job_says_is_rejected(store, make_site, big_model):
    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        return {"w": np.ones_like(weights["w"])}, {"sample_num": 1}

    make_site("a", train)
    make_site("b", train)
    claim = begin(store, job(model_path=big_model, compression={"type": "bf16"}))
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    found = collect.collect_updates(store, claim, 1)
    assert not found.enough
    assert "rejected (the update does not fit the model: wrong dtype: w F32 instead of BF16" in found.reason
