"""Flow runs of jobs in Prefect: the only module here that knows it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES
from prefect.states import AwaitingRetry, Cancelling

from catchment.errors import SetupError, Unreachable, WrongState
from catchment.jobs.launcher import Launchable, RunSeen, RunState
from catchment.jobs.times import rfc3339
from catchment.store import Store

T = TypeVar("T")
RUNS_TOPIC = "runs"
"""Signalled when there is a run to take, so that the local runner need not wait for its next look."""
ANSWERS_S = 5.0
STATES: dict[StateType, RunState] = {
    StateType.SCHEDULED: "waiting",
    StateType.PENDING: "pending",
    StateType.RUNNING: "running",
    StateType.PAUSED: "paused",
    StateType.CANCELLING: "cancelling",
    StateType.CANCELLED: "cancelled",
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CRASHED: "crashed",
}
ENDED = frozenset({StateType.CANCELLED, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED})


def check_configured() -> None:
    """Refuse to work without a server: Prefect's client would start one of its own.

    Raises:
        SetupError: PREFECT_API_URL is not set.
    """
    if not PREFECT_API_URL.value():
        raise SetupError("PREFECT_API_URL is not set; it must name the API of a Prefect server")


class PrefectLauncher:
    """Makes and watches flow runs of the deployments in prefect.yaml.

    Methods raise Unreachable when Prefect does not answer within seconds, and SetupError when the
    deployment is not registered.
    """

    def __init__(self, store: Store) -> None:
        check_configured()
        self._store = store
        self._patience = _one_try()
        self._client: SyncPrefectClient = self._patience.run(_client)

    def launch(self, start: Launchable) -> str:
        """Make the flow run of a start, or find it by the start's key; its id."""
        return self._create(start, start.key)

    def relaunch(self, start: Launchable, flow_run_id: str) -> str:
        """Let a lost run go on, the same one where Prefect lets it; the id of the one that does."""
        retry: State = AwaitingRetry()
        try:
            result = self._call(
                lambda client: client.set_flow_run_state(UUID(flow_run_id), retry, force=True)
            )
        except ObjectNotFound:
            return self._create(start, f"{start.key}-after-{flow_run_id}")
        if result.status != SetStateStatus.ACCEPT:
            return self._create(start, f"{start.key}-after-{flow_run_id}")
        self._announce()
        return flow_run_id

    def cancel(self, flow_run_id: str) -> None:
        """Have a run cancelled; one that has ended or is gone is left as it is."""
        state = self._state(flow_run_id)
        if state is None or state.type in ENDED or state.type == StateType.CANCELLING:
            return
        try:
            self._call(lambda client: client.set_flow_run_state(UUID(flow_run_id), Cancelling()))
        except ObjectNotFound:
            return

    def state(self, flow_run_id: str) -> RunState:
        """How a run is."""
        state = self._state(flow_run_id)
        return "gone" if state is None else STATES[state.type]

    def find(self, flow_run_id: str, deployment: str) -> RunSeen | None:
        """A run of a deployment; None where it has none of this id."""
        try:
            run: FlowRun = self._call(lambda client: client.read_flow_run(UUID(flow_run_id)))
            of = self._call(lambda client: client.read_deployment_by_name(deployment))
        except (ObjectNotFound, ValueError):
            return None
        return _seen(run) if run.deployment_id == of.id else None

    def unfinished(self, deployment: str, newest_s: float) -> list[RunSeen]:
        """Runs of a deployment that are running or crashed, and were to begin within so many seconds."""
        flow, _, name = deployment.partition("/")
        since = datetime.now(UTC) - timedelta(seconds=newest_s)
        asked: dict[str, Any] = {
            "flow_filter": FlowFilter(name=FlowFilterName(any_=[flow])),
            "deployment_filter": DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            "flow_run_filter": FlowRunFilter(
                state=FlowRunFilterState(
                    type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CRASHED])
                ),
                expected_start_time=FlowRunFilterExpectedStartTime(after_=since),
            ),
            "limit": 200,
        }
        found: list[FlowRun] = self._call(lambda client: client.read_flow_runs(**asked))
        return [_seen(run) for run in found]

    def resume(self, flow_run_id: str) -> None:
        """Let a run go on under its id. Raises WrongState where Prefect does not let it."""
        retry: State = AwaitingRetry()
        try:
            result = self._call(
                lambda client: client.set_flow_run_state(UUID(flow_run_id), retry, force=True)
            )
        except ObjectNotFound:
            raise WrongState(f"flow run {flow_run_id} was deleted in Prefect") from None
        if result.status != SetStateStatus.ACCEPT:
            raise WrongState(f"Prefect does not let flow run {flow_run_id} go on: {result.details}")
        self._announce()

    def close(self) -> None:
        """Close the connections to Prefect."""
        self._client.__exit__(None, None, None)

    def _state(self, flow_run_id: str) -> State | None:
        try:
            run: FlowRun = self._call(lambda client: client.read_flow_run(UUID(flow_run_id)))
        except ObjectNotFound:
            return None
        return run.state

    def _create(self, start: Launchable, key: str) -> str:
        try:
            deployment = self._call(lambda client: client.read_deployment_by_name(start.deployment))
            run: FlowRun = self._call(
                lambda client: client.create_flow_run_from_deployment(
                    deployment.id,
                    parameters=dict(start.parameters),
                    name=start.run_name,
                    tags=["catchment", f"namespace:{start.namespace}"],
                    idempotency_key=key,
                )
            )
        except ObjectNotFound:
            raise SetupError(
                f"Prefect has no deployment {start.deployment}; register it with 'prefect deploy --all' "
                "in the folder that holds prefect.yaml"
            ) from None
        self._announce()
        return str(run.id)

    def _announce(self) -> None:
        self._store.db.write(lambda tx: tx.notify(RUNS_TOPIC))

    def _call(self, request: Callable[[SyncPrefectClient], T]) -> T:
        try:
            return self._patience.copy().run(request, self._client)
        except httpx.TransportError as error:
            raise Unreachable(
                f"Prefect does not answer at {self._client.api_url}: {_words(error)}"
            ) from error
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                raise ObjectNotFound(error) from error
            said = f"{error.response.status_code} {error.response.text[:200]}".strip()
            raise Unreachable(f"Prefect refuses: {said}") from error


def _seen(run: FlowRun) -> RunSeen:
    state = run.state
    changed = state.timestamp if state is not None else run.created or datetime.now(UTC)
    return RunSeen(
        id=str(run.id),
        state=STATES[state.type] if state is not None else "waiting",
        message=(state.message or "") if state is not None else "",
        parameters=run.parameters,
        attempts=run.run_count,
        since_s=(datetime.now(UTC) - changed).total_seconds(),
        created=_time(run.created),
        started=_time(run.start_time),
        ended=_time(run.end_time),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment.timestamp())


def _client() -> SyncPrefectClient:
    return get_client(httpx_settings={"timeout": ANSWERS_S}, sync_client=True).__enter__()


def _one_try() -> Context:
    """A context in which Prefect's client does not repeat requests: whoever calls here comes back later."""
    context = copy_context()
    current = get_settings_context()
    settings = current.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
    context.run(SettingsContext(profile=current.profile, settings=settings).__enter__)
    return context


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
