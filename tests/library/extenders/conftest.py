"""A job with extenders in the store, driven through the library in the order of the flow."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from catchment.exchange import transfer
from catchment.jobs import lifecycle
from catchment.models.tensors import file_digest
from catchment.rounds import (
    broadcasting,
    checkpoints,
    collect,
    commit,
    evaluation,
    finishing,
    prepare,
    run,
    select,
)
from catchment.rounds.claim import Claim, claim_job
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from catchment.wire.messages import Blob
from tests.thread_sites import Site, job

FOLDER = "ext"


class Driver:
    """Does to a job what its flow does, one library call after another."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls = store.settings.home / "calls.log"

    def write_script(self, source: str, name: str = "functions.py") -> None:
        """Put a script into the namespace's folder; CALLS in it is the path of a file outside of it."""
        text = f"CALLS = {str(self.calls)!r}\n{textwrap.dedent(source)}"
        folder = self.store.settings.home / "namespaces" / "default" / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    def begin(self, source: str, *functions: str, **changes: Any) -> Claim:
        """A claimed run of a job whose extenders are these functions of the source."""
        self.write_script(source)
        extenders = {"script_path": f"{FOLDER}/functions.py", **{name: name for name in functions}}
        lifecycle.create_job(self.store, "default", job(extenders=extenders, **changes))
        return self.start()

    def start(self, flow_run: str = "flow", attempt: int = 1) -> Claim:
        """A start of the job, or a later attempt of the one that is under way."""
        start = lifecycle.request_start(self.store, "default", "j")
        if start is not None:
            lifecycle.launched(self.store, start.uid, flow_run)
        claim = claim_job(self.store, "default", "j", flow_run_id=flow_run, attempt=attempt)
        prepare.prepare_run(self.store, claim)
        return claim

    def trained(self, claim: Claim, number: int) -> str:
        """Everything up to the commit; the new weights' digest."""
        select.select_cohort(self.store, claim, number)
        if "broadcast" in run.extender_steps(self.store, claim):
            broadcasting.broadcast(self.store, claim, number, "train")
        select.publish_work(self.store, claim, number)
        assert collect.collect_updates(self.store, claim, number).enough
        return commit.aggregate_and_commit(self.store, claim, number)

    def one_round(self, claim: Claim, number: int) -> str:
        """A whole round; the new weights' digest."""
        digest = self.trained(claim, number)
        self.after(claim, number)
        return digest

    def after(self, claim: Claim, number: int) -> None:
        """What follows the commit."""
        steps = run.extender_steps(self.store, claim)
        if "broadcast" in steps:
            broadcasting.broadcast(self.store, claim, number, "evaluate")
            if broadcasting.broadcast(self.store, claim, number + 1, "train"):
                select.publish_work(self.store, claim, number + 1)
        evaluate, save = run.steps_due(self.store, claim, number)
        if evaluate:
            evaluation.evaluate_round(self.store, claim, number)
        if save:
            checkpoints.save_checkpoint(self.store, claim, number)
        if "finish" in steps:
            finishing.finish_round(self.store, claim, number)

    def drive(self, claim: Claim) -> dict[str, Any]:
        """All that is left of the run."""
        for number in run.remaining_rounds(self.store, claim):
            self.one_round(claim, number)
        return run.finish_run(self.store, claim)

    def called(self) -> list[str]:
        """Lines that the script's functions have written to CALLS."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def folder(self, path: str = "") -> Path:
        """A path in the namespace's folder."""
        return self.store.settings.home / "namespaces" / "default" / path


def send_files(site: Site, work_id: str, archive: Path) -> Blob:
    """Upload an archive as a site's agent does."""
    digest, data = file_digest(archive), archive.read_bytes()

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    asyncio.run(
        transfer.receive(
            site.store,
            site.name,
            work_id,
            start=0,
            total=len(data),
            digest=digest,
            chunks=pieces(),
            part="files",
        )
    )
    return Blob(digest=digest, size_bytes=len(data))


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One kind is enough: no statement of the extenders knows the difference."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("new_database")())


@pytest.fixture
def driver(store: Store) -> Driver:
    return Driver(store)


@pytest.fixture
def with_settings(tmp_path: Path, store: Store, request: pytest.FixtureRequest) -> Callable[..., Driver]:
    """Makes a driver whose store was opened with other settings."""

    def make(**changes: Any) -> Driver:
        settings = Settings(**{**store.settings.model_dump(), **changes})
        migrate(settings)
        opened = open_store(settings)
        request.addfinalizer(opened.close)
        return Driver(opened)

    return make
