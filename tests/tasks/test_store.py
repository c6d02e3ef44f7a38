"""Faults of the store under a running job, made by real processes: locks, a read-only folder, S3 errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import tasks.store
from catchment.errors import Unreachable
from catchment.jobs import lifecycle, supervise
from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.store import Store, database, migrate, open_store
from flows.federate import federate
from tests.conftest import ROOT, wait_until
from tests.library.jobs.doubles import RecordingLauncher
from tests.s3_server import Proxy, S3Server, new_bucket
from tests.thread_sites import INITIAL, add_one, job

HOLD_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""
HOLD_POSTGRES = """
import psycopg, sys
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("LOCK TABLE jobs, rounds, works IN ACCESS EXCLUSIVE MODE")
    print("held", flush=True)
    sys.stdin.read()
"""
READ_ONLY = """
import asyncio, os, subprocess, sys
blobs = sys.argv[1]
subprocess.run(["mount", "--bind", blobs, blobs], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", blobs], check=True)
from flows.federate import federate
try:
    asyncio.run(federate("j"))
except OSError as error:
    sys.exit(f"ended: {error}")
"""


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process holds the database's lock for the time of a `with` block."""
    url = store.db.engine.url
    script, place = (
        (HOLD_SQLITE, str(url.database))
        if store.db.is_sqlite
        else (
            HOLD_POSTGRES,
            url.set(drivername="postgresql", query={"host": url.query["host"]}).render_as_string(
                hide_password=False
            ),
        )
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            assert holder.wait(30) == 0


@contextlib.contextmanager
def opened(tmp_path: Path, **given: str) -> Iterator[Store]:
    """The store of this process's tasks and of the test."""
    values = {"home": str(tmp_path / "home"), "site_lease_s": "60", "job_lease_s": "1", **given}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(f"CATCHMENT_{name.upper()}", value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        migrate(Settings())
        made = open_store(Settings())
        write_tensors(tmp_path / "init.safetensors", INITIAL)
        made.files.write_file("default", "models/init.safetensors", tmp_path / "init.safetensors")
        tasks.store.process_store.cache_clear()
        try:
            yield made
        finally:
            tasks.store.process_store().close()
            tasks.store.process_store.cache_clear()
            made.close()


@pytest.fixture
def store(tmp_path: Path, database_url: str, prefect_server: str) -> Iterator[Store]:
    """On a local folder, on each kind of database."""
    with opened(tmp_path, database_url=database_url) as made:
        yield made


def state(store: Store) -> str:
    return str(lifecycle.get_job(store, "default", "j")["status"]["state"])


def committed(store: Store) -> list[int]:
    reports = lifecycle.job_rounds(store, "default", "j")
    return [report["round"] for report in reports if report["state"] == "committed"]


@pytest.fixture
def lock_in_round_two(store: Store, make_site) -> Iterator[threading.Event]:
    """A job whose database another process locks in the second round; setting the event releases it."""
    released, taken = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(store):
            taken.set()
            released.wait(120)

    holder = threading.Thread(target=hold)

    def trains_and_locks(order, weights):
        if order.round == 2 and not taken.is_set():
            holder.start()
            assert taken.wait(30)
        return add_one(order, weights)

    make_site("a", train=trains_and_locks)
    make_site("b")
    lifecycle.create_job(store, "default", job())
    yield released
    released.set()
    if holder.ident is not None:
        holder.join(30)


@pytest.mark.filterwarnings("ignore:<psycopg.Connection object:ResourceWarning")
def test_a_database_that_is_locked_for_some_seconds_delays_a_round_and_no_more(
    store, lock_in_round_two, monkeypatch
):
    monkeypatch.setattr(database, "LOCK_WAIT_S", 1.0)
    store.db.engine.dispose()
    tasks.store.process_store().db.engine.dispose()
    threading.Timer(4.0, lock_in_round_two.set).start()  # longer than one wait for the lock
    assert asyncio.run(federate("j")).startswith("sha256:")
    assert state(store) == "FINISHED"
    assert committed(store) == [1, 2, 3]


# Connections that were in use when the engine was disposed of are left to the garbage collector.
@pytest.mark.filterwarnings("ignore:<psycopg.Connection object:ResourceWarning")
def test_a_database_that_stays_locked_ends_the_run_with_a_reason_and_it_goes_on_when_released(
    store, lock_in_round_two, monkeypatch
):
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(database, "TRIES", 2)
    store.db.engine.dispose()
    tasks.store.process_store().db.engine.dispose()
    with pytest.raises(Unreachable, match=r"the database does not answer: .*lock"):
        asyncio.run(federate("j"))
    lock_in_round_two.set()
    monkeypatch.setattr(database, "TRIES", 8)
    wait_until(lambda: state(store) == "RUNNING", timeout_s=30, what="the lock's end")
    launcher = RecordingLauncher()
    (flow_run,) = {row.flow_run_id for row in jobs_of(store)}
    launcher.states[flow_run] = "failed"

    def resumed() -> bool:
        supervise.supervise_once(store, launcher)
        return bool(launcher.relaunched)

    wait_until(resumed, timeout_s=60, what="the supervisor to let the job go on")
    shown = lifecycle.get_job(store, "default", "j")["status"]
    assert shown["state"] == "STARTING"
    assert "the flow process was lost; the job goes on" in shown["reason"]
    change_run(store)
    assert asyncio.run(federate("j")).startswith("sha256:")
    assert state(store) == "FINISHED"
    assert committed(store) == [1, 2, 3]


def jobs_of(store: Store):
    from sqlalchemy import select

    from catchment.store.schema import jobs

    return store.db.read(lambda tx: tx.execute(select(jobs)).all())


def change_run(store: Store) -> None:
    """A new flow run, since none can be run twice in this process, takes the place of the relaunched one."""
    from catchment.jobs import rows

    uid = jobs_of(store)[0].uid
    store.db.write(lambda tx: rows.change(tx, uid, flow_run_id=None))


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
    reason="no user and mount namespaces on this machine",
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_read_only_blob_folder_fails_the_job_with_the_reason_and_it_goes_on_when_it_is_not(
    store, make_site, prefect_server
):
    make_site("a")
    make_site("b")
    lifecycle.create_job(store, "default", job())
    blobs = store.settings.home / "blobs"
    (blobs / "staging").mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-W", "ignore", "-c", READ_ONLY, str(blobs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        timeout=180,
        check=False,
        text=True,
    )
    assert "ended: [Errno 30] Read-only file system" in ended.stderr
    shown = lifecycle.get_job(store, "default", "j")["status"]
    assert shown["state"] == "FAILED"
    assert "Read-only file system" in shown["reason"]
    assert [path for path in blobs.rglob("*") if path.is_file()] == []
    assert asyncio.run(federate("j")).startswith("sha256:")
    assert state(store) == "FINISHED"


def test_s3_errors_in_every_round_delay_it_and_no_more(
    s3: S3Server, tmp_path: Path, new_database, prefect_server
):
    from tests.thread_sites import Site, accuracy

    proxy, sites = Proxy(s3.url), []
    proxy.answer = lambda _method, _path, before: 503 if before % 2 == 0 else 0
    given = {
        "database_url": new_database(),
        "storage_url": f"s3://{new_bucket(s3.url)}/store",
        "s3_endpoint_url": proxy.url,
    }
    try:
        with opened(tmp_path, **given) as store:
            for name in ("a", "b"):
                (tmp_path / name).mkdir()
                sites.append(Site(store, name, tmp_path / name, add_one, accuracy))
            lifecycle.create_job(store, "default", job())
            digest = asyncio.run(federate("j"))
            assert state(store) == "FINISHED"
            assert committed(store) == [1, 2, 3]
            assert store.blobs.exists(digest)
            for site in sites:
                site.die()
    finally:
        proxy.close()
    assert len(proxy.requests) > 20
