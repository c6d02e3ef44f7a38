"""Flow runs in a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Pending, Running

from api.launch import PrefectLauncher, check_configured
from catchment.errors import SetupError, Unreachable
from catchment.jobs.starting import Start
from catchment.settings import Settings
from catchment.store import Store, open_store
from tests.conftest import free_port

DEPLOYMENT = "federate/launch-test"
"""Not the product's own: other tests of the session use that one."""


@flow(name="federate")
def trivial(namespace: str, job_id: str) -> str:
    return f"{namespace}/{job_id}"


class TrialStart(Start):
    """A start that is run by a flow of this test's own."""

    @property
    def deployment(self) -> str:
        return DEPLOYMENT


class LostStart(Start):
    """A start whose deployment nobody has registered."""

    @property
    def deployment(self) -> str:
        return "federate/nobody-made-this"


@pytest.fixture
def opened(settings: Settings) -> Iterator[Store]:
    store = open_store(settings)
    yield store
    store.close()


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def prefect(opened: Store, client: SyncPrefectClient) -> Iterator[PrefectLauncher]:
    launcher = PrefectLauncher(opened)
    yield launcher
    launcher.close()


@pytest.fixture
def deployment(client: SyncPrefectClient) -> None:
    client.create_deployment(client.create_flow(trivial), name="launch-test", entrypoint="federate.trivial")


@pytest.fixture
def start() -> Start:
    key = uuid4().hex
    return TrialStart(uid=key, namespace="default", job_id="digits", key=f"{key}-1", run=1, resume=False)


@pytest.mark.usefixtures("deployment")
def test_a_start_makes_one_run_that_people_recognise(
    opened: Store, prefect: PrefectLauncher, client: SyncPrefectClient, start: Start
) -> None:
    ticket = opened.db.signals.ticket("runs")
    run_id = prefect.launch(start)
    assert opened.db.signals.wait(ticket, 5), "the runner is woken"
    assert prefect.launch(start) == run_id
    run = client.read_flow_run(UUID(run_id))
    assert run.name == "digits"
    assert run.parameters == {"namespace": "default", "job_id": "digits"}
    assert {"catchment", "namespace:default"} <= set(run.tags)
    assert prefect.state(run_id) == "waiting"


@pytest.mark.usefixtures("deployment")
def test_states_are_told_in_our_words(
    prefect: PrefectLauncher, client: SyncPrefectClient, start: Start
) -> None:
    run_id = prefect.launch(start)
    for state, word in (
        (Pending(), "pending"),
        (Running(), "running"),
        (Crashed(), "crashed"),
        (Completed(), "completed"),
    ):
        client.set_flow_run_state(UUID(run_id), state, force=True)
        assert prefect.state(run_id) == word
    assert prefect.state(str(UUID(int=1))) == "gone"


@pytest.mark.usefixtures("deployment")
def test_a_lost_run_goes_on_as_the_same_run(
    prefect: PrefectLauncher, client: SyncPrefectClient, start: Start
) -> None:
    run_id = prefect.launch(start)
    for state in (Running(), Crashed()):
        client.set_flow_run_state(UUID(run_id), state, force=True)
        assert prefect.relaunch(start, run_id) == run_id
        assert client.read_flow_run(UUID(run_id)).state.name == "AwaitingRetry"


@pytest.mark.usefixtures("deployment")
def test_a_run_that_was_deleted_is_replaced_once(
    prefect: PrefectLauncher, client: SyncPrefectClient, start: Start
) -> None:
    run_id = prefect.launch(start)
    client.delete_flow_run(UUID(run_id))
    replacement = prefect.relaunch(start, run_id)
    assert replacement != run_id
    assert prefect.relaunch(start, run_id) == replacement
    assert prefect.state(replacement) == "waiting"


@pytest.mark.usefixtures("deployment")
def test_cancel_ends_what_lives_and_leaves_what_has_ended(
    prefect: PrefectLauncher, client: SyncPrefectClient, start: Start
) -> None:
    run_id = prefect.launch(start)
    prefect.cancel(run_id)
    assert prefect.state(run_id) == "cancelled", "nobody had taken it"
    client.set_flow_run_state(UUID(run_id), Running(), force=True)
    prefect.cancel(run_id)
    prefect.cancel(run_id)
    assert prefect.state(run_id) == "cancelling"
    for state, word in ((Cancelled(), "cancelled"), (Completed(), "completed")):
        client.set_flow_run_state(UUID(run_id), state, force=True)
        prefect.cancel(run_id)
        assert prefect.state(run_id) == word
    prefect.cancel(str(UUID(int=1)))


@pytest.mark.usefixtures("prefect_server")
def test_a_missing_deployment_says_how_to_register_it(
    opened: Store, start: TrialStart, prefect_server: str
) -> None:
    launcher = PrefectLauncher(opened)
    lost = LostStart(**vars(start))
    try:
        with pytest.raises(SetupError, match="prefect deploy --all"):
            launcher.launch(lost)
    finally:
        launcher.close()


def test_a_server_that_is_away_is_unreachable(opened: Store, start: Start) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        launcher = PrefectLauncher(opened)
    try:
        for call in (
            lambda: launcher.launch(start),
            lambda: launcher.state(str(UUID(int=1))),
        ):
            with pytest.raises(Unreachable, match="Prefect does not answer"):
                call()
    finally:
        launcher.close()


def test_without_an_address_it_refuses() -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(SetupError, match="PREFECT_API_URL"),
    ):
        check_configured()
