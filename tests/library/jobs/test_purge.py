"""What a job leaves behind when it is deleted: nothing of its own, and all that others refer to."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select

from catchment.jobs import purge
from catchment.jobs.states import JobState
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.schema import checkpoints, jobs, prepared_files, rounds, works
from tests.library.jobs.doubles import change, make, row
from tests.library.store.fresh import BOTH

TABLES = (checkpoints, jobs, prepared_files, rounds, works)


def blob(store: Store, name: str) -> str:
    return put_bytes(store.blobs, name.encode())


def refer(store: Store, job_id: str, kind: str, digest: str) -> None:
    """A row of the job that refers to a blob."""
    uid = row(store, job_id).uid
    common = {"job_uid": uid, "run": 1}
    attempt = {**common, "number": 1, "attempt": 0, "state": "committed", "cohort": [], "selected_at": 0.0}
    work = {
        **common,
        "id": f"{job_id}-{kind}",
        "round": 1,
        "attempt": 0,
        "kind": "train",
        "state": "admitted",
        "order": {},
        "deadline": 0.0,
        "created_at": 0.0,
    }
    statement = {
        "initial": None,
        "scripts": None,
        "weights": insert(rounds).values(**attempt, weights=digest),
        "new_weights": insert(rounds).values(**attempt | {"number": 2}, weights="", new_weights=digest),
        "aggregated": insert(rounds).values(**attempt | {"number": 3}, weights="", aggregated=digest),
        "extender": None,
        "prepared": insert(prepared_files).values(
            **common, round=1, attempt=0, kind="train", name="n", digest=digest, size_bytes=1
        ),
        "update": insert(works).values(**work, site="a", update=digest),
        "files": insert(works).values(**work, site="b", files=digest),
        "checkpoint": insert(checkpoints).values(
            **common, number=1, round=1, path="p", digest=digest, created_at=0.0
        ),
    }[kind]
    if kind == "initial":
        change(store, job_id, initial_weights=digest)
    elif kind == "scripts":
        sent = {"archive": {"digest": digest, "size_bytes": 1}, "config_file": "c", "folder": "f"}
        change(store, job_id, sent_scripts=sent)
    elif kind == "extender":
        change(store, job_id, extender={"archive": digest, "entry": "f.py", "starts": 1})
    else:
        store.db.write(lambda tx: tx.execute(statement))


KINDS = ["initial", "scripts", "extender", "weights", "new_weights", "aggregated", "prepared"]
KINDS += ["update", "files", "checkpoint"]


def counts(store: Store) -> list[Any]:
    return store.db.read(
        lambda tx: [tx.execute(select(func.count()).select_from(table)).scalar() for table in TABLES]
    )


@BOTH
def test_all_rows_folders_and_blobs_of_the_job_go(store: Store) -> None:
    make(store, JobState.DELETING, run_folders=["out/j_V1", "other/j_V2"])
    digests = {kind: blob(store, kind) for kind in KINDS}
    for kind, digest in digests.items():
        refer(store, "j", kind, digest)
    for path in ("out/j_V1/a/b", "other/j_V2/c", "out/keep"):
        store.files.write_bytes("default", path, b"x")
    partial = store.blobs.staging_folder / "update-j-update"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(b"half an update")
    uid = row(store).uid
    purge.purge_job(store, uid)
    purge.purge_job(store, uid)
    assert counts(store) == [0] * len(TABLES)
    assert [kind for kind, digest in digests.items() if store.blobs.exists(digest)] == []
    assert store.files.list_files("default", "out") == ["keep"]
    assert store.files.list_files("default", "other") == []
    assert not partial.exists()


@pytest.mark.parametrize(
    ("mine", "others"), [*zip(KINDS, KINDS, strict=True), *zip(KINDS, KINDS[1:] + KINDS[:1], strict=True)]
)
def test_a_blob_that_another_job_refers_to_stays(store: Store, mine: str, others: str) -> None:
    shared = blob(store, "shared")
    for job_id, kind in (("j", mine), ("k", others)):
        make(store, JobState.DELETING, job_id)
        refer(store, job_id, kind, shared)
    purge.purge_job(store, row(store, "j").uid)
    assert store.blobs.exists(shared)
    assert row(store, "k") is not None
    purge.purge_job(store, row(store, "k").uid)
    assert not store.blobs.exists(shared)


def test_a_digest_that_was_swept_away_is_no_blob(store: Store) -> None:
    make(store, JobState.DELETING)
    refer(store, "j", "weights", "")
    kept = blob(store, "kept")
    refer(store, "j", "new_weights", kept)
    purge.purge_job(store, row(store).uid)
    assert not store.blobs.exists(kept)


def test_a_purge_that_broke_off_is_finished_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, JobState.DELETING, run_folders=["out/j_V1"])
    digest = blob(store, "weights")
    refer(store, "j", "weights", digest)
    store.files.write_bytes("default", "out/j_V1/a", b"x")

    def broken(namespace: str, path: str) -> None:
        raise OSError("disk trouble")

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "delete_tree", broken)
        with pytest.raises(OSError, match="disk trouble"):
            purge.purge_job(store, row(store).uid)
    assert row(store) is not None, "rows go last, so that the next one knows what is left"
    purge.purge_job(store, row(store).uid)
    assert row(store) is None
    assert not store.blobs.exists(digest)
