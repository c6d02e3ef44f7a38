"""Leases while the store's clock jumps: none that lives is stolen, none that is dead is kept for long."""

from __future__ import annotations

from typing import Any

import pytest

from catchment.exchange import sites
from catchment.jobs import rows
from catchment.jobs.states import JobState
from catchment.jobs.supervise import CLAIM_S, supervise_once
from catchment.rounds.claim import Claim, claim_job, renew
from catchment.runs import leases
from catchment.store import Store
from catchment.store.clock import AHEAD_S, WatchedClock
from catchment.wire.messages import Registration
from tests.library.jobs.doubles import RecordingLauncher, change, make, row
from tests.library.store.fresh import BOTH

HOUR = 3600.0
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR])


class Host:
    """Time as the database's host has it: `wall` is set right at times, `passed` is not."""

    def __init__(self) -> None:
        self.wall, self.passed = 1_700_000_000.0, 0.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds


@pytest.fixture
def host(store: Store) -> Host:
    made = Host()
    store.db.clock = WatchedClock(lambda _connection: made.wall, monotonic=lambda: made.passed)
    return made


@pytest.fixture
def driven(store: Store, host: Host) -> Claim:
    """A job that a flow process drives."""
    make(store, JobState.STARTING)
    return claim_job(store, "default", "j", flow_run_id="flow-j", attempt=1)


def supervised_for(store: Store, host: Host, seconds: float, claim: Claim | None) -> RecordingLauncher:
    """What a supervisor does in that time, every two seconds; a live process renews its lease meanwhile."""
    launcher = RecordingLauncher()
    launcher.states["flow-j"] = "crashed"
    for step in range(int(seconds / 2)):
        supervise_once(store, launcher)
        if launcher.relaunched:
            break
        if claim is not None and step % 3 == 2:
            assert renew(store, claim)
        host.pass_by(2)
    return launcher


@BOTH
@JUMPS
def test_a_live_process_keeps_its_job_through_a_jump(store, host, driven, jump):
    supervised_for(store, host, 10, driven)
    host.wall += jump
    assert supervised_for(store, host, 120, driven).relaunched == []
    assert row(store).lease_owner == driven.owner


@BOTH
@JUMPS
def test_a_lost_process_is_found_soon_after_a_jump(store, host, driven, jump):
    supervised_for(store, host, 10, driven)
    host.wall += jump
    begun = host.passed
    assert len(supervised_for(store, host, 200, None).relaunched) == 1
    assert host.passed - begun <= 2 * store.settings.job_lease_s + 4


@JUMPS
def test_a_supervisor_that_began_after_the_jump_finds_a_lost_process_too(store, host, driven, jump):
    host.wall += jump
    store.db.clock = WatchedClock(lambda _connection: host.wall, monotonic=lambda: host.passed)
    begun = host.passed
    assert len(supervised_for(store, host, 200, None).relaunched) == 1
    assert host.passed - begun <= store.settings.job_lease_s + 4


def test_a_supervisors_own_mark_does_not_outlive_a_jump_back(store, host, driven):
    change(store, supervised_until=host.wall + CLAIM_S)
    host.wall -= HOUR
    assert len(supervised_for(store, host, 200, None).relaunched) == 1


@JUMPS
def test_a_started_job_does_not_fail_for_a_jump(store, host, jump):
    make(store, JobState.STARTING)
    launcher = RecordingLauncher()
    host.pass_by(10)
    supervise_once(store, launcher)
    host.wall += jump
    for _ in range(20):
        supervise_once(store, launcher)
        host.pass_by(2)
    assert row(store).state == JobState.STARTING
    host.pass_by(store.settings.start_timeout_s)
    supervise_once(store, launcher)
    supervise_once(store, launcher)
    assert row(store).state == JobState.FAILED


@JUMPS
def test_a_site_is_online_through_a_jump_and_offline_when_it_is_silent(store, host, jump):
    registration = Registration(session="session-1", address="10.0.0.1:1", runtimes=("pytorch",))
    sites.register(store, "a", registration)
    lease_s = store.settings.site_lease_s

    def online() -> Any:
        return sites.list_sites(store)[0]["online"]

    assert online()
    host.wall += jump
    host.pass_by(lease_s / 3)
    assert online()
    host.pass_by(lease_s + AHEAD_S)
    assert not online()


def test_a_lease_is_over_where_there_is_none(store, host, driven):
    change(store, lease_owner=None, lease_until=0.0)
    host.wall += HOUR  # also while nothing can be said of the leases of others
    assert store.db.read(lambda tx: leases.is_over(tx, rows.by_uid(tx, driven.uid), 20))
