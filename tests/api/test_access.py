"""Who may call what: loopback without a login, or tokens with roles."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.access import KEEP_S, Tokens, is_loopback
from catchment.access import create_token, list_tokens, revoke_token
from catchment.errors import Unauthorized
from catchment.settings import Settings
from tests.api.serving import InProcess, RecordingLauncher, in_process

JOBS = "/api/v1/namespaces/default/jobs"


@pytest.fixture
def guarded(home: Path, launcher: RecordingLauncher) -> Iterator[InProcess]:
    """The API with tokens required."""
    with in_process(Settings(home=home, auth="tokens", supervise_s=3600), launcher) as opened:
        yield opened


@pytest.fixture
def token(guarded: InProcess) -> dict[str, str | None]:
    """Tokens by who holds them."""
    return {
        "nobody": None,
        "stranger": "catchment_0123456789abcdef_guess",
        "admin": create_token(guarded.store, "admin"),
        "user": create_token(guarded.store, "user"),
        "site": create_token(guarded.store, "site", site="hospital-1"),
    }


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback_names(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "127.0.0.1:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "localhost:80:80"}, 403),
        ({"Host": "192.168.0.7:8080"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://[::1]:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "file://localhost"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_rebinding_and_foreign_pages_are_refused(api: InProcess, headers: dict[str, str], code: int) -> None:
    for path in (JOBS, "/api/v1/health", "/readyz", "/api/v1/nothing", "/exchange/v1/sites/site-1/poll"):
        answer = api("GET", path, headers=headers)
        if code == 403:
            assert answer.status_code == 403
            assert "without a login" in answer.text
        else:
            assert answer.status_code in (200, 404, 405)


MODELS = "/api/v1/namespaces/default/models"
ALPHA = "/api/v1alpha1/namespaces/default"
MODEL_JOBS = f"{ALPHA}/modeljobs"
RETRAIN = "/api/v1/namespaces/default/retrain"
VERSION = "/api/v1alpha1/projects/default/models/net/versions/v1"
NEEDS = {
    # path: who may, everybody else gets 401 without a token and 403 with one
    ("GET", "/api/v1/health"): {"nobody", "stranger", "admin", "user", "site"},
    ("GET", "/readyz"): {"nobody", "stranger", "admin", "user", "site"},
    ("GET", "/metrics"): {"admin", "user"},
    ("GET", JOBS): {"admin", "user"},
    ("POST", JOBS): {"admin", "user"},
    ("GET", f"{JOBS}/digits"): {"admin", "user"},
    ("PUT", f"{JOBS}/digits"): {"admin", "user"},
    ("DELETE", f"{JOBS}/digits"): {"admin", "user"},
    ("PUT", f"{JOBS}/digits:start"): {"admin", "user"},
    ("PUT", f"{JOBS}/digits:stop"): {"admin", "user"},
    ("GET", f"{JOBS}/digits/rounds"): {"admin", "user"},
    ("GET", f"{JOBS}/digits/logs"): {"admin", "user"},
    ("GET", "/api/v1/namespaces"): {"admin", "user"},
    ("GET", "/api/v1/namespaces/default"): {"admin", "user"},
    ("PUT", "/api/v1/namespaces/other"): {"admin"},
    ("DELETE", "/api/v1/namespaces/other"): {"admin"},
    ("GET", "/api/v1/sites"): {"admin", "user"},
    ("GET", "/api/v1/version"): {"admin", "user"},
    **{
        (method, path): {"admin", "user"}
        for path, methods in {
            MODELS: ("GET", "POST"),
            f"{MODELS}/net": ("GET", "PUT", "DELETE"),
            "/api/v1/models": ("GET", "PUT", "DELETE"),
            "/api/v1/models/content": ("GET", "HEAD", "PUT"),
            "/api/v1/models/lineage": ("GET",),
            "/api/v1/models/upload-url": ("POST",),
            "/api/v1/models/download-url": ("POST",),
            f"{VERSION}/upload": ("POST",),
            f"{VERSION}/download": ("POST",),
            "/api/v1alpha1/comparisons": ("GET",),
            "/api/v1alpha1/comparativedocument": ("GET",),
            MODEL_JOBS: ("GET", "POST"),
            f"{MODEL_JOBS}/job": ("GET", "DELETE"),
            f"{MODEL_JOBS}/job/events": ("GET",),
            f"{ALPHA}/servings": ("GET", "POST"),
            f"{ALPHA}/servings/digits": ("GET", "PUT", "DELETE"),
            f"{ALPHA}/servings/digits/events": ("GET",),
            f"{ALPHA}/servings/digits/rollouts": ("GET",),
            **{
                f"{ALPHA}/servings/digits:{verb}": ("PUT",)
                for verb in ("rollback", "approve", "reject", "stop")
            },
            RETRAIN: ("POST",),
            f"{RETRAIN}/run": ("GET",),
            f"{RETRAIN}/run:stop": ("PUT",),
            "/seldon/default/digits/v2/models/digits/infer": ("POST",),
            "/api/v1/conversion/backends": ("GET",),
            f"{ALPHA}/pods": ("GET",),
            f"{ALPHA}/pods/job/logs": ("GET",),
        }.items()
        for method in methods
    },
    ("GET", "/v2/"): {"admin", "user"},
    ("GET", "/v2/_catalog"): {"admin", "user"},
    ("GET", "/v2/default/net/tags/list"): {"admin", "user"},
    ("GET", "/v2/default/net/manifests/v1"): {"admin", "user"},
    ("PUT", "/v2/default/net/manifests/v1"): {"admin", "user"},
    ("DELETE", "/v2/default/net/manifests/v1"): {"admin", "user"},
    ("GET", f"/v2/default/net/referrers/sha256:{'0' * 64}"): {"admin", "user"},
    ("HEAD", f"/v2/default/net/blobs/sha256:{'0' * 64}"): {"admin", "user"},
    ("POST", "/v2/default/net/blobs/uploads/"): {"admin", "user"},
    ("PATCH", "/v2/default/net/blobs/uploads/0"): {"admin", "user"},
    ("PUT", "/v2/default/net/blobs/uploads/0"): {"admin", "user"},
    ("GET", "/v2/default/net/blobs/uploads/0"): {"admin", "user"},
    ("DELETE", "/v2/default/net/blobs/uploads/0"): {"admin", "user"},
    ("GET", "/v2/nothing/of/the/kind"): {"admin", "user"},
    ("POST", "/exchange/v1/sites/hospital-1/register"): {"admin", "site"},
    ("POST", "/exchange/v1/sites/hospital-1/poll"): {"admin", "site"},
    ("POST", "/exchange/v1/sites/hospital-1/leave"): {"admin", "site"},
    ("GET", f"/exchange/v1/sites/hospital-1/blobs/sha256:{'0' * 64}"): {"admin", "site"},
    ("HEAD", "/exchange/v1/sites/hospital-1/work/w1/update"): {"admin", "site"},
    ("PUT", "/exchange/v1/sites/hospital-1/work/w1/update"): {"admin", "site"},
    ("HEAD", "/exchange/v1/sites/hospital-1/work/w1/files"): {"admin", "site"},
    ("PUT", "/exchange/v1/sites/hospital-1/work/w1/files"): {"admin", "site"},
    ("POST", "/exchange/v1/sites/hospital-1/work/w1/result"): {"admin", "site"},
    ("POST", "/exchange/v1/sites/hospital-1/work/w1/secagg/advertise"): {"admin", "site"},
    ("GET", "/exchange/v1/sites/hospital-1/work/w1/secagg/advertise"): {"admin", "site"},
    ("POST", "/exchange/v1/sites/hospital-2/register"): {"admin"},
    ("POST", "/exchange/v1/sites/hospital-2/poll"): {"admin"},
    ("GET", f"/exchange/v1/sites/hospital-2/blobs/sha256:{'0' * 64}"): {"admin"},
    ("POST", "/exchange/v1/sites/hospital-2/work/w1/result"): {"admin"},
}


def test_every_role_reaches_what_it_may_and_nothing_else(
    guarded: InProcess, token: dict[str, str | None]
) -> None:
    for (method, path), allowed in NEEDS.items():
        for who, held in token.items():
            headers = {} if held is None else {"Authorization": f"Bearer {held}"}
            answer = guarded(method, path, headers=headers)
            what = f"{method} {path} as {who}: {answer.status_code} {answer.text}"
            if who in allowed:
                assert answer.status_code != 401, what
                assert answer.status_code != 403 or "token" not in answer.text, what
            elif who in ("nobody", "stranger"):
                assert answer.status_code == 401, what
                challenge = 'Basic realm="Catchment"' if path.startswith("/v2/") else "Bearer"
                assert answer.headers["www-authenticate"] == challenge, what
            else:
                assert answer.status_code == 403, what
                assert method == "HEAD" or "token" in answer.text, what


def test_every_operation_is_in_the_matrix(guarded: InProcess) -> None:
    described = guarded("GET", "/api/v1/openapi.json").json()["paths"]
    tried = {(method, path) for method, path in NEEDS if "hospital-2" not in path}
    names = {"{namespace}": "other", "{site}": "hospital-1", "{work_id}": "w1", "{job_id}": "digits"} | {
        "{step}": "advertise",
        "{model_name}": "net",
        "{projectName}": "default",
        "{modelName}": "net",
        "{versionName}": "v1",
        "{modeljobID}": "job",
        "{podID}": "job",
        "{servingID}": "digits",
        "{run}": "run",
    }
    for path, operations in described.items():
        concrete = path.replace("{digest}", f"sha256:{'0' * 64}")
        for name, value in names.items():
            concrete = concrete.replace(name, value)
        candidates = {concrete, concrete.replace("/other", "/default")}
        for method in operations:
            assert {(method.upper(), each) for each in candidates} & tried, f"{method} {path} is not tried"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "catchment_x_y", "Bearer \u00e9"])
def test_what_is_no_bearer_token_is_401(guarded: InProcess, header: str) -> None:
    answer = guarded("GET", JOBS, headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["state"] == "FAILED"


def test_registries_clients_send_the_token_as_a_password(guarded: InProcess, token: dict[str, Any]) -> None:
    def login(text: str, path: str = "/v2/") -> int:
        headers = {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        return guarded("GET", path, headers=headers).status_code

    assert login(f"anybody:{token['user']}") == 200
    assert login(f":{token['admin']}") == 200
    assert login(f"anybody:{token['site']}") == 403
    for wrong in ("anybody:", "anybody", f"{token['user']}:", f"anybody:{token['stranger']}"):
        assert login(wrong) == 401
    odd = {"Authorization": "Basic \u00e9".encode("latin-1")}
    assert guarded("GET", "/v2/", headers=odd).status_code == 401
    assert login(f"anybody:{token['user']}", JOBS) == 401, "nowhere else"


def test_with_tokens_any_host_name_will_do(guarded: InProcess, token: dict[str, Any]) -> None:
    headers = {"Host": "fl.example.org", "Authorization": f"bearer {token['user']}"}
    assert guarded("GET", JOBS, headers=headers).status_code == 200


def test_a_revoked_token_is_useless_within_seconds(api: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = create_token(api.store, "user")
    now = 100.0
    tokens = Tokens(api.store, clock=lambda: now)
    identify = _in_loop(api, tokens)
    assert identify(f"Bearer {plain}").role == "user"
    revoke_token(api.store, list_tokens(api.store)[0]["id"])
    assert identify(f"Bearer {plain}").role == "user", "remembered"
    now += KEEP_S
    with pytest.raises(Unauthorized):
        identify(f"Bearer {plain}")


def _in_loop(api: InProcess, tokens: Tokens) -> Callable[[str], Any]:
    return lambda header: api.call(tokens.identity, header)
