"""Steps of ModelJobs as Kubernetes Jobs: started or found again, waited for, and taken away when stopped."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Self

from catchment import access
from catchment.catalog.rows import VersionFile
from catchment.errors import (
    AlreadyExists,
    CatchmentError,
    JobStopped,
    NotFound,
    PodFailed,
    SetupError,
    Unreachable,
)
from catchment.formats.extract.result import Extracted
from catchment.kubernetes.client import Cluster
from catchment.kubernetes.kinds import JOB, POD, SECRET
from catchment.model_jobs import rows, working
from catchment.model_jobs.claim import ModelJobClaim, held
from catchment.model_jobs.kubernetes import delivery, manifests
from catchment.model_jobs.kubernetes.images import image_of
from catchment.model_jobs.kubernetes.manifests import UID_LABEL, StepJob
from catchment.model_jobs.kubernetes.pod_logs import PodLogs
from catchment.model_jobs.kubernetes.waiting import Standing, is_over, own, standing
from catchment.model_jobs.states import CONVERT, Phase
from catchment.settings import Settings
from catchment.store import Store
from catchment.store.database import Transaction

log = logging.getLogger(__name__)
LOOK_S = 1.0
CALL_S = 4.0
"""Of one call while a job may be stopped: that has to be through within ten seconds."""
GONE_S = 60.0
AWAY_S = 5.0
"""A cluster that does not answer for less is not worth a word."""


@dataclass(frozen=True)
class KubernetesExecutor:
    """An Executor whose work is done in a cluster's pods."""

    settings: Settings

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """By the settings. Raises SetupError where one lacks."""
        for name in ("model_job_image", "model_job_api_url"):
            if not getattr(settings, name):
                raise SetupError(f"CATCHMENT_{name.upper()} is required where ModelJobs run in Kubernetes")
        return cls(settings)

    def prepare(self, store: Store, claim: ModelJobClaim, files: list[VersionFile]) -> None:
        """Nothing: pods fetch the files themselves."""

    def extract(self, store: Store, claim: ModelJobClaim, step: str) -> Extracted:
        """Read the signature in a pod."""
        return Extracted.from_json(self._perform(store, claim, step))

    def convert(self, store: Store, claim: ModelJobClaim) -> dict[str, Any]:
        """Convert in a pod of the backend's image."""
        return self._perform(store, claim, CONVERT)

    def forget(self, store: Store, namespace: str, uid: str) -> None:
        """Delete what is left of a job in the cluster."""
        access.drop_worker_tokens(store, uid)
        place = self.settings.kubernetes_namespace or namespace
        with Cluster(self.settings) as cluster:
            for found in cluster.list(JOB, place, f"{UID_LABEL}={uid}", deadline_s=CALL_S):
                told = found["metadata"]
                cluster.delete(JOB, place, told["name"], uid=told["uid"], deadline_s=CALL_S)

    def _perform(self, store: Store, claim: ModelJobClaim, step: str) -> dict[str, Any]:
        """What a pod has found. Raises the error that it met, or why there is no outcome."""
        task = delivery.task(store, claim, step)
        work = StepJob(claim.uid, step, f"{claim.namespace}/{claim.name}", image_of(task))
        place = self.settings.kubernetes_namespace or claim.namespace
        with Cluster(self.settings) as cluster:
            outcome = _Run(store, claim, work, cluster, place, self.settings).outcome()
        access.drop_worker_tokens(store, claim.uid, step)
        if "problem" in outcome:
            # Tried again, the step begins anew.
            delivery.begin(store, claim, step)
            raise working.as_error(outcome["problem"])
        return dict(outcome["found"])


@dataclass
class _Run:
    """One step under way.

    Attributes:
        job: the Kubernetes Job that it made or found, as it was then.
    """

    store: Store
    claim: ModelJobClaim
    work: StepJob
    cluster: Cluster
    place: str
    settings: Settings
    job: dict[str, Any] | None = None

    def outcome(self) -> delivery.Outcome:
        """Wait for what the pod brings, having started it where it is not there yet."""
        known = delivery.outcome(self.store, self.claim, self.work.step)
        if known is not None:
            return known
        try:
            logs = PodLogs(self.store, self.claim.uid, self.cluster, self.place, adopted=self._ensure())
            return self._awaited(logs)
        except (JobStopped, NotFound):
            self._take_away()
            raise

    def _ensure(self) -> bool:
        """Have the Job and its Secret there; whether an earlier run had made them."""
        self.job = self.cluster.find(JOB, self.place, self.work.name)
        if self.job is not None:
            # Its pod says that it is over before the Job does.
            if not is_over(self.job, self._pods(self.job)):
                self._keep_token(self.job)
                return True
            self._take_away()
            self._await_gone(self.job["metadata"]["uid"])
            self.job = None
        delivery.begin(self.store, self.claim, self.work.step)
        manifest = manifests.job(self.work, self.settings)
        try:
            self.job = self.cluster.create(manifest, self.place)
        except AlreadyExists:  # an answer that did not arrive the first time
            self.job = self.cluster.get(JOB, self.place, self.work.name)
        self._give_token(self.job)
        self._say(f"Kubernetes Job {self.place}/{self.work.name} was created")
        return False

    def _give_token(self, job: dict[str, Any]) -> None:
        token = access.create_worker_token(self.store, self.claim.uid, self.work.step)
        secret = manifests.secret(self.work, token, job["metadata"]["uid"])
        self.cluster.apply(secret, self.place, force=True)

    def _keep_token(self, job: dict[str, Any]) -> None:
        """Have the Secret there, without which the pod does not begin.

        That of an earlier Job of the name was given to this one; a garbage collector that had looked at it
        before may delete it for its former owner all the same (kubernetes/kubernetes#114603).
        """
        if self.cluster.find(SECRET, self.place, self.work.name, deadline_s=CALL_S) is None:
            self._give_token(job)

    def _awaited(self, logs: PodLogs) -> delivery.Outcome:
        topic, waits_since = rows.topic(self.claim.uid), None
        answered, now = time.monotonic(), Standing("running")
        while True:
            ticket = self.store.db.signals.ticket(topic)
            try:
                now = self._look(logs)
                answered = time.monotonic()
            except Unreachable as error:
                away_s = time.monotonic() - answered
                if away_s > self.settings.model_job_start_s:
                    raise
                if away_s > AWAY_S:
                    now = Standing("waiting", f"waiting for the cluster: {error}")
            known = delivery.outcome(self.store, self.claim, self.work.step)
            if known is not None:
                self._tell(Standing("running"))
                return known
            waits_since = (waits_since or time.monotonic()) if now.state == "waiting" else None
            self._go_on(now)
            if waits_since and time.monotonic() - waits_since > self.settings.model_job_start_s:
                self._give_up(now)
            self.store.db.signals.wait(ticket, LOOK_S)

    def _look(self, logs: PodLogs) -> Standing:
        job = self.cluster.find(JOB, self.place, self.work.name, deadline_s=CALL_S)
        if job is not None and self.job is not None and job["metadata"]["uid"] != self.job["metadata"]["uid"]:
            job = None  # another one of its name
        pods = [] if job is None else self._pods(job)
        logs.follow(pods)
        now = standing(job, pods)
        if job is not None and now.state == "waiting" and not is_over(job, pods):
            self._keep_token(job)
        return now

    def _pods(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        found = self.cluster.list(POD, self.place, f"job-name={self.work.name}", deadline_s=CALL_S)
        return own(job, found)

    def _go_on(self, now: Standing) -> None:
        """Say how it stands; raise where no outcome will come any more."""
        if now.state == "done":
            raise PodFailed("exit", "its pod ended well, and brought nothing")
        if now.state in ("failed", "lost"):
            raise now.error()
        self._tell(now)

    def _give_up(self, now: Standing) -> None:
        self._take_away()
        kind = now.problem.kind if now.problem else "creating"
        raise PodFailed(kind, f"{now.message} (after {self.settings.model_job_start_s:g} s of waiting)")

    def _tell(self, now: Standing) -> None:
        """Phase and message: Pending while the pod has something to say, as the original has it."""
        waits = now.state == "waiting"
        phase = Phase.PENDING if waits else Phase.RUNNING
        message = now.message[:2000] if waits else "modelJob running"

        def write(tx: Transaction) -> None:
            row = held(tx, self.claim)
            if (row.phase, row.message) != (phase, message):
                rows.change(tx, row.uid, phase=phase, message=message)
                if waits and now.problem is not None and now.problem.kind != "creating":
                    rows.event(tx, row.uid, "PodWaiting", message, "Warning")

        self.store.db.write(write)

    def _say(self, text: str) -> None:
        self.store.db.write(lambda tx: rows.line(tx, self.claim.uid, text))

    def _take_away(self) -> None:
        """Delete the Job, and its pods and Secret with it; a cluster that is away does so at the deadline."""
        if self.job is None:
            return
        try:
            # Not the one that a later run of the step may have made in its place.
            uid = self.job["metadata"]["uid"]
            gone = self.cluster.delete(JOB, self.place, self.work.name, uid=uid, deadline_s=CALL_S)
            if not gone and self.cluster.find(JOB, self.place, self.work.name, deadline_s=CALL_S):
                return  # whose token it is by now
            access.drop_worker_tokens(self.store, self.claim.uid, self.work.step)
        except CatchmentError as error:
            log.warning("modeljob=%s its Job %s is not deleted: %s", self.claim.name, self.work.name, error)

    def _await_gone(self, uid: str) -> None:
        until = time.monotonic() + GONE_S
        while (found := self.cluster.find(JOB, self.place, self.work.name)) is not None:
            if found["metadata"]["uid"] != uid:
                return
            if time.monotonic() > until:
                raise Unreachable(
                    f"the Job {self.work.name} of an earlier try is still there, {GONE_S:g} s on"
                )
            delivery.outcome(self.store, self.claim, self.work.step)  # still ours, and not to stop
            time.sleep(LOOK_S / 2)
