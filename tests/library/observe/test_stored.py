"""Figures of the store: its content by state, and each round that closes counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from catchment.errors import BadTensors
from catchment.jobs import lifecycle
from catchment.jobs.states import JobState
from catchment.models.tensors import check_update
from catchment.observe import rounds as counting
from catchment.observe import stored
from catchment.observe.stored import StoreFigures
from catchment.rounds.admission import kind_of_refusal, num_samples_of
from catchment.store import Store
from catchment.store.schema import jobs, serving_rollouts
from catchment.wire.messages import WorkOrder
from tests.runs import begin, drive
from tests.thread_sites import add_one, job


def figures(looked: StoreFigures) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(looked.look())
        for sample in family.samples
    }


def test_content_is_told_by_state_and_states_that_nobody_has_are_zero(store: Store) -> None:
    looked = StoreFigures(store)
    assert figures(looked)["catchment_jobs", "RUNNING"] == 0
    for number in range(3):
        lifecycle.create_job(store, "default", job(id=f"j{number}"))
    found = figures(looked)
    assert found["catchment_jobs", "QUEUED"] == 3
    assert found["catchment_model_versions", "ready"] == 0
    assert found["catchment_model_jobs", "Running"] == 0
    store.db.write(lambda tx: tx.execute(update(jobs).values(state=JobState.STOPPED)))
    found = figures(looked)
    assert (found["catchment_jobs", "QUEUED"], found["catchment_jobs", "STOPPED"]) == (0, 3)


def test_a_phase_that_nobody_is_in_any_more_goes_to_zero(store: Store) -> None:
    looked = StoreFigures(store)
    row = {
        "serving_uid": "s", "number": 1, "kind": "rollout", "body": {}, "spec": {}, "phase": "Shifting",
        "created_by": {}, "created_at": 0.0, "phase_since": 0.0, "steps": {}, "workloads": {},
    }  # fmt: skip
    store.db.write(lambda tx: tx.execute(insert(serving_rollouts).values(**row)))
    assert figures(looked)["catchment_rollouts", "Shifting"] == 1
    store.db.write(lambda tx: tx.execute(update(serving_rollouts).values(phase="RolledBack")))
    found = figures(looked)
    assert (found["catchment_rollouts", "Shifting"], found["catchment_rollouts", "RolledBack"]) == (0, 1)


def test_no_more_rows_are_counted_than_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST", 2)
    for number in range(4):
        lifecycle.create_job(store, "default", job(id=f"j{number}"))
    assert figures(StoreFigures(store))["catchment_jobs", "QUEUED"] == 2


def test_the_wait_of_the_job_that_waits_longest_is_told(store: Store) -> None:
    lifecycle.create_job(store, "default", job())
    looked = StoreFigures(store)
    assert figures(looked)["catchment_oldest_queued_job_seconds",] == 0
    store.db.write(lambda tx: tx.execute(update(jobs).values(queued_at=tx.now - 100)))
    assert 100 <= figures(looked)["catchment_oldest_queued_job_seconds",] < 160


def test_each_round_is_counted_once_with_its_works(store: Store, make_site: Any) -> None:
    looked = StoreFigures(store)
    figures(looked)

    def broken(
        order: WorkOrder, weights: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        update, metrics = add_one(order, weights)
        return {**update, "w": update["w"] * np.nan}, metrics

    make_site("a")
    make_site("b")
    make_site("c", train=broken)
    hyper = {"client_num": 3, "threshold_client_num": 2, "max_round_num": 2}
    claim = begin(store, job(hyper_parameters={**job()["hyper_parameters"], **hyper}))
    assert figures(looked)["catchment_sites", "online"] == 3
    drive(store, claim)
    first, second = figures(looked), figures(looked)
    for found in (first, second):
        assert found["catchment_rounds_total", "committed"] == 2
        assert found["catchment_round_seconds_count",] == 2
        assert found["catchment_round_works_total", "admitted"] == 4
        assert found["catchment_round_works_total", "rejected"] == 2
        assert found["catchment_updates_rejected_total", "not_finite"] == 2


def test_a_round_that_fails_is_counted(store: Store, make_site: Any) -> None:
    looked = StoreFigures(store)
    figures(looked)

    def breaks(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        from catchment.wire.messages import WorkResult

        return WorkResult(status="failed", reason="the disk is on fire")

    make_site("a", train=breaks)
    make_site("b", train=breaks)
    claim = begin(store, job())
    with pytest.raises(Exception, match="round 1"):
        drive(store, claim)
    found = figures(looked)
    assert found["catchment_rounds_total", "failed"] >= 1
    assert found["catchment_round_works_total", "failed"] >= 2


def test_rounds_of_before_are_not_counted(store: Store, make_site: Any) -> None:
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    assert ("catchment_rounds_total", "committed") not in figures(StoreFigures(store))


def test_what_was_missed_while_the_signals_were_away_is_made_up_for(store: Store, make_site: Any) -> None:
    looked = StoreFigures(store)
    figures(looked)
    make_site("a")
    make_site("b")
    claim = begin(store, job())
    from tests.runs import one_round

    one_round(store, claim, 1)
    looked._rounds._touched.clear()
    store.db.signals.arrived(None)  # as after a reconnection
    assert figures(looked)["catchment_rounds_total", "committed"] == 1


def test_memory_is_that_of_the_last_minutes(
    store: Store, make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "LATE_S", 0.0)
    looked = StoreFigures(store)
    figures(looked)
    make_site("a")
    make_site("b")
    drive(store, begin(store, job()))
    assert figures(looked)["catchment_rounds_total", "committed"] >= 1
    figures(looked)
    assert len(looked._rounds._counted) <= 1
    assert looked._rounds._touched == {}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("mismatch", np.ones((3, 2), np.float32)), ("not_finite", np.full((2, 3), np.nan, np.float32))],
)
def test_reasons_of_rejections_have_a_kind(tmp_path: Any, kind: str, value: Any) -> None:
    from catchment.models.tensors import TensorFile, write_tensors

    write_tensors(tmp_path / "model", {"w": np.ones((2, 3), np.float32)})
    write_tensors(tmp_path / "update", {"w": value})
    with (
        TensorFile.open(tmp_path / "model") as model,
        TensorFile.open(tmp_path / "update") as found,
        pytest.raises(BadTensors) as refused,
    ):
        check_update(found, model.signature)
    assert kind_of_refusal(str(refused.value)) == kind


def test_a_wrong_number_of_samples_has_a_kind() -> None:
    with pytest.raises(BadTensors) as refused:
        num_samples_of({"sample_num": 0})
    assert kind_of_refusal(str(refused.value)) == "num_samples"
    assert kind_of_refusal("something else") == "other"
