"""The fleet's works: offered by the rounds, done in chunks, delivered in bulk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import InvalidField, PathRefused, RoundFailed
from catchment.exchange.sites import list_sites
from catchment.jobs import lifecycle, purge
from catchment.jobs.rows import site_topic
from catchment.models.tensors import read_tensors
from catchment.rounds import collect, commit, prepare, run, select
from catchment.rounds.claim import Claim, claim_job
from catchment.simulation import fleet, inputs
from catchment.simulation.chunk import Worker
from catchment.store import Store

JobFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _patient(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives signs of life here."""
    monkeypatch.setattr(store, "settings", store.settings.model_copy(update={"site_lease_s": 600.0}))


def begun(store: Store, folder: Path, clients: int = 20) -> tuple[fleet.Fleet, Claim]:
    body, _ = inputs.read_job_file(folder / "job.json")
    inputs.bring_job(store, "default", body, folder)
    band = fleet.muster(store, "default", body["id"], clients)
    claim = claim_job(store, "default", body["id"], flow_run_id="flow", attempt=1)
    prepare.prepare_run(store, claim)
    return band, claim


def offered(store: Store, band: fleet.Fleet, claim: Claim) -> list[str]:
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    return fleet.take(store, band, ())


def test_a_round_of_simulated_clients_is_committed_and_the_same_however_it_is_cut(
    store: Store, job_folder: JobFolder
) -> None:
    digests = []
    for cut in ([20], [7, 13]):
        # The clients of another id would have other seeds; so the job goes, and comes again.
        band, claim = begun(store, job_folder())
        works, worker = offered(store, band, claim), Worker(store)
        for size in cut:
            assert worker.run(band.uid, works[:size], {}) == size
            works = works[size:]
        worker.close()
        assert collect.collect_updates(store, claim, 1).admitted == 20
        digests.append(commit.aggregate_and_commit(store, claim, 1))
        weights = read_tensors(store.blobs.local_path(digests[-1]))
        fleet.disband(store, band)
        lifecycle.request_stop(store, "default", "simulated")
        run.stop_run(store, claim)
        lifecycle.request_delete(store, "default", "simulated")
        purge.purge_job(store, claim.uid)
    assert digests[0] == digests[1]
    assert 0.5 < float(weights["weight"].mean()) < 1.5


def test_no_other_job_and_no_list_of_sites_sees_the_fleet(store: Store, job_folder: JobFolder) -> None:
    begun(store, job_folder())
    assert list_sites(store) == []
    folder = job_folder(id="other", hyper_parameters={"client_num": 1, "threshold_client_num": 1})
    body, _ = inputs.read_job_file(folder / "job.json")
    inputs.bring_job(store, "default", body, folder)
    other = claim_job(store, "default", "other", flow_run_id="flow-2", attempt=1)
    prepare.prepare_run(store, other)
    with pytest.raises(RoundFailed, match="waits for 1 sites that fit, 0 there"):
        select.select_cohort(store, other, 1)


def test_delivered_and_unwanted_works_are_not_done_again(store: Store, job_folder: JobFolder) -> None:
    band, claim = begun(store, job_folder())
    works, worker = offered(store, band, claim), Worker(store)
    assert worker.run(band.uid, works, {}) == 20
    assert worker.run(band.uid, works, {}) == 0
    assert fleet.take(store, band, ()) == []
    worker.close()


def test_works_of_a_lost_process_are_taken_again_and_running_ones_are_not(
    store: Store, job_folder: JobFolder
) -> None:
    band, claim = begun(store, job_folder())
    works = offered(store, band, claim)
    assert fleet.take(store, band, works[:5]) == works[5:]
    assert fleet.take(store, band, ()) == works


def test_a_failing_script_fails_its_clients_with_its_own_words(store: Store, job_folder: JobFolder) -> None:
    band, claim = begun(store, job_folder("raise RuntimeError('no luck')\n"))
    works, worker = offered(store, band, claim), Worker(store)
    worker.run(band.uid, works, {})
    worker.close()
    collected = collect.collect_updates(store, claim, 1)
    assert not collected.enough
    assert "RuntimeError: no luck" in collected.reason


def test_a_chunk_that_is_given_up_ends_its_works_only(store: Store, job_folder: JobFolder) -> None:
    band, claim = begun(store, job_folder(hyper_parameters={"threshold_client_num": 10}))
    works, worker = offered(store, band, claim), Worker(store)
    worker.run(band.uid, works[:15], {})
    assert fleet.give_up(store, band, works, "out of memory") == 5
    worker.close()
    assert collect.collect_updates(store, claim, 1).admitted == 15


def test_jobs_that_speak_of_real_sites_are_refused(store: Store, job_folder: JobFolder) -> None:
    folder = job_folder(clients="hospital-1", hyper_parameters={"client_num": 1, "threshold_client_num": 1})
    body, dropped = inputs.read_job_file(folder / "job.json")
    assert dropped == ["clients"]
    assert "clients" not in body
    inputs.bring_job(store, "default", {**body, "clients": "hospital-1"}, folder)
    with pytest.raises(InvalidField, match="clients"):
        inputs.check_simulated(store, "default", "simulated", {})


def test_files_outside_of_the_jobs_folder_are_not_brought(store: Store, job_folder: JobFolder) -> None:
    folder = job_folder(model_path="../elsewhere.safetensors")
    (folder.parent / "elsewhere.safetensors").write_bytes(b"secret")
    body, _ = inputs.read_job_file(folder / "job.json")
    with pytest.raises(PathRefused, match="leads out of"):
        inputs.bring_job(store, "default", body, folder)


def test_published_work_wakes_the_whole_fleet_with_one_topic(store: Store, job_folder: JobFolder) -> None:
    band, claim = begun(store, job_folder())
    ticket = store.db.signals.ticket(*band.topics)
    offered(store, band, claim)
    assert len(band.topics) == 1
    assert store.db.signals.wait(ticket, 0)
    assert site_topic("hospital-1") == "site:hospital-1"


def test_names_depend_on_namespace_and_job_alone() -> None:
    assert fleet.client_names("a", "j", 3) == fleet.client_names("a", "j", 5)[:3]
    assert not set(fleet.client_names("a", "j", 9)) & set(fleet.client_names("b", "j", 9))
