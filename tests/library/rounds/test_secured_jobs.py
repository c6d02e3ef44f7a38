"""Jobs with `ssl`: which folders are taken, and which sites get their work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select as sql_select

from catchment.errors import InvalidField, RoundFailed
from catchment.exchange import sites
from catchment.jobs import lifecycle
from catchment.rounds import prepare, select
from catchment.rounds.claim import claim_job
from catchment.store import Store
from catchment.store.schema import works
from catchment.tls.authority import Authority
from catchment.wire.messages import PollRequest, Registration, SiteResources
from tests.certificates import DAY, Made, authority, sign
from tests.thread_sites import job

FOLDER = "secrets/tls"


@pytest.fixture
def tls(tmp_path: Path) -> Authority:
    return authority(tmp_path / "tls", "a", "b")


@pytest.fixture
def put(store: Store, tls: Authority) -> Callable[..., None]:
    """Fills the namespace's folder as it should be, but for what is given."""

    def fill(made: Made | None = None, trusted: bytes | None = None) -> None:
        made = made or sign(tls.ca, "coordinator")
        for name, content in (
            ("cert.pem", made.certificate),
            ("private.key", made.key),
            ("trusted.pem", tls.ca.certificate.read_bytes() if trusted is None else trusted),
        ):
            store.files.write_bytes("default", f"{FOLDER}/{name}", content)

    return fill


def register(store: Store, name: str, certificate: str | None) -> None:
    registration = Registration(
        session=f"session-{name}",
        address=f"10.0.0.1:{name}",
        runtimes=("pytorch",),
        entries=("train",),
        resources=SiteResources(cpu=8, memory_mb=8000),
    )
    sites.register(store, name, registration, certificate)


def begin(store: Store, **changes: Any) -> Any:
    body = job(ssl=FOLDER, **changes)
    lifecycle.create_job(store, "default", body)
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    lifecycle.launched(store, start.uid, "flow-run")
    return claim_job(store, "default", "j", flow_run_id="flow-run", attempt=1)


def test_only_sites_whose_certificate_the_job_trusts_are_selected(
    store: Store, tls: Authority, put: Callable[..., None], tmp_path: Path
) -> None:
    put()
    foreign = authority(tmp_path / "foreign", "c").site("c").certificate.read_text()
    claim = begin(store, hyper_parameters={"round_timeout": 1})
    prepare.prepare_run(store, claim)
    register(store, "a", tls.site("a").certificate.read_text())
    register(store, "b", None)
    register(store, "c", foreign)
    with pytest.raises(RoundFailed) as failed:
        select.select_cohort(store, claim, 1)
    assert "b is not connected with mutual TLS" in str(failed.value)
    assert "c has a certificate that the job's trusted.pem does not vouch for" in str(failed.value)
    register(store, "b", tls.site("b").certificate.read_text())
    assert select.select_cohort(store, claim, 1) == ["a", "b"]
    select.publish_work(store, claim, 1)
    flags = store.db.read(lambda tx: tx.execute(sql_select(works.c.secured)).scalars().all())
    assert list(flags) == [True, True]
    poll = PollRequest(session="session-a", free=1, wait_s=0)
    assert len(sites.answer_now(store, "a", poll, secured=True).work) == 1


def test_other_jobs_do_not_ask_for_certificates(store: Store, tls: Authority) -> None:
    register(store, "a", tls.site("a").certificate.read_text())
    register(store, "b", None)
    lifecycle.create_job(store, "default", job())
    start = lifecycle.request_start(store, "default", "j")
    assert start is not None
    claim = claim_job(store, "default", "j", flow_run_id="flow-run", attempt=1)
    prepare.prepare_run(store, claim)
    assert select.select_cohort(store, claim, 1) == ["a", "b"]


def test_a_folder_that_cannot_be_used_is_refused_when_the_job_is_submitted(
    store: Store, tls: Authority, put: Callable[..., None]
) -> None:
    def refused() -> str:
        with pytest.raises(InvalidField) as caught:
            lifecycle.create_job(store, "default", job(ssl=FOLDER))
        assert caught.value.field == "ssl"
        return caught.value.problem

    assert "there is no file 'cert.pem' in the folder" in refused()
    put(made=sign(tls.ca, "coordinator", lasts=-DAY / 2))
    assert "cert.pem: CN=coordinator expired" in refused()
    put(made=Made(sign(tls.ca, "one").certificate, sign(tls.ca, "two").key))
    assert "private.key is not the key of cert.pem" in refused()
    put(trusted=b"nothing")
    assert "trusted.pem holds no certificate" in refused()
    put(trusted=bytes(2 << 20))
    assert "more than" in refused()
    for path in ("/etc/ssl", "../other", "a/../../b"):
        with pytest.raises(InvalidField, match=r"ssl: .* must be a path relative"):
            lifecycle.create_job(store, "default", job(ssl=path))
    put()
    lifecycle.create_job(store, "default", job(ssl=FOLDER))


def test_a_folder_that_went_out_of_date_fails_the_start_with_a_reason(
    store: Store, tls: Authority, put: Callable[..., None]
) -> None:
    put()
    claim = begin(store)
    put(made=sign(tls.ca, "coordinator", lasts=-DAY / 2))
    with pytest.raises(InvalidField, match=r"ssl: cert\.pem: CN=coordinator expired"):
        prepare.prepare_run(store, claim)
