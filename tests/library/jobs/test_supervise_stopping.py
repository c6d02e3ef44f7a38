"""The supervisor and jobs that are to stop or to go."""

from __future__ import annotations

from catchment.errors import Unreachable
from catchment.jobs import lifecycle, supervise
from catchment.jobs.supervise import supervise_once
from catchment.store import Store
from tests.library.jobs.doubles import RecordingLauncher, make, row
from tests.library.jobs.supervised import S, running_and_lost, status
from tests.library.store.fresh import BOTH, Clock


def test_a_stop_without_a_living_flow_is_a_stop_at_once(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    running_and_lost(store, clock)
    lifecycle.request_stop(store, "default", "j")
    supervise_once(store, launcher)
    assert status(store) == ("STOPPED", "")
    assert launcher.cancelled == ["flow-j"]


def test_a_living_flow_gets_time_to_stop_itself(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    lifecycle.request_stop(store, "default", "j")
    supervise_once(store, launcher)
    assert launcher.cancelled == []
    clock.forward(supervise.STOP_GRACE_S + 0.1)
    supervise_once(store, launcher)
    assert launcher.cancelled == ["flow-j"], "the second line"
    assert row(store).state == S.STOPPING, "its process may still write"
    clock.forward(store.settings.job_lease_s)
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPED


def test_a_stop_needs_no_prefect(store: Store, launcher: RecordingLauncher, clock: Clock) -> None:
    running_and_lost(store, clock)
    lifecycle.request_stop(store, "default", "j")
    launcher.failure = Unreachable("Prefect does not answer")
    supervise_once(store, launcher)
    assert row(store).state == S.STOPPED


@BOTH
def test_a_deleted_job_is_removed_once_nobody_writes_any_more(
    store: Store, launcher: RecordingLauncher, clock: Clock
) -> None:
    make(store, S.RUNNING)
    store.files.write_bytes("default", "out/j_V1/metrics.json", b"{}")
    lifecycle.request_delete(store, "default", "j")
    clock.forward(supervise.STOP_GRACE_S + 0.1)
    supervise_once(store, launcher)
    assert row(store).state == S.DELETING
    clock.forward(store.settings.job_lease_s)
    supervise_once(store, launcher)
    assert row(store) is None
    assert not store.files.is_folder("default", "out/j_V1")
    assert store.files.is_file("default", "models/init.safetensors")
    assert set(launcher.cancelled) == {"flow-j"}
