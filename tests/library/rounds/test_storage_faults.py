"""Storage that fails under a round: a clear reason, nothing half written, and the round can go on."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.errors import BadTensors, TransferError
from catchment.jobs import lifecycle, purge
from catchment.rounds import collect, commit, journal, prepare, select
from catchment.rounds.claim import Claim, claim_job
from catchment.store import Store
from tests.conftest import wait_until
from tests.thread_sites import job


@pytest.fixture(params=["sqlite"])
def database_url(tmp_path: Path) -> str:
    """One database is enough: the faults are those of the blobs."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def published(store: Store, threshold: int = 2) -> Claim:
    """A job whose first round is open."""
    hyper = {"max_round_num": 2, "threshold_client_num": threshold, "client_num": 2}
    lifecycle.create_job(store, "default", job(hyper_parameters=hyper))
    claim = claim_job(store, "default", "j", flow_run_id="run", attempt=1)
    prepare.prepare_run(store, claim)
    select.select_cohort(store, claim, 1)
    select.publish_work(store, claim, 1)
    return claim


def delivered(store: Store, claim: Claim) -> list[str]:
    """Digests of the updates once both sites have delivered."""

    def both() -> list[str]:
        found = store.db.read(lambda tx: journal.works_of(tx, claim, 1, 0, "train"))
        return [work.update for work in found] if all(work.state == "delivered" for work in found) else []

    return wait_until(both, timeout_s=20, what="both updates")  # type: ignore[return-value]


@contextlib.contextmanager
def small_files_only(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def staged(store: Store) -> list[Path]:
    return [path for path in store.blobs.staging_folder.rglob("*") if path.is_file()]


def test_a_full_disk_leaves_the_round_open_and_nothing_half_written(store, make_site):
    sites = [make_site("a"), make_site("b")]
    claim = published(store)
    assert collect.collect_updates(store, claim, 1).enough
    for site in sites:
        site.die()  # the limit is the whole process's: nobody else may write meanwhile
    with small_files_only(16), pytest.raises(OSError, match="File too large"):
        commit.aggregate_and_commit(store, claim, 1)
    assert staged(store) == []
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "open"
    assert commit.aggregate_and_commit(store, claim, 1).startswith("sha256:")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "not in the store"),
        (lambda path: _rewrite(path, path.read_bytes()[:40]), ""),
        (lambda path: _rewrite(path, b""), ""),
    ],
    ids=["missing", "truncated", "empty"],
)
def test_a_damaged_update_is_rejected_with_a_reason_and_the_others_count(store, make_site, damage, reason):
    make_site("a")
    make_site("b", train=_another)
    claim = published(store, threshold=1)
    digests = delivered(store, claim)
    damage(store.blobs.local_path(digests[1]))
    collected = collect.collect_updates(store, claim, 1)
    assert (collected.admitted, collected.enough) == (1, True)
    outcome = lifecycle.job_rounds(store, "default", "j")[0]["sites"][1]
    assert outcome["outcome"] == "rejected"
    assert reason in outcome["reason"]
    assert outcome["reason"]


def _another(order, weights):
    """An update with bytes of its own: equal updates are one blob."""
    return {"w": weights["w"] + 2, "steps": weights["steps"]}, {"sample_num": 3}


def _rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_new_weights_that_another_job_has_just_removed_are_made_again(store, make_site, monkeypatch):
    """Equal bytes are one blob: a job that ran the same before may drop it before this one has committed."""

    def other_step(order, weights):
        return {**weights, "w": weights["w"] + 3}, {"sample_num": 10}

    make_site("a")
    make_site("b", other_step)
    claim = published(store)
    assert collect.collect_updates(store, claim, 1).enough
    aggregate = commit.aggregate_round

    def removed(*arguments):
        made = aggregate(*arguments)
        purge.delete_unreferenced(store, {made.weights})
        return made

    with monkeypatch.context() as patch:
        patch.setattr(commit, "aggregate_round", removed)
        with pytest.raises(TransferError, match="made again"):
            commit.aggregate_and_commit(store, claim, 1)
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "open"
    assert store.blobs.exists(commit.aggregate_and_commit(store, claim, 1))


def test_damaged_global_weights_are_named_and_the_round_is_not_committed(store, make_site):
    make_site("a")
    make_site("b")
    claim = published(store)
    assert collect.collect_updates(store, claim, 1).enough
    attempt = store.db.read(lambda tx: journal.latest_attempt(tx, claim, 1))
    _rewrite(store.blobs.local_path(attempt.weights), b"nothing of the kind")
    with pytest.raises(BadTensors):
        commit.aggregate_and_commit(store, claim, 1)
    assert staged(store) == []
    assert lifecycle.job_rounds(store, "default", "j")[0]["state"] == "open"
