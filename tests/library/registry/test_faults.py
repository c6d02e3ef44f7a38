"""Registries that are down, slow, full, lie, or break off: gone on with, or failed with a clear sentence."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import os
import random
import time
from collections.abc import Iterator

import pytest

from catchment.errors import (
    CatchmentError,
    DigestMismatch,
    Forbidden,
    InvalidField,
    NotFound,
    RateLimited,
    Refused,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.registry.artifacts import OCI_MANIFEST, digest_of
from catchment.registry.backend import Chunk, bytes_source
from catchment.registry.credentials import Credentials
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.patience import Patience, Trials, retry_after_s
from catchment.registry.session import Session
from tests.conftest import free_port
from tests.faulty_registry import Fault, FaultyRegistry, faulty_registry
from tests.library.registry.conftest import IMPATIENT
from tests.library.registry.making import put_artifact, put_blob, read_blob

REPOSITORY = "project/model"
DATA = random.Random(5).randbytes(3 * 2**20 + 11)
DIGEST = digest_of(DATA)
BLOB = r"/blobs/sha256"
UPLOAD = r"/blobs/uploads/[0-9a-f]"


def push(client: DistributionRegistry) -> list[int]:
    """Push DATA; what the progress was told."""
    told: list[int] = []
    client.write_blob(REPOSITORY, DIGEST, len(DATA), bytes_source(DATA), progress=told.append)
    return told


def test_a_registry_that_is_down_is_told_after_some_tries() -> None:
    slept: list[float] = []
    patience = Patience(attempts=3, low_s=1, high_s=8, jitter=random.Random(1), sleep=slept.append)
    client = DistributionRegistry(Session(f"127.0.0.1:{free_port()}", patience=patience))
    with pytest.raises(Unreachable, match="nobody listens there"):
        client.tags(REPOSITORY)
    assert len(slept) == 2
    assert 0.5 <= slept[0] <= 1 <= slept[1] <= 2


def test_an_unknown_host_is_told_at_once() -> None:
    client = DistributionRegistry(Session("no-such-host.invalid"))
    with pytest.raises(Unreachable, match="no-such-host"):
        client.tags(REPOSITORY)


def test_a_slow_registry_is_given_up(faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("GET", "/tags/", times=9, hang=True)]
    patience = Patience(attempts=2, low_s=0.01)
    client = DistributionRegistry(Session(faulty.host, timeout_s=0.2, patience=patience))
    began = time.monotonic()
    with pytest.raises(Unreachable, match="does not answer in time"):
        client.tags(REPOSITORY)
    assert time.monotonic() - began < 10
    client.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Unauthorized), (403, Forbidden), (404, NotFound), (405, Refused), (507, Unreachable)],
)
def test_refusals_are_not_tried_again(
    client: DistributionRegistry, faulty: FaultyRegistry, status: int, error: type[CatchmentError]
) -> None:
    body = b'{"errors":[{"code":"SAID","message":"not today"}]}'
    faulty.faults = [Fault("GET", "/manifests/v1", status=status, body=body)]
    with pytest.raises(error, match=r"not today \(SAID\)"):
        client.get_manifest(REPOSITORY, "v1")
    assert len(faulty.asked("GET", "/manifests/")) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_faults_that_pass_are_waited_for(
    client: DistributionRegistry, faulty: FaultyRegistry, status: int
) -> None:
    stored = put_artifact(client, REPOSITORY)
    faulty.faults = [
        Fault("GET", "/manifests/v1", times=2, status=status),
        Fault("POST", "/uploads/", status=status),
        Fault("PUT", UPLOAD, status=status),
    ]
    assert client.get_manifest(REPOSITORY, "v1").digest == stored.digest
    push(client)
    assert faulty.blobs[DIGEST] == DATA


def test_a_registry_that_stays_ill_is_given_up(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("PUT", UPLOAD, times=99, status=500)]
    with pytest.raises(Unreachable, match="pushing blob"):
        push(client)
    assert len(faulty.asked("PUT")) == IMPATIENT.attempts
    assert DIGEST not in faulty.blobs


def test_retry_after_is_kept_to(faulty: FaultyRegistry) -> None:
    slept: list[float] = []
    client = DistributionRegistry(Session(faulty.host, patience=Patience(low_s=0.01, sleep=slept.append)))
    faulty.manifests[REPOSITORY, "v1"] = (b'{"config":', OCI_MANIFEST)
    faulty.faults = [Fault("GET", "/manifests/", status=429, headers={"Retry-After": "17"})]
    assert client.get_manifest(REPOSITORY, "v1").data == b'{"config":'
    assert slept == [17]
    client.close()


def test_a_retry_after_beyond_the_deadline_is_told_at_once(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.faults = [Fault("GET", "/manifests/", times=9, status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(RateLimited, match="try again in 3600 s") as caught:
        client.get_manifest(REPOSITORY, "v1")
    assert caught.value.retry_after_s == 3600
    assert len(faulty.asked("GET")) == 1


def test_retry_after_is_a_number_or_a_date() -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    assert retry_after_s(" 5") == 5
    assert 90 < (retry_after_s(email.utils.format_datetime(soon, usegmt=True)) or 0) <= 100
    assert retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert retry_after_s("soon") is retry_after_s("") is None


def test_progress_makes_patience_anew() -> None:
    trials = Trials(Patience(attempts=2, low_s=0, sleep=lambda _: None))
    for _ in range(5):
        trials.failed(Unreachable("x"))
        trials.progressed()
    trials.failed(Unreachable("x"))
    with pytest.raises(Unreachable):
        trials.failed(Unreachable("x"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_pull_goes_on_where_the_connection_broke(
    client: DistributionRegistry, faulty: FaultyRegistry, ranges: bool
) -> None:
    faulty.blobs[DIGEST], faulty.ranges = DATA, ranges
    faulty.faults = [Fault("GET", BLOB, cut_answer=2**20 + 5), Fault("GET", BLOB, cut_answer=2**20 + 9)]
    assert read_blob(client, REPOSITORY, DIGEST) == DATA
    asked = [headers.get("Range") for headers in faulty.asked("GET", "/blobs/")]
    assert asked[:2] == [None, f"bytes={2**20 + 5}-"]
    assert len(asked) == 3


def test_a_pull_without_any_progress_is_given_up(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.blobs[DIGEST] = DATA
    faulty.faults = [Fault("GET", BLOB, times=99, cut_answer=0)]
    with pytest.raises(Unreachable, match="the connection broke"):
        read_blob(client, REPOSITORY, DIGEST)


def test_an_answer_from_another_offset_is_refused(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.blobs[DIGEST] = DATA
    faulty.faults = [Fault("GET", BLOB, more={"Content-Range": f"bytes 0-9/{len(DATA)}"})]
    with pytest.raises(TransferError, match="bytes from 10 were asked for"):
        read_blob(client, REPOSITORY, DIGEST, 10)


def test_a_damaged_blob_is_noticed(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.blobs[DIGEST] = DATA
    faulty.faults = [Fault("GET", BLOB, damage=True)]
    with pytest.raises(DigestMismatch):
        read_blob(client, REPOSITORY, DIGEST)


def test_a_damaged_manifest_is_noticed(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    stored = put_artifact(client, REPOSITORY)
    for reference in ("v1", stored.digest):
        faulty.faults = [Fault("GET", "/manifests/", damage=True)]
        with pytest.raises(DigestMismatch):
            client.get_manifest(REPOSITORY, reference)


def test_a_registry_that_computes_another_digest_is_not_believed(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.faults = [Fault("PUT", "/manifests/", more={"Docker-Content-Digest": "sha256:" + "0" * 64})]
    with pytest.raises(DigestMismatch):
        put_artifact(client, REPOSITORY)


@pytest.mark.parametrize("type_sent", [OCI_MANIFEST, "application/json", None])
def test_a_registry_may_leave_digests_and_types_out(
    client: DistributionRegistry, faulty: FaultyRegistry, type_sent: str | None
) -> None:
    more = {"Docker-Content-Digest": None, "Content-Type": type_sent}
    faulty.faults = [Fault(method, "", times=99, more=more) for method in ("PUT", "HEAD", "GET")]
    stored = put_artifact(client, REPOSITORY)
    assert client.resolve(REPOSITORY, "v1") == stored
    assert client.get_manifest(REPOSITORY, "v1").media_type == OCI_MANIFEST


@pytest.mark.parametrize("cut", [0, 2**20 + 3, len(DATA) - 1])
def test_a_push_goes_on_with_what_is_missing(
    client: DistributionRegistry, faulty: FaultyRegistry, cut: int
) -> None:
    faulty.faults = [Fault("PUT", UPLOAD, cut_request=cut)]
    told = push(client)
    assert faulty.blobs[DIGEST] == DATA
    assert faulty.received == len(DATA)
    assert told[-1] == len(DATA)


def test_a_push_begins_anew_where_the_registry_has_forgotten_it(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.resumes = False
    faulty.faults = [Fault("PUT", UPLOAD, cut_request=2**20)]
    push(client)
    assert faulty.blobs[DIGEST] == DATA
    assert faulty.received == len(DATA) + 2**20
    assert len(faulty.asked("POST")) == 2


def test_a_push_whose_answer_was_lost_is_done(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("PUT", UPLOAD, lose_answer=True)]
    push(client)
    assert faulty.received == len(DATA)


def test_a_push_that_breaks_again_and_again_is_given_up(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.resumes = False
    faulty.faults = [Fault("PUT", UPLOAD, times=99, cut_request=5)]
    with pytest.raises(Unreachable):
        push(client)
    assert DIGEST not in faulty.blobs


def test_a_source_that_fails_is_not_tried_again(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    @contextlib.contextmanager
    def opened(_offset: int) -> Iterator[Iterator[Chunk]]:
        def chunks() -> Iterator[Chunk]:
            yield DATA[:1000]
            raise OSError("the disk is broken")

        yield chunks()

    with pytest.raises(TransferError, match="the disk is broken"):
        client.write_blob(REPOSITORY, DIGEST, len(DATA), opened)
    assert len(faulty.asked("POST")) == 1
    assert DIGEST not in faulty.blobs


def test_a_registry_that_refuses_early_is_heard(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    body = b'{"errors":[{"code":"SIZE_INVALID","message":"too large"}]}'
    faulty.faults = [Fault("PUT", UPLOAD, status=413, body=body)]
    with pytest.raises(Refused, match="too large"):
        push(client)


def test_a_location_may_be_absolute(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.uploads["mine"] = b""
    location = f"http://{faulty.host}/v2/{REPOSITORY}/blobs/uploads/mine"
    faulty.faults = [Fault("POST", "/uploads/", status=202, headers={"Location": location})]
    push(client)
    assert faulty.blobs[DIGEST] == DATA
    assert faulty.asked("PUT", "/uploads/mine?digest=")


def test_a_kept_connection_that_the_server_closed_is_replaced(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    stored = put_artifact(client, REPOSITORY)
    faulty.faults = [Fault("GET", "/manifests/", lose_answer=True)]
    assert client.get_manifest(REPOSITORY, "v1").digest == stored.digest


def test_a_redirect_is_followed_without_showing_the_login(faulty: FaultyRegistry) -> None:
    login = Credentials("user", "hidden-password")
    with faulty_registry() as elsewhere:
        elsewhere.blobs[DIGEST] = DATA
        client = DistributionRegistry(Session(faulty.host, login, patience=IMPATIENT))
        target = f"http://{elsewhere.host}/v2/x/y/blobs/{DIGEST}?X-Signature=abc"
        faulty.faults = [
            Fault("GET", BLOB, status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
            Fault("GET", BLOB, times=9, status=307, headers={"Location": target}),
        ]
        elsewhere.faults = [Fault("GET", BLOB, cut_answer=2**20)]
        assert read_blob(client, REPOSITORY, DIGEST) == DATA
        assert all("Authorization" in headers for headers in faulty.asked("GET", "/blobs/")[1:])
        assert len(elsewhere.requests) == 2
        assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)
        client.close()


def test_redirects_have_an_end(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [
        Fault("GET", BLOB, times=99, status=307, headers={"Location": f"/v2/a/b/blobs/{DIGEST}"})
    ]
    with pytest.raises(Unreachable, match="without an end"):
        read_blob(client, REPOSITORY, DIGEST)


def test_no_error_shows_a_secret(faulty: FaultyRegistry) -> None:
    login = Credentials("user", "hidden-password")
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    echo = f"you sent hidden-password and {login.basic()}".encode()
    for status in (401, 403, 400, 503):
        client = DistributionRegistry(Session(faulty.host, login, patience=IMPATIENT))
        faulty.faults = [
            Fault("GET", "/tags/", status=401, headers=challenge),
            Fault("GET", "/tags/", times=9, status=status, headers=challenge, body=echo),
        ]
        with pytest.raises(CatchmentError) as caught:
            client.tags(REPOSITORY)
        assert "you sent ***" in str(caught.value)
        assert "hidden" not in repr(caught.value) + repr(client.session.credentials)
        assert login.basic().split()[1] not in str(caught.value)
        client.close()


def test_plain_http_to_another_machine_is_refused() -> None:
    session = Session("registry.example.org:5000")
    with pytest.raises(Refused, match="without TLS"):
        session.transport.send("GET", "http://registry.example.org:5000/v2/", {})


def test_lists_come_page_by_page(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    def page(tags: str, link: str) -> dict[str, object]:
        return {
            "status": 200,
            "body": f'{{"tags":{tags}}}'.encode(),
            "headers": {"Link": link} if link else {},
        }

    faulty.faults = [
        Fault("GET", "last=b", **page('["c"]', "")),  # type: ignore[arg-type]
        Fault("GET", "/tags/", **page('["b","a"]', '</v2/project/model/tags/list?last=b>; rel="next"')),  # type: ignore[arg-type]
    ]
    assert client.tags(REPOSITORY) == ["a", "b", "c"]
    faulty.faults = [Fault("GET", "/tags/", **page("null", ""))]  # type: ignore[arg-type]
    assert client.tags(REPOSITORY) == []


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"tags":7}', b"7"])
def test_a_server_that_is_no_registry_is_told(
    client: DistributionRegistry, faulty: FaultyRegistry, body: bytes
) -> None:
    faulty.faults = [Fault("GET", "/tags/", status=200, body=body)]
    with pytest.raises(Unreachable, match="not the JSON of a list"):
        client.tags(REPOSITORY)


def test_an_answer_without_an_end_is_cut_off(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    faulty.faults = [Fault("GET", "/manifests/", status=200, body=b"x" * (4 * 2**20 + 1))]
    with pytest.raises(TransferError, match="more than"):
        client.get_manifest(REPOSITORY, "v1")


def test_what_is_no_manifest_is_told_by_its_field(
    client: DistributionRegistry, faulty: FaultyRegistry
) -> None:
    faulty.faults = [Fault("GET", "/manifests/", status=200, body=b'{"config":{"size":-1}}')]
    with pytest.raises(InvalidField, match=r"manifest.config.size"):
        client.get_manifest(REPOSITORY, "v1")


def test_many_small_blobs_use_one_connection(client: DistributionRegistry, faulty: FaultyRegistry) -> None:
    for _ in range(3):
        put_blob(client, REPOSITORY, os.urandom(10))
    assert len(faulty.asked("PUT")) == 3
