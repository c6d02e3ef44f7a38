"""Sites as threads under secure aggregation: the agent's own conversation, over the library's functions."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np

from catchment.errors import CatchmentError, Unreachable
from catchment.exchange import secure, sites, transfer
from catchment.models.tensors import read_tensors, write_tensors
from catchment.secagg.keys import Identity
from catchment.site.identity import KnownIdentities
from catchment.site.secure import SecureSession
from catchment.store import Store
from catchment.wire.messages import PollRequest, Registration, WorkOrder, WorkResult
from tests.thread_sites import Site, Train


class LocalExchange:
    """The two calls of secure aggregation without a network; at `silent_from` the site is heard no more."""

    def __init__(self, store: Store, site: str, silent_from: str = "") -> None:
        self.store, self.site, self.silent_from = store, site, silent_from
        self.aborted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def abort(self) -> None:
        self.aborted = True

    def say_secure(self, work_id: str, step: str, body: bytes) -> None:
        if self.aborted or step == self.silent_from:
            raise Unreachable("the site is cut off")
        secure.say(self.store, self.site, work_id, step, body)

    def ask_secure(self, work_id: str, step: str, wait_s: float) -> bytes:
        if self.aborted:
            raise Unreachable("the site is cut off")
        waiting = secure.told(self.store, self.site, work_id, step, min(wait_s, 0.5))
        return (asyncio.run(waiting) or "").encode()


class SecureSite(Site):
    """A site that masks. It drops at `drops_at`: advertise, shares, mask, confirmation or unmasking."""

    def __init__(
        self,
        store: Store,
        name: str,
        folder: Path,
        train: Train,
        evaluate: Train,
        *,
        drops_at: str = "",
        identity: Identity | None = None,
        minimum: int = 2,
        held_s: float = 0.3,
    ) -> None:
        self.held_s = held_s
        self.identity = identity or Identity.generate()
        self.drops_at, self.minimum = drops_at, minimum
        self.known = KnownIdentities(folder / f"known-{name}.json")
        self.sessions: list[SecureSession] = []
        self.working: set[str] = set()
        self.plain: dict[str, dict[str, np.ndarray]] = {}
        super().__init__(store, name, folder, train, evaluate)

    def introduction(self) -> Registration:
        return super().introduction().model_copy(update={"identity": self.identity.public.hex()})

    def _run(self) -> None:
        """Each work in a thread of its own, so that the site goes on showing signs of life."""
        while not self.over.is_set():
            holding = tuple(self.working)
            session = self.registration.session
            request = PollRequest(session=session, free=4, holding=holding, wait_s=self.held_s)
            for order in asyncio.run(sites.poll(self.store, self.name, request)).work:
                self.seen.append(order)
                self.working.add(order.work_id)
                threading.Thread(target=self._do, args=(order,), daemon=True).start()

    def _do(self, order: WorkOrder) -> None:
        try:
            self.deliver(order)
        finally:
            self.working.discard(order.work_id)

    def _result(self, order: WorkOrder) -> WorkResult:
        if order.secure is None or order.kind != "train":
            return super()._result(order)
        session = SecureSession(
            order,
            self.name,
            self.identity,
            self.known,
            self.minimum,
            lambda: LocalExchange(self.store, self.name, self.drops_at),  # type: ignore[arg-type,return-value]
        )
        self.sessions.append(session)
        session.start()
        task = self.folder / f"{order.work_id}-{len(self.sessions)}"
        task.mkdir()
        path, _ = transfer.site_blob(self.store, self.name, order.weights.digest)
        weights = read_tensors(path)
        done: Any = self.train(order, weights)
        if isinstance(done, WorkResult):
            return done
        self.plain[order.work_id] = done[0]
        write_tensors(task / "weights", weights)
        write_tensors(task / "update", done[0])
        try:
            session.mask(task, "update", "weights", done[1], 20.0)
        except CatchmentError as error:
            return WorkResult(status="failed", reason=str(error))
        if self.drops_at == "mask":
            return WorkResult(status="failed", reason="the network broke down")
        return WorkResult(status="done", update=self.upload_file(order, task / "update"))

    def die(self) -> None:
        for session in self.sessions:
            session.stop()
        super().die()
