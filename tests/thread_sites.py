"""Sites as threads that call the library's own functions, without a network between; and small jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np

from catchment.errors import CatchmentError, Unreachable
from catchment.exchange import results, sites, transfer
from catchment.models.tensors import file_digest, read_tensors, write_tensors
from catchment.privacy.site import privatise
from catchment.store import Store
from catchment.wire.messages import Blob, PollRequest, Registration, SiteResources, WorkOrder, WorkResult

Train = Callable[
    [WorkOrder, dict[str, np.ndarray]], WorkResult | tuple[dict[str, np.ndarray], dict[str, Any]]
]
INITIAL = {"w": np.zeros((2, 3), np.float32), "steps": np.array(0, np.int64)}


class Site:
    """A site in a thread: polls, trains with a function, delivers; `offers` go into its registration."""

    def __init__(
        self, store: Store, name: str, folder: Path, train: Train, evaluate: Train, **offers: Any
    ) -> None:
        self.store, self.name, self.folder = store, name, folder
        self.train, self.evaluate = train, evaluate
        self.seen: list[WorkOrder] = []
        self.refused: list[str] = []
        self.over = threading.Event()
        self.offers = offers
        self.registration = self.introduction()
        sites.register(store, name, self.registration)
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def introduction(self) -> Registration:
        """What the site says about itself."""
        return Registration.model_validate(
            {
                "session": f"session-{self.name}",
                "address": f"127.0.0.1:{hash(self.name) % 50000 + 1024}",
                "runtimes": ("pytorch", "keras"),
                "datasets": ("digits",),
                "entries": ("train",),
                "resources": SiteResources(cpu=8, memory_mb=8000),
                "allow_scripts": "always",
                **self.offers,
            }
        )

    def _run(self) -> None:
        while not self.over.is_set():
            request = PollRequest(session=self.registration.session, free=4, wait_s=0.3)
            try:
                orders = asyncio.run(sites.poll(self.store, self.name, request)).work
            except Unreachable:  # a real agent tries on as well
                self.over.wait(0.2)
                continue
            for order in orders:
                self.seen.append(order)
                self.deliver(order)

    def deliver(self, order: WorkOrder) -> None:
        """Do a work; what the coordinator refuses is kept in `refused`, as a real agent would drop it."""
        try:
            results.finish_work(self.store, self.name, order.work_id, self._result(order))
        except CatchmentError as error:
            self.refused.append(str(error))

    def _result(self, order: WorkOrder) -> WorkResult:
        path, _ = transfer.site_blob(self.store, self.name, order.weights.digest)
        done = (self.train if order.kind == "train" else self.evaluate)(order, read_tensors(path))
        if isinstance(done, WorkResult):
            return done
        update = self.upload(order, done[0]) if order.kind == "train" else None
        return WorkResult(status="done", metrics=done[1], update=update)

    def upload(self, order: WorkOrder, update: dict[str, np.ndarray]) -> Blob:
        path = self.folder / f"{order.work_id}.safetensors"
        write_tensors(path, update)
        if order.privacy is not None:
            path = privatise(path, order.privacy).rename(path)
        return self.upload_file(order, path)

    def upload_file(self, order: WorkOrder, path: Path) -> Blob:
        digest, data = file_digest(path), path.read_bytes()
        # What an earlier try has left there is gone on from, as by a real agent.
        start = transfer.upload_offset(self.store, self.name, order.work_id)

        async def pieces() -> AsyncIterator[bytes]:
            yield data[start:]

        if start < len(data):
            asyncio.run(
                transfer.receive(
                    self.store,
                    self.name,
                    order.work_id,
                    start=start,
                    total=len(data),
                    digest=digest,
                    chunks=pieces(),
                )
            )
        return Blob(digest=digest, size_bytes=len(data))

    def die(self) -> None:
        """No further sign of life."""
        self.over.set()
        self.thread.join(timeout=10)


def add_one(order: WorkOrder, weights: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A training that moves every weight by one."""
    return (
        {"w": np.ones_like(weights["w"]), "steps": weights["steps"] + 1},
        {"sample_num": 10, "loss": 1.0 / order.round},
    )


def accuracy(
    order: WorkOrder, weights: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """An evaluation whose accuracy tells the weights."""
    return {}, {"sample_num": 4, "accuracy": float(weights["w"].mean()) / 100, "loss": 0.5}


def job(**changes: Any) -> dict[str, Any]:
    """A small valid job."""
    hyper = {"max_round_num": 3, "client_num": 2, "threshold_client_num": 2, "evaluate_interval": 1}
    return {
        "id": "j",
        "runtime": "pytorch",
        "output": "out",
        "task_entry": "train",
        "model_path": "models/init.safetensors",
        "seed": 7,
        **changes,
        "hyper_parameters": {**hyper, **changes.get("hyper_parameters", {})},
    }
