"""One replica of a workload: a thread that keeps its model server running until it is asked to end it."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from catchment.errors import CatchmentError, Unreachable
from catchment.serving.host import launching, logs, probing
from catchment.serving.host.launching import Ports, Surroundings
from catchment.serving.host.places import Models, Places
from catchment.serving.host.process import Alarm, ServerProcess
from catchment.serving.host.restarts import Restarts, Verdict
from catchment.serving.workload import Workload

log = logging.getLogger(__name__)
END_LOOK_S = 0.2
State = Literal["starting", "ready", "stopping", "failed", "gone"]


@dataclass(frozen=True)
class Pace:
    """How often a replica is looked at, and how long everything may take, in seconds.

    Attributes:
        look: between two looks while it starts.
        probe: between two questions whether it lives.
        answer: it must answer such a question within this.
        misses: so many questions in a row without an answer are a hang.
        load: it must be ready within this.
        healthy: after so long its earlier crashes are forgotten.
        leave: between the word that it stops and the signal: gateways turn to others meanwhile.
        told: how long is waited for that word to be written down.
        margin: beyond the time to drain, before it is killed.
    """

    look: float = 0.05
    probe: float = 2.0
    answer: float = 2.0
    misses: int = 4
    load: float = 600.0
    healthy: float = 60.0
    leave: float = 0.5
    told: float = 1.0
    margin: float = 5.0


@dataclass(frozen=True)
class Seen:
    """How a replica is: what is written into its row."""

    state: State
    http: str = ""
    grpc: str = ""
    pid: int | None = None
    pid_start: int | None = None
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True)
class Running:
    """A model server's process and where it listens."""

    process: ServerProcess
    ports: Ports
    log_start: int = 0
    """Where in the log its own lines begin."""
    was_ready: bool = False


class Replica:
    """Keeps one model server running; `report` is called whenever `seen` has changed.

    It needs the store only to lay a version's files out, so it goes on when the database is away.
    """

    def __init__(
        self,
        workload: Workload,
        number: int,
        *,
        places: Places,
        models: Models,
        surroundings: Surroundings,
        report: Callable[[], None],
        pace: Pace,
        ports: Callable[[], Ports] = launching.free_ports,
    ) -> None:
        self.workload = workload
        self.number = number
        self.seen = Seen("starting")
        self._log = places.log(workload.serving.uid, workload.key, number)
        self._models = models
        self._surroundings = surroundings
        self._report = report
        self._pace = pace
        self._ports = ports
        self._alarm = Alarm()
        self._told_stopping = threading.Event()
        self._end_by = math.inf
        self._restarts = Restarts()
        self._adopted: Running | None = None
        self._thread = threading.Thread(target=self._run, name=f"{workload.key}-{number}", daemon=True)

    @property
    def id(self) -> tuple[str, str, int]:
        """Names the replica's row: serving, workload, number."""
        return self.workload.serving.uid, self.workload.key, self.number

    def start(self, running: Running | None = None, restarts: int = 0) -> None:
        """Begin; with a model server that an earlier host has left."""
        self._adopted = running
        if running is not None:
            state: State = "ready" if running.was_ready else "starting"
            self.seen = replace(_listening(running), state=state, restarts=restarts)
        self._thread.start()

    def stop(self, within_s: float | None = None) -> None:
        """Have it drained and ended, within its own time to drain unless another is given."""
        drain_s = float(self.workload.server.get("drain_s", 10.0)) + self._pace.margin
        allowed_s = drain_s if within_s is None else min(within_s, drain_s)
        self._end_by = min(self._end_by, time.monotonic() + allowed_s)
        self._alarm.ring()

    def told(self, seen: Seen) -> None:
        """What was seen has been written down, so that gateways know."""
        if seen.state == "stopping":
            self._told_stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Whether its process is gone, waiting for that."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Give back what it holds; call it when it is gone."""
        self._alarm.close()

    def _run(self) -> None:
        running: Running | None = self._adopted
        try:
            while not self._alarm.wait(0):
                if running is None:
                    running = self._begin()
                if running is not None and not self._watch(running):
                    break
                running = None
        except Exception:
            log.exception("replica %d of %s", self.number, self.workload.key)
            raise
        finally:
            if running is not None:
                self.stop()
                self._end(running)
            self._say(replace(self.seen, state="gone"))

    def _say(self, seen: Seen) -> None:
        self.seen = seen
        self._report()

    def _begin(self) -> Running | None:
        """A model server that was just started; None where it could not, and the pause after that is over."""
        try:
            folder = self._models.folder(self.workload.model)
            ports = self._ports()
            argv = launching.command(self.workload, folder, ports)
            log_start = logs.size(self._log)
            process = launching.start(argv, self.workload, self._surroundings, self._log)
        except (OSError, Unreachable) as error:
            self._pause(self._restarts.could_not_start(f"tried again soon: {error}", for_good=False))
            return None
        except CatchmentError as error:
            self._pause(self._restarts.could_not_start(str(error), for_good=True))
            return None
        running = Running(process, ports, log_start)
        failed = self.seen.state == "failed"
        self._say(
            replace(
                _listening(running),
                state="failed" if failed else "starting",
                restarts=self.seen.restarts,
                message=self.seen.message,
            )
        )
        return running

    def _watch(self, running: Running) -> bool:
        """Wait until the server has ended, and for the pause after it; False when it shall be ended."""
        why = self._lead(running)
        if why is None:
            return False
        exit_code = running.process.close()
        launching.forget(self._surroundings, running.process)
        last_error = logs.last_error(self._log, running.log_start)
        verdict = self._restarts.after(exit_code, last_error, why)
        log.warning("%s-%d: %s", self.workload.key, self.number, verdict.message)
        self._pause(verdict)
        return True

    def _pause(self, verdict: Verdict) -> None:
        state: State = "failed" if verdict.failed else "starting"
        restarts = self.seen.restarts + 1
        self._say(Seen(state, restarts=restarts, message=verdict.message))
        self._alarm.wait(verdict.pause_s)

    def _lead(self, running: Running) -> str | None:
        """Look after the server until it ends: why the host ended it, or ""; None when it is to end."""
        pace, ready, misses = self._pace, running.was_ready, 0
        began = time.monotonic()
        while True:
            woken = running.process.wait(pace.probe if ready else pace.look, self._alarm)
            if woken == "ended":
                return ""
            if woken == "rung":
                return None
            if not ready:
                ready = probing.is_ready(running.ports.http, pace.answer)
                if ready:
                    began = time.monotonic()
                    self._say(replace(self.seen, state="ready", message=""))
                elif time.monotonic() - began > pace.load:
                    return self._killed(running, f"the model was not loaded within {pace.load:g} s")
                continue
            logs.cut(self._log)
            misses = 0 if probing.is_live(running.ports.http, pace.answer) else misses + 1
            if misses >= pace.misses and running.process.wait(0) != "ended":
                return self._killed(running, f"the model server hung: {misses} questions without an answer")
            if problem := self._too_large(running):
                return self._killed(running, problem)
            if time.monotonic() - began > pace.healthy:
                self._restarts.healthy()

    def _too_large(self, running: Running) -> str:
        limit = launching.memory_limit(self.workload)
        held = running.process.private_bytes()
        if limit is None or held <= limit:
            return ""
        return f"the model server held {held >> 20} MiB, its limit is {limit >> 20} MiB"

    def _killed(self, running: Running, why: str) -> str:
        """End a server that does not do as it should; its stacks are in the log where it can write them."""
        running.process.signal(signal.SIGABRT)
        running.process.wait(1.0)
        running.process.kill()
        running.process.wait(self._pace.margin)
        return why

    def _end(self, running: Running) -> None:
        """Let gateways leave the server, drain it, end it."""
        served = self.seen.state == "ready"
        self._say(replace(self.seen, state="stopping", message=""))
        if served:
            told_s = min(self._pace.told, (self._end_by - time.monotonic()) / 4)
            self._told_stopping.wait(told_s)
            running.process.wait(min(self._pace.leave, told_s))
        running.process.signal(signal.SIGTERM)
        if not self._ended_in_time(running.process):
            log.warning("%s-%d does not stop in time; killed", self.workload.key, self.number)
            running.process.kill()
            running.process.wait(self._pace.margin)
        running.process.close()
        launching.forget(self._surroundings, running.process)

    def _ended_in_time(self, process: ServerProcess) -> bool:
        """Wait for its end; the time may be cut short meanwhile, when the host itself is to end."""
        while process.wait(min(END_LOOK_S, self._end_by - time.monotonic())) != "ended":
            if time.monotonic() >= self._end_by:
                return False
        return True


def _listening(running: Running) -> Seen:
    http = f"http://{launching.HOST}:{running.ports.http}"
    grpc = f"{launching.HOST}:{running.ports.grpc}"
    return Seen("starting", http, grpc, running.process.pid, running.process.started)
