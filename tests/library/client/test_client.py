"""The client: the right requests, typed answers, and errors of our own tree with the server's reason."""

from __future__ import annotations

import socket
import threading

import pytest

from catchment.client import Client
from catchment.errors import CatchmentError, Forbidden, NotFound, Refused, Unauthorized, Unreachable
from tests.library.client.server import TableServer, job_document, round_document

OK = (200, {"state": "SUCCESSFUL"})
JOB = "/api/v1/namespaces/default/jobs/digits"


def test_a_job_is_created_with_its_document(server: TableServer, client: Client) -> None:
    server.answers["POST /api/v1/namespaces/team%20a/jobs?start=true"] = (201, {"state": "SUCCESSFUL"})
    client.create_job("team a", {"id": "digits"}, start=True)
    _, body, headers = server.asked[0]
    assert body == {"id": "digits"}
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda c: c.update_job("default", "digits", {"id": "digits"}), f"PUT {JOB}"),
        (lambda c: c.start_job("default", "digits"), f"PUT {JOB}:start"),
        (lambda c: c.stop_job("default", "digits"), f"PUT {JOB}:stop"),
        (lambda c: c.delete_job("default", "digits"), f"DELETE {JOB}"),
        (lambda c: c.create_namespace("lab"), "PUT /api/v1/namespaces/lab"),
        (lambda c: c.delete_namespace("lab"), "DELETE /api/v1/namespaces/lab"),
    ],
)
def test_each_operation_asks_for_its_path(server: TableServer, client: Client, call, line: str) -> None:
    server.answers[line] = OK
    call(client)
    assert server.lines() == [line]


def test_an_empty_answer_is_fine(server: TableServer, client: Client) -> None:
    server.answers["DELETE /api/v1/namespaces/lab"] = (204, b"")
    client.delete_namespace("lab")


def test_a_job_is_typed_and_its_checkpoints_are_in_order(server: TableServer, client: Client) -> None:
    server.answers[f"GET {JOB}"] = (200, job_document("FAILED", progress=40, reason="two sites are gone"))
    job = client.get_job("default", "digits")
    assert (job.state, job.reason, job.progress, job.run, job.ended) == (
        "FAILED",
        "two sites are gone",
        40,
        1,
        True,
    )
    assert [point.id for point in job.checkpoints] == ["checkpoint_v2", "checkpoint_v10"]
    assert job.checkpoints[1].accuracy is None


def test_rounds_are_typed(server: TableServer, client: Client) -> None:
    server.answers[f"GET {JOB}/rounds?run=3"] = (200, {"rounds": [round_document(2, evaluated=True)]})
    (one,) = client.rounds("default", "digits", run=3)
    assert (one.number, one.metrics["accuracy"], one.seconds) == (2, 0.9, 1.25)
    assert [(site.site, site.counted) for site in one.sites] == [("site-1", True), ("site-2", False)]


def test_lists_pass_their_filters(server: TableServer, client: Client) -> None:
    line = "GET /api/v1/namespaces/default/jobs?state=RUNNING&offset=5&limit=2"
    server.answers[line] = (200, {"jobs": [job_document()]})
    assert len(client.list_jobs("default", state="RUNNING", offset=5, limit=2)) == 1


def test_all_jobs_are_read_page_by_page(server: TableServer, client: Client) -> None:
    path = "GET /api/v1/namespaces/default/jobs?"
    server.answers[path + "limit=500"] = (200, {"jobs": [job_document()] * 500})
    server.answers[path + "offset=500&limit=500"] = (200, {"jobs": [job_document()] * 3})
    assert sum(1 for _ in client.all_jobs("default")) == 503


def test_sites_namespaces_and_version_are_typed(server: TableServer, client: Client) -> None:
    site = {
        "address": "127.0.0.1:1",
        "online": True,
        "last_seen": None,
        "working": 2,
        "runtimes": ["pytorch"],
    }
    sites = [{"name": "b", **site}, {"name": "a", **site}]
    server.answers["GET /api/v1/sites"] = (200, {"sites": sites})
    server.answers["GET /api/v1/namespaces"] = (
        200,
        {"namespaces": [{"name": "default", "create_time": "now"}]},
    )
    server.answers["GET /api/v1/version"] = (200, {"version": "1.2", "prefect_ui": "http://ui/"})
    assert [site.name for site in client.list_sites()] == ["a", "b"]
    assert client.list_namespaces()[0].name == "default"
    assert client.version().run_page("f-1") == "http://ui/runs/flow-run/f-1"
    assert client.version().run_page(None) == ""


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (403, {"state": "FAILED", "reason": "id: is required"}, Refused, "id: is required"),
        (409, {"detail": "it has jobs", "title": "Conflict"}, Refused, "it has jobs"),
        (403, {"detail": "not your site", "error": "Forbidden"}, Forbidden, "not your site"),
        (401, {"detail": "a bearer token is required"}, Unauthorized, "a bearer token is required"),
        (404, {"state": "FAILED", "reason": "no such job"}, NotFound, "no such job"),
        (503, {"detail": "the database does not answer"}, Unreachable, "the database does not answer"),
        (500, {"reason": "incident 1234"}, CatchmentError, "error of its own: incident 1234"),
        (502, b"<html>", Unreachable, "GET /api/v1/sites was answered with status 502"),
        (200, b"<html>", Unreachable, "without JSON"),
        (200, {"houses": []}, Unreachable, "no list of sites"),
        (200, {"sites": [{"name": "a"}]}, Unreachable, "is no site of a Catchment server"),
    ],
)
def test_errors_are_of_our_tree_and_say_why(
    server: TableServer, client: Client, status: int, body: object, kind: type[CatchmentError], reason: str
) -> None:
    server.answers["GET /api/v1/sites"] = (status, body)
    with pytest.raises(kind, match=reason) as raised:
        client.list_sites()
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "call", [lambda c: c.start_job("default", "x"), lambda c: c.update_job("default", "x", {})]
)
def test_the_documents_403_for_a_job_that_is_not_there_is_not_found(
    server: TableServer, client: Client, call
) -> None:
    refusal = (403, {"state": "FAILED", "reason": "there is no job x"})
    path = "/api/v1/namespaces/default/jobs/x"
    server.answers |= {f"PUT {path}": refusal, f"PUT {path}:start": refusal}
    with pytest.raises(NotFound, match="there is no job x"):
        call(client)
    server.answers[f"GET {path}"] = (200, job_document())
    with pytest.raises(Refused):
        call(client)


def test_creating_in_a_namespace_that_is_not_there_is_not_found(server: TableServer, client: Client) -> None:
    server.answers["POST /api/v1/namespaces/lab/jobs"] = (403, {"reason": "namespace lab does not exist"})
    with pytest.raises(NotFound, match="namespace lab does not exist"):
        client.create_job("lab", {})


def test_the_token_travels_in_its_header(server: TableServer) -> None:
    server.answers["GET /api/v1/sites"] = (200, {"sites": []})
    with Client(server.url, "catchment_a_b") as client:
        client.list_sites()
    assert server.asked[0][2]["Authorization"] == "Bearer catchment_a_b"


@pytest.mark.parametrize("token", ["with blank", "line\nbreak", "ümlaut"])
def test_a_token_that_is_none_is_refused_at_once(token: str) -> None:
    with pytest.raises(Unauthorized):
        Client("http://127.0.0.1:1", token)


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:port", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Refused, match="is no address of a server"):
        Client(address)


def test_nobody_there_is_unreachable_and_health_is_false() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{closed.getsockname()[1]}", timeout_s=2) as client:
            with pytest.raises(Unreachable, match="nobody listens there"):
                client.list_sites()
            assert not client.healthy()
            assert not client.ready()


def test_a_server_that_says_nothing_is_unreachable_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with client, pytest.raises(Unreachable, match=r"within 0\.2 s"):
            client.list_sites()


def test_a_server_that_hangs_up_is_unreachable() -> None:
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen()

        def hang_up() -> None:
            connection, _ = rude.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        client = Client(f"http://127.0.0.1:{rude.getsockname()[1]}", timeout_s=2)
        with client, pytest.raises(Unreachable, match="does not answer"):
            client.list_sites()
        thread.join()


def test_a_kept_connection_that_the_server_has_closed_is_opened_again(
    server: TableServer, client: Client
) -> None:
    server.answers["GET /api/v1/sites"] = (200, {"sites": []})
    server.close_each = True
    for _ in range(3):
        client.list_sites()
    assert len(server.asked) == 3


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_change_the_path_are_refused(client: Client, name: str) -> None:
    with pytest.raises(Refused, match="is no name"):
        client.get_job("default", name)


def test_a_base_path_is_kept(server: TableServer) -> None:
    server.answers["GET /fl/api/v1/sites"] = (200, {"sites": []})
    with Client(server.url + "/fl/") as client:
        assert client.list_sites() == []
