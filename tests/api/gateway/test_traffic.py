"""The gateway of a real API process before real model servers: where requests go, and who may ask."""

from __future__ import annotations

import http.client
import json
from contextlib import ExitStack
from pathlib import Path

from catchment.access import create_token
from catchment.serving.figures import Figures
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from tests.api.gateway.calls import (
    BASE,
    INFER,
    ONE,
    ask,
    negation,
    send_raw,
    tensor,
    under_load,
)
from tests.api.serving import ApiProcess, api_process
from tests.api.serving_rows import add_endpoint, add_serving, add_workload, drop_endpoints, figures, route
from tests.conftest import free_port, wait_until
from tests.model_servers import ModelServer, identity, serving


def test_the_protocol_works_through_the_gateway(running: ApiProcess, uid: str, store: Store) -> None:
    for base in (BASE, BASE.replace("serving", "seldon")):
        status, reply, headers = ask(running, "POST", f"{base}/models/m/infer", ONE)
        assert status == 200
        assert reply["outputs"][0]["data"] == [1.0, 2.0]
        assert headers["catchment-workload"] == "m-default-r1"
        for path in ("", "/", "/health/live", "/health/ready", "/models/m", "/models/m/ready"):
            assert ask(running, "GET", base + path)[0] == 200
        assert ask(running, "HEAD", f"{base}/health/ready")[1] == b""
    by_graph = ask(running, "POST", f"{BASE}/models/classifier/versions/1/infer", ONE)
    assert (by_graph[0], by_graph[1]["model_name"]) == (200, "m")

    def counted() -> bool:
        return (found := figures(store, uid).get("m-default-r1")) is not None and found.requests == 3

    wait_until(counted, timeout_s=10, what="the figures of all three requests")
    seen = figures(store, uid)["m-default-r1"]
    assert seen.errors == 0
    assert 0 < seen.p50_s < 1


def test_what_the_protocol_has_not_for_inference_stays_outside(running: ApiProcess, uid: str) -> None:
    assert ask(running, "POST", f"{BASE}/repository/models/m/unload", b"{}")[0] == 404
    assert ask(running, "GET", f"{BASE}/models/other")[0] == 404
    assert ask(running, "GET", "/serving/default/m/metrics")[0] == 404
    assert ask(running, "GET", "/serving/other/m/v2")[0] == 404
    status, reply, headers = ask(running, "GET", INFER)
    assert (status, headers["allow"]) == (405, "POST")
    assert reply == {"error": "method: GET is not possible here, only POST"}
    status, reply, _ = ask(running, "POST", "/serving/default/nobody/v2/models/nobody/infer", ONE)
    assert (status, reply) == (404, {"error": "there is no serving 'nobody' in namespace 'default'"})
    # Errors of the model server come through as they are.
    status, reply, _ = ask(running, "POST", INFER, b'{"inputs": 1}')
    assert (status, reply) == (400, {"error": "inputs: must be a list"})


def test_a_serving_that_cannot_answer_says_why_and_when_to_come_back(
    running: ApiProcess, store: Store
) -> None:
    uid = add_serving(store, "m", {}, state="Creating", message="waits for approval")
    status, reply, headers = ask(running, "POST", INFER, ONE)
    assert (status, headers["retry-after"]) == (503, "1")
    assert reply == {"error": "serving default/m takes no traffic: it is Creating; waits for approval"}
    route(store, uid, {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", 1, state="starting", message="loads its model")
    wait_until(
        lambda: "m-default-r1: starting loads its model" in ask(running, "POST", INFER, ONE)[1]["error"],
        timeout_s=10,
        what="the gateway to hear of it",
    )


def test_traffic_is_split_by_weight_and_follows_changes(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 80, "m-default-r2": 20})
        for revision, server in ((1, model), (2, other)):
            add_workload(store, uid, f"m-default-r{revision}", revision=revision)
            add_endpoint(store, uid, f"m-default-r{revision}", server.http)
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)

        def answered_by(count: int) -> list[str]:
            found = []
            for _ in range(count):
                connection.request("POST", INFER, ONE)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                found.append(str(answer.headers["catchment-workload"]))
            return found

        wait_until(lambda: "m-default-r2" in answered_by(10), timeout_s=20, what="both versions to answer")
        canary = answered_by(1000).count("m-default-r2")
        assert 135 <= canary <= 265  # five standard deviations of 1000 draws
        route(store, uid, {"m-default-r2": 100})
        wait_until(
            lambda: set(answered_by(20)) == {"m-default-r2"}, timeout_s=10, what="the traffic to be shifted"
        )
        connection.close()

        def compared() -> bool:
            seen = figures(store, uid).get("m-default-r2")
            return seen is not None and seen.compared > 50 and seen.disagreed == 0

        wait_until(compared, timeout_s=10, what="versions to be compared")
        wait_until(
            lambda: sum(each.requests for each in figures(store, uid).values()) >= 1030,
            timeout_s=10,
            what="the figures of all requests",
        )


def test_versions_that_answer_otherwise_are_counted(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(negation(tmp_path / "other"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100}, rolling=2)  # the canary takes no traffic yet
        for revision, server in ((1, model), (2, other)):
            add_workload(store, uid, f"m-default-r{revision}", revision=revision)
            add_endpoint(store, uid, f"m-default-r{revision}", server.http)
        both = json.dumps({**tensor([[1.0, 2.0]]), "parameters": {"binary_data_output": True}}).encode()

        def disagreed() -> bool:
            for body in (ONE, both):
                status, _, headers = ask(running, "POST", INFER, body)
                assert (status, headers["catchment-workload"]) == (200, "m-default-r1")
            seen = figures(store, uid).get("m-default-r2")
            return seen is not None and seen.disagreed >= 3 and seen.disagreed == seen.compared

        wait_until(disagreed, timeout_s=30, what="the versions' disagreement")
        assert figures(store, uid)["m-default-r2"].requests == 0


def test_killed_servers_lose_no_request_while_there_is_another(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100})
        for replica, server in enumerate((model, other)):
            add_endpoint(store, uid, "m-default-r1", server.http, replica=replica)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        with under_load(running) as seen:
            wait_until(lambda: len(seen) > 500, timeout_s=60, what="some answers")
            model.process.kill()
            count = len(seen)
            wait_until(lambda: len(seen) > count + 500, timeout_s=60, what="more answers")
        assert set(seen) == {200}


def test_a_switch_of_versions_under_load_fails_no_request(
    running: ApiProcess, store: Store, model: ModelServer, tmp_path: Path
) -> None:
    with serving(identity(tmp_path / "other", "FP32"), tmp_path / "other.log") as other:
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", model.http)
        add_endpoint(store, uid, "m-default-r2", other.http)
        wait_until(lambda: ask(running, "GET", BASE)[0] == 200, timeout_s=10, what="the serving")
        with under_load(running) as seen:
            wait_until(lambda: len(seen) > 300, timeout_s=60, what="some answers")
            # Worse than any rollout does it: the server is told to stop before anybody was told so.
            model.process.terminate()
            route(store, uid, {"m-default-r2": 100})
            count = len(seen)
            wait_until(lambda: len(seen) > count + 500, timeout_s=60, what="more answers")
            assert model.process.wait(20) == 0
            drop_endpoints(store, uid, "m-default-r1")
        assert set(seen) == {200}
        found = wait_until(lambda: figures(store, uid).get("m-default-r2"), timeout_s=10, what="figures")
        assert isinstance(found, Figures)
        assert found.errors == 0


def test_a_model_that_ends_its_server_costs_one_answer_and_an_error(
    running: ApiProcess, store: Store, model: ModelServer
) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    wait_until(lambda: ask(running, "POST", INFER, ONE)[0] == 200, timeout_s=10, what="the serving")
    model.process.kill()
    model.process.wait(10)
    status, reply, headers = ask(running, "POST", INFER, ONE)
    assert (status, headers["retry-after"]) == (503, "1")
    assert reply == {"error": "no model server of serving default/m answers just now"}


def test_who_may_ask_is_who_may_use_the_api(home: Path, store: Store, model: ModelServer) -> None:
    uid = add_serving(store, "m", {"m-default-r1": 100})
    add_endpoint(store, uid, "m-default-r1", model.http)
    admin, site = create_token(store, "admin"), create_token(store, "site", site="hospital-1")
    user = create_token(store, "user")
    with api_process(home, free_port(), CATCHMENT_AUTH="tokens") as running:
        for token, expected in ((admin, 200), (user, 200), (site, 403), ("catchment_0_x", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            assert ask(running, "POST", INFER, ONE, headers)[0] == expected
        status, reply, headers_back = ask(running, "POST", INFER, ONE)
        assert (status, headers_back["www-authenticate"]) == (401, "Bearer")
        assert "bearer token is required" in reply["error"]


def test_without_a_login_only_this_machines_names_count(running: ApiProcess, uid: str) -> None:
    assert ask(running, "POST", INFER, ONE, {"Origin": "http://localhost:3000"})[0] == 200
    assert ask(running, "POST", INFER, ONE, {"Origin": "http://evil.example"})[0] == 403
    raw = send_raw(running, b"GET /serving/default/m/v2 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 403")


def test_servings_go_on_without_the_store(home: Path, model: ModelServer, tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        settings = Settings(home=home, database_url=server.create_database("catchment"))
        migrate(settings)
        store = open_store(settings)
        uid = add_serving(store, "m", {"m-default-r1": 100})
        add_endpoint(store, uid, "m-default-r1", model.http)
        store.close()
        port, url = free_port(), str(settings.database_url)
        with ExitStack() as ends:
            running = ends.enter_context(api_process(home, port, CATCHMENT_DATABASE_URL=url))
            wait_until(lambda: ask(running, "POST", INFER, ONE)[0] == 200, timeout_s=10, what="the serving")
            api = ends.pop_all()
    with api:
        for _ in range(3):
            assert ask(running, "POST", INFER, ONE)[0] == 200
