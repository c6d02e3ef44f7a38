"""The flow runner of one machine: serves a Prefect work pool from a warm process.

It asks the same question of the same pool as `prefect worker start` and may be replaced by one or run
beside it; the difference is that a run begins in a tenth of a second instead of several. A started job
wakes it through the store's signals, so it need not ask often.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

import alembic.command
import httpx
import prefect.engine
import prefect.flow_engine
import psycopg
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed, Pending

import flows.federate
import flows.maintain
import flows.model_job
import flows.retrain
import flows.rollout
import tasks.store
from catchment.jobs import by_flow_run
from catchment.model_jobs import manager as model_jobs
from catchment.observe import logs
from catchment.retraining import stopping as retraining
from catchment.serving import deciding
from catchment.settings import Settings
from catchment.stopping import on_stop_signals
from catchment.store import Store, open_store
from flows.deploy import register
from flows.warm import WarmProcess, fork_warm_process

log = logging.getLogger("catchment.runner")
POLL_S = 5.0
"""How often the pool is asked when nothing wakes the runner."""
HEARTBEAT_S = 15.0
LOOK_AT_RUNS_S = 2.0
STOP_GRACE_S = 8.0
"""A cancelled run that has not ended by itself after so long is told by signal, and then killed."""
KILL_GRACE_S = 5.0
RUNS_TOPIC = "runs"
PRELOADED = (
    prefect.engine,
    prefect.flow_engine,
    flows.federate,
    flows.model_job,
    flows.rollout,
    flows.retrain,
    flows.maintain,
    tasks.store,
    alembic.command,
    psycopg,
)
"""What a flow run needs is imported here, before the fork."""


@dataclass
class Child:
    """A flow run in a process of its own."""

    pid: int = 0
    cancelling_since: float | None = None
    terminated: bool = False


@dataclass
class Runner:
    """Takes scheduled runs of a pool, watches them, and cancels those that are to be cancelled."""

    client: SyncPrefectClient
    store: Store
    warm: WarmProcess
    pool: str
    limit: int
    name: str = field(default_factory=lambda: f"catchment-{socket.gethostname()}-{os.getpid()}")
    children: dict[str, Child] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: list[tuple[str, int]] = field(default_factory=list)

    def run(self) -> None:
        """Serve until `over` is set."""
        threading.Thread(target=self._listen, name="runner-reports", daemon=True).start()
        heartbeat_at = looked_at = 0.0
        while not self.over.is_set():
            ticket = self.store.db.signals.ticket(RUNS_TOPIC)
            now = time.monotonic()
            try:
                if now >= heartbeat_at:
                    self.client.send_worker_heartbeat(self.pool, self.name, HEARTBEAT_S)
                    heartbeat_at = now + HEARTBEAT_S
                self._close_ended()
                self._take_scheduled()
                if self.children and now >= looked_at + LOOK_AT_RUNS_S:
                    looked_at = now
                    self._cancel_where_asked()
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                log.warning("the Prefect server does not answer as it should: %s", error)
                self.over.wait(1.0)
            self.store.db.signals.wait(ticket, LOOK_AT_RUNS_S if self.children else POLL_S)

    def stop(self) -> None:
        """End the loop; running flows are killed with the warm process and resumed by lease later."""
        self.over.set()
        self.store.db.signals.arrived([RUNS_TOPIC])

    def _listen(self) -> None:
        for report in self.warm.told():
            with self._lock:
                if "pid" in report:
                    self.children.setdefault(report["run"], Child()).pid = report["pid"]
                else:
                    self._ended.append((report["run"], report["code"]))
            self.store.db.signals.arrived([RUNS_TOPIC])
        if not self.over.is_set():
            log.error("the warm process has ended; the runner ends too and is started again")
            self.stop()

    def _take_scheduled(self) -> None:
        if len(self.children) >= self.limit:
            return
        from datetime import UTC, datetime

        waiting = self.client.get_scheduled_flow_runs_for_work_pool(
            self.pool, scheduled_before=datetime.now(UTC)
        )
        for found in waiting[: self.limit - len(self.children)]:
            run_id = found.flow_run.id
            if str(run_id) in self.children:
                continue
            answer = self.client.set_flow_run_state(run_id, Pending())
            if answer.status == SetStateStatus.ACCEPT:
                self.children[str(run_id)] = Child()
                self.warm.start(str(run_id))

    def _close_ended(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for run_id, code in ended:
            child = self.children.pop(run_id, Child())
            try:
                state = self.client.read_flow_run(UUID(run_id)).state
            except ObjectNotFound:
                continue
            if state is None or state.is_final() or state.is_paused() or state.is_scheduled():
                continue  # a suspended run begins anew when somebody resumes it, and may have been already
            if state.type == StateType.CANCELLING or child.cancelling_since is not None:
                # Again: what a retraining has made between the first stop and its own end.
                retraining.stop_children(self.store, run_id)
                self.client.set_flow_run_state(UUID(run_id), Cancelled(), force=True)
            else:
                message = f"the flow process ended with {_told(code)}"
                self.client.set_flow_run_state(UUID(run_id), Crashed(message=message), force=True)

    def _cancel_where_asked(self) -> None:
        ids = [UUID(run_id) for run_id in self.children]
        found = self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)),
            sort=FlowRunSort.ID_DESC,
            limit=len(ids),
        )
        for run in found:
            child = self.children.get(str(run.id))
            if child is not None and run.state_type == StateType.CANCELLING:
                self._cancel(str(run.id), child)

    def _cancel(self, run_id: str, child: Child) -> None:
        """First through the store, as `:stop` does; by signal only when that does not help."""
        now = time.monotonic()
        if child.cancelling_since is None:
            child.cancelling_since = now
            by_flow_run.request_stop(self.store, run_id)
            model_jobs.request_stop_of_run(self.store, run_id)
            deciding.request_stop_of_run(self.store, run_id)
            retraining.stop_children(self.store, run_id)
        elif child.pid and now - child.cancelling_since > STOP_GRACE_S + KILL_GRACE_S:
            os.killpg(child.pid, signal.SIGKILL)
        elif child.pid and not child.terminated and now - child.cancelling_since > STOP_GRACE_S:
            child.terminated = True
            os.killpg(child.pid, signal.SIGTERM)


def _told(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> int:
    """Entry of `python -m flows.runner`."""
    parser = argparse.ArgumentParser(prog="python -m flows.runner", description=__doc__.splitlines()[0])
    parser.add_argument("--pool", default="catchment", help="work pool to serve")
    parser.add_argument("--limit", type=int, default=64, help="flow runs at a time")
    options = parser.parse_args()
    logs.configure(logs.wanted(), "runner", text="%(asctime)s %(levelname)s %(name)s %(message)s")
    logs.take_over(logs.wanted(), "runner")
    warm = fork_warm_process()
    store = open_store(Settings())
    with get_client(sync_client=True) as client:
        register(client, options.pool)
        runner = Runner(client, store, warm, options.pool, options.limit)
        on_stop_signals(runner.stop)
        print("runner ready", flush=True)
        runner.run()
    warm.close()
    os.waitpid(warm.pid, 0)
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
