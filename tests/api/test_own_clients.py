"""Catchment's own clients understand this API: the REST client, and a site's half of the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catchment.client import Client
from catchment.errors import NotFound, OffsetMismatch, Refused
from catchment.settings import Settings
from catchment.site.exchange import Exchange, NotRegisteredError
from catchment.site.http import Endpoint
from catchment.store import open_store
from catchment.wire.messages import Blob, PollRequest, Registration, WorkResult
from tests.api.orders import REGISTRATION, digest_of, offer_work
from tests.api.serving import api_process
from tests.conftest import free_port, wait_until

WEIGHTS = bytes(range(256)) * 8192
UPDATE = bytes(reversed(range(256))) * 8192


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    with api_process(home, free_port()) as running:
        yield running.url


def test_the_rest_client_and_the_api_agree(url: str, job: Callable[..., dict[str, Any]]) -> None:
    with Client(url) as client:
        assert client.healthy()
        assert not client.ready(), "there is no Prefect"
        assert client.version().version
        client.create_namespace("trials")
        assert [each.name for each in client.list_namespaces()] == ["default", "trials"]
        client.delete_namespace("trials")
        client.create_job("default", job(), start=True)
        assert client.get_job("default", "digits").document["status"]["state"] == "STARTING"
        with pytest.raises(Refused, match="STARTING"):
            client.update_job("default", "digits", job())
        client.stop_job("default", "digits")
        assert [each.id for each in client.all_jobs("default")] == ["digits"]
        assert client.rounds("default", "digits") == []
        client.delete_job("default", "digits")
        with pytest.raises(NotFound):
            client.start_job("default", "nothing")
        with pytest.raises(NotFound):
            client.create_job("nowhere", job())
        assert client.list_sites() == []


def test_the_rest_client_and_the_api_agree_on_model_jobs(url: str) -> None:
    document = b"metadata: {name: reads}\nspec: {model: 'default/net:v1', extraction: {format: ONNX}}"
    with Client(url) as client:
        jobs = client.model_jobs
        assert jobs.create(document) == "reads"
        with pytest.raises(Refused, match="exists already"):
            jobs.create(document)
        spec = {"model": "default/net:v1", "extraction": {}}
        named = jobs.create({"metadata": {"generateName": "many-"}, "spec": spec})
        assert named.startswith("many-")
        assert [each.name for each in jobs.list()] == [named, "reads"]
        assert [each.name for each in jobs.list(label="extract", offset=1, limit=1)] == ["reads"]
        assert jobs.list(label="convert") == []
        found = jobs.wait("reads", timeout_s=0)
        assert (found.phase, found.kind, found.ended) == ("Pending", "extraction", False)
        assert jobs.events("reads")[0]["reason"] == "Pending"
        assert jobs.logs("reads") == ()
        assert {each["name"] for each in jobs.backends()} > {"base", "mmdnn"}
        jobs.delete("reads")
        wait_until(lambda: "reads" not in [each.name for each in jobs.list()], timeout_s=20, what="the end")
        with pytest.raises(NotFound):
            jobs.get("nothing")


def test_the_sites_half_of_the_exchange_and_the_api_agree(url: str, home: Path) -> None:
    with Exchange(Endpoint(url), "site-1") as exchange:
        request = PollRequest(session="session-1", free=1, wait_s=0)
        with pytest.raises(NotFound, match="410"):
            exchange.poll(request)
        assert exchange.register(Registration.model_validate(REGISTRATION)).lease_s > 0
        store = open_store(Settings(home=home))
        try:
            digest = offer_work(store, "site-1", "w1", WEIGHTS)
        finally:
            store.close()
        (work,) = exchange.poll(request).work
        assert work.weights == Blob(digest=digest, size_bytes=len(WEIGHTS))
        assert b"".join(bytes(piece) for piece in exchange.read_blob(work.weights, 0)) == WEIGHTS
        assert b"".join(bytes(piece) for piece in exchange.read_blob(work.weights, 1000)) == WEIGHTS[1000:]
        update = Blob(digest=digest_of(UPDATE), size_bytes=len(UPDATE))
        assert exchange.upload_offset("w1", "update") == 0
        assert exchange.put_chunk("w1", "update", update, UPDATE[:70_000], 0) == 70_000
        with pytest.raises(OffsetMismatch) as mismatch:
            exchange.put_chunk("w1", "update", update, UPDATE, 0)
        assert mismatch.value.offset == 70_000
        assert exchange.put_chunk("w1", "update", update, UPDATE[70_000:], 70_000) == len(UPDATE)
        assert exchange.send_result("w1", WorkResult(status="done", update=update)).accepted
        with pytest.raises(NotRegisteredError, match="another session"):
            exchange.leave("an-older-session", 10)
        assert not exchange.poll(request.model_copy(update={"wait_s": 0.0})).work
        exchange.leave(request.session, 10)
        with pytest.raises(NotRegisteredError):
            exchange.poll(request)
