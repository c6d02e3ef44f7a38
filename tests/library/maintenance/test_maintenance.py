"""Maintenance of a real store: what goes, what stays, what is found broken."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catchment.catalog import audit, manager
from catchment.catalog.audit import Actor
from catchment.errors import TransferError
from catchment.jobs import purge
from catchment.maintenance.plan import PREFIXES
from catchment.maintenance.report import report
from catchment.maintenance.sweeping import sweep
from catchment.maintenance.verifying import part_of_day, verify
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.schema import model_versions
from tests.library.catalog.test_uploads import send

DAY_S = 86_400.0


def blob(store: Store, data: bytes, age_s: float = 0.0) -> str:
    digest = put_bytes(store.blobs, data)
    path = store.blobs.local_path(digest)
    os.utime(path, (time.time() - age_s,) * 2)
    return digest


def version(store: Store, data: bytes) -> tuple[str, str]:
    """A ready version of these bytes: its id, and the blob."""
    body = {"name": "net", "version": secrets.token_hex(4), "runtime": "pytorch", "file_name": "net.pt"}
    made = manager.create(store, "default", body, Actor())
    send(store, made["id"], data)
    digest = store.db.read(lambda tx: manager.rows.files_of(tx, [made["id"]]))[made["id"]][0].digest
    os.utime(store.blobs.local_path(digest), (time.time() - 9 * DAY_S,) * 2)
    return made["id"], digest


def test_what_nothing_refers_to_goes_after_its_grace(store: Store):
    old, young = blob(store, b"old", 2 * DAY_S), blob(store, b"young", DAY_S / 2)
    _, used = version(store, b"weights of a model")
    told = sweep(store, grace_s=DAY_S, dry_run=True)
    assert (told.removed, told.freed_bytes, store.blobs.exists(old)) == (1, 3, True)
    assert told.blobs == {"model_files": 1, "nothing": 2}
    done = sweep(store, grace_s=DAY_S)
    assert (done.removed, done.freed_bytes) == (1, 3)
    assert (done.blobs, done.bytes["model_files"]) == ({"model_files": 1, "nothing": 1}, 18)
    assert [store.blobs.exists(digest) for digest in (old, young, used)] == [False, True, True]
    assert sweep(store, grace_s=DAY_S).removed == 0


def test_who_is_about_to_refer_to_a_blob_keeps_it_or_hears_that_it_is_gone(store: Store):
    """Writers take blobs that nothing refers to while they are swept: none ends up with a missing one."""
    digests = [blob(store, f"{number}".encode(), 2 * DAY_S) for number in range(60)]
    kept: list[str] = []
    over = threading.Event()

    def refer(digest: str) -> None:
        def step(tx: Any) -> None:
            purge.hold_blobs(store, tx, [digest])
            row = {"id": secrets.token_hex(16), "namespace": "default", "name": "n", "version": digest[-40:]}
            row |= {"runtime": "r", "state": "ready", "lineage": {}, "manifest": digest}
            times = dict.fromkeys(("created_at", "updated_at", "touched_at"), tx.now)
            tx.execute(model_versions.insert().values(**row, **times))

        try:
            store.db.write(step)
        except TransferError:
            return
        kept.append(digest)

    def sweeps() -> None:
        while not over.is_set():
            sweep(store, grace_s=DAY_S)

    sweeper = threading.Thread(target=sweeps)
    writers = [
        threading.Thread(target=lambda part=part: [refer(d) for d in part])
        for part in (digests[::2], digests[1::2])
    ]
    for thread in (*writers, sweeper):
        thread.start()
    for thread in writers:
        thread.join(60)
    over.set()
    sweeper.join(60)
    assert not sweeper.is_alive()
    assert all(store.blobs.exists(digest) for digest in kept)
    sweep(store, grace_s=DAY_S)
    assert {d for d in digests if store.blobs.exists(d)} == set(kept)


def test_all_blobs_have_their_turn_within_as_many_days_as_there_are_parts(store: Store):
    for number in range(50):
        blob(store, f"blob {number}".encode())
    for parts in (1, 7, 30, 256):
        seen = [
            verify(store, part=part_of_day(day, parts), parts=parts, most_bytes=10**9) for day in range(parts)
        ]
        assert sum(each.blobs for each in seen) == 50
        assert not any(each.broken for each in seen)
    bounded = verify(store, part=0, parts=1, most_bytes=20)
    assert (bounded.blobs + bounded.left, bounded.bytes <= 20) == (50, True)
    assert sum(len(store.blobs.listed(prefix)) for prefix in range(PREFIXES)) == 50


def test_a_broken_blob_is_told_with_its_model_once_and_stays(store: Store):
    model_id, digest = version(store, b"weights of a model")
    path = store.blobs.local_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"weights of a modem")
    for _ in range(2):
        (broken,) = verify(store, part=0, parts=1, most_bytes=10**9).broken
    assert (broken.digest, broken.kind) == (digest, "model_files")
    assert broken.actual != digest
    assert broken.versions[0].startswith("default/net:")
    assert path.read_bytes() == b"weights of a modem"
    told = [
        each for each in store.db.read(lambda tx: audit.entries(tx, model_id)) if each["action"] == "error"
    ]
    assert [each["detail"] for each in told] == [{"broken": digest, "found": broken.actual}]
    assert told[0]["actor"] == "maintenance"


def test_the_report_names_silent_sites_and_counts_jobs(store: Store, make_site: Callable[..., Any]):
    site, gone = make_site("a"), make_site("b")
    gone.die()
    deadline = time.monotonic() + 20
    while report(store).silent != ("b",):
        assert time.monotonic() < deadline, report(store)
        store.db.signals.closed.wait(0.1)
    assert (report(store).sites, report(store).jobs) == (2, {})
    site.die()


@pytest.fixture
def remote(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Blobs in a storage that fsspec reaches."""
    import fsspec

    from catchment.store.blobs import RemoteBlobs

    return RemoteBlobs(fsspec.filesystem("memory"), f"/{secrets.token_hex(4)}", tmp_path / "cache")


def test_remote_blobs_are_listed_and_hashed_where_they_lie(remote: Any):
    digest = put_bytes(remote, b"weights")
    prefix = int(digest[7:9], 16)
    (kept,) = remote.listed(prefix)
    assert (kept.digest, kept.size_bytes) == (digest, 7)
    assert 0 <= kept.age_s < 60
    assert remote.listed((prefix + 1) % 256) == []
    assert remote.actual_digest(digest) == digest
    remote._files.pipe(remote._key(digest), b"weighty")
    assert remote.actual_digest(digest) != digest
    assert remote.local_path(digest).read_bytes() == b"weights"  # the cached copy, which says nothing of it
