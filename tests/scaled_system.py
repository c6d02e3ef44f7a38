"""The system as a cluster runs it, as processes of this machine that share no more than pods do."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from catchment.access import create_token
from catchment.models.tensors import write_tensors
from catchment.settings import Settings
from catchment.stack.postgres import EmbeddedPostgres
from catchment.store import Store, migrate, open_store
from tests.balancer import Balancer, balanced
from tests.conftest import ROOT, answers, free_port, users_environment, wait_until
from tests.e2e.conftest import CONFIG, SCRIPT, end_group
from tests.s3_server import CREDENTIALS, new_bucket, running_s3

SETTINGS = ROOT / "deployments" / "kubernetes" / "base"
SITES = ("site-a", "site-b")
READY_S = 90
SHORT_LEASES = {
    "CATCHMENT_JOB_LEASE_S": "5",
    "CATCHMENT_SITE_LEASE_S": "10",
    "CATCHMENT_SUPERVISE_S": "0.5",
}


def deployed_settings(name: str) -> dict[str, str]:
    """What an environment file of deployments/ sets."""
    lines = (SETTINGS / name).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


@dataclass
class Processes:
    """Processes of a system, each with its log; they end in the reverse of the order they began in."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *argv: str, env: Mapping[str, str]) -> None:
        """Run a program in the checkout."""
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                argv, cwd=ROOT, env=users_environment(**env), stdout=log, stderr=log, start_new_session=True
            )

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.folder / f"{name}.log"

    def wait(self, name: str, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; fail at once, with the log, when the process ends before."""

        def holds() -> bool:
            code = self.running[name].poll()
            assert code is None, f"{name} ended with {code}: {self.log(name).read_text()[-3000:]}"
            return bool(condition())

        wait_until(holds, timeout_s=READY_S, what=f"{name} to be ready")

    def kill(self, name: str) -> None:
        """End one without a warning, as a lost machine does."""
        end_group(self.running.pop(name), signal.SIGKILL)

    def end(self) -> dict[str, int]:
        """End all; their exit codes."""
        return {name: end_group(self.running.pop(name)) for name in reversed(list(self.running))}


@dataclass
class Scaled:
    """The running system.

    Attributes:
        balancer: stands before the APIs.
        apis: port by process's name.
        prefect, http: clients of Prefect's API, and of ours through the balancer.
    """

    processes: Processes
    balancer: Balancer
    apis: dict[str, int]
    prefect: httpx.Client
    http: httpx.Client
    store: Store


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """A Redis of Debian's package, with a password; its URL."""
    port, password = free_port(), secrets.token_hex(8)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--requirepass", password], stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(
            lambda: "Ready to accept connections" in (folder / "redis.log").read_text(),
            timeout_s=20,
            what="redis-server",
        )
        yield f"redis://default:{password}@127.0.0.1:{port}/0"
    finally:
        assert end_group(server) == 0


@contextlib.contextmanager
def scaled_system(folder: Path, postgres: EmbeddedPostgres) -> Iterator[Scaled]:
    """Two APIs, a Prefect server beside its services, a runner and two sites, on PostgreSQL, Redis and S3."""
    processes = Processes(folder)
    with running_s3(folder) as s3, running_redis(folder) as redis, contextlib.ExitStack() as ends:
        ends.callback(processes.end)
        prefect_url, prefect_auth = start_prefect(processes, postgres, redis)
        catchment = {
            **deployed_settings("catchment.env"),
            **CREDENTIALS,
            **SHORT_LEASES,
            "PREFECT_API_URL": prefect_url,
            "PREFECT_API_AUTH_STRING": prefect_auth,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
            "CATCHMENT_DATABASE_URL": new_store(postgres),
            "CATCHMENT_STORAGE_URL": f"s3://{new_bucket(s3.url)}",
            "CATCHMENT_S3_ENDPOINT_URL": s3.url,
        }
        store = prepared_store(folder, catchment)
        ends.callback(store.close)
        create_token(store, "admin")  # without one the API does not start
        apis = start_apis(processes, catchment)
        url, balancer = ends.enter_context(balanced(list(apis.values())))
        start_runner(processes, catchment)
        for name in SITES:
            start_site(processes, name, url, create_token(store, "site", site=name))
        http = ends.enter_context(user_client(url, create_token(store, "user")))
        login = httpx.BasicAuth(*prefect_auth.split(":"))
        prefect = ends.enter_context(httpx.Client(base_url=prefect_url, timeout=30, auth=login))
        processes.wait("runner", lambda: "runner ready" in processes.log("runner").read_text())
        for name in SITES:
            processes.wait(name, lambda: name in online(http))  # noqa: B023
        yield Scaled(processes, balancer, apis, prefect, http, store)
        codes = processes.end()
        assert {name: code for name, code in codes.items() if code not in (0, -signal.SIGTERM)} == {}


def start_prefect(processes: Processes, postgres: EmbeddedPostgres, redis: str) -> tuple[str, str]:
    """What deployments/kubernetes/base/prefect.yaml starts, at the same time; the API's URL and its login."""
    postgres.create_database("scaled_prefect")
    auth, port = f"catchment:{secrets.token_hex(8)}", free_port()
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        **deployed_settings("prefect-server.env"),
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url("scaled_prefect", driver="asyncpg"),
        "PREFECT_REDIS_MESSAGING_URL": redis,
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": redis,
        "PREFECT_SERVER_DOCKET_URL": redis,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_UI_API_URL": url,
    }
    prefect = (sys.executable, "-m", "prefect", "--no-prompt", "server")
    for name, command in {
        "prefect-migrate": ("database", "upgrade", "--yes"),
        "prefect-server": ("start", "--no-services", "--host", "127.0.0.1", "--port", str(port)),
        "prefect-services": ("services", "start"),
    }.items():
        env = {**settings, "PREFECT_HOME": str(processes.folder / name)}
        processes.start(name, *prefect, *command, env=env)
        if name == "prefect-migrate":  # an init container: the others begin when it has ended
            code = processes.running.pop(name).wait(READY_S)
            assert code == 0, processes.log(name).read_text()
    processes.wait("prefect-server", lambda: answers(f"{url}/health"))
    return url, auth


def new_store(postgres: EmbeddedPostgres) -> str:
    """An empty database's URL."""
    return postgres.create_database(f"scaled_{secrets.token_hex(4)}")


def own_folders(folder: Path, name: str) -> dict[str, str]:
    """Each process has its own disk, as pods have; only the APIs share where uploads arrive."""
    shared = "api" if name.startswith("api") else name
    return {
        "CATCHMENT_HOME": str(folder / name),
        "CATCHMENT_CACHE_DIR": str(folder / f"{shared}-cache"),
        "PREFECT_HOME": str(folder / name / "prefect"),
    }


def prepared_store(folder: Path, environment: Mapping[str, str]) -> Store:
    """The store, migrated, with the files of a small job in the bucket."""
    settings = Settings(
        home=folder / "test",
        cache_dir=folder / "test-cache",
        database_url=environment["CATCHMENT_DATABASE_URL"],
        storage_url=environment["CATCHMENT_STORAGE_URL"],
        s3_endpoint_url=environment["CATCHMENT_S3_ENDPOINT_URL"],
    )
    migrate(settings)
    store = open_store(settings)
    weights = {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float32)}
    files = {"initial.safetensors": None, "scripts/train.py": SCRIPT, "scripts/config.json": CONFIG}
    for name, text in files.items():
        local = folder / "file"
        if text is None:
            write_tensors(local, weights)
        else:
            local.write_text(text)
        store.files.write_file("default", f"small/{name}", local)
    return store


def start_runner(processes: Processes, environment: Mapping[str, str]) -> None:
    """The runner of flows."""
    processes.start(
        "runner",
        *(sys.executable, "-m", "flows.runner", "--pool", "catchment"),
        env={**environment, **own_folders(processes.folder, "runner")},
    )


def start_apis(processes: Processes, environment: Mapping[str, str]) -> dict[str, int]:
    """Two APIs; their ports by name."""
    ports = {name: free_port() for name in ("api-1", "api-2")}
    for name, port in ports.items():
        processes.start(
            name,
            *(sys.executable, "-m", "api", "--host", "127.0.0.1", "--port", str(port)),
            env={**environment, **own_folders(processes.folder, name)},
        )
    for name, port in ports.items():
        processes.wait(name, lambda: answers(f"http://127.0.0.1:{port}/readyz"))  # noqa: B023
    return ports


def start_site(processes: Processes, name: str, server: str, token: str) -> None:
    """A site that reaches the coordinator through the balancer."""
    home = processes.folder / name
    (home / "digits").mkdir(parents=True)
    (home / "datasets.json").write_text('{"digits": "digits"}')
    (home / "token").write_text(token)
    processes.start(
        name,
        *(sys.executable, "-m", "catchment.cli", "site", "start", "--name", name, "--server", server),
        *("--home", str(home / "home"), "--datasets", str(home / "datasets.json")),
        *("--token-file", str(home / "token"), "--allow-scripts", "always", "--runtime", "pytorch"),
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
    )


@contextlib.contextmanager
def user_client(url: str, token: str) -> Iterator[httpx.Client]:
    """A client that opens a connection for each request, so that the balancer spreads them."""
    with httpx.Client(
        base_url=url,
        timeout=30,
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_keepalive_connections=0),
    ) as client:
        yield client


def online(http: httpx.Client) -> set[str]:
    """Names of the sites that are connected."""
    return {site["name"] for site in http.get("/api/v1/sites").json()["sites"] if site["online"]}
