"""A real kube-apiserver over a real etcd, for tests: where its programs are, its start and its end."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import free_port

VERSION = "1.20.2"
ISSUER = "https://kubernetes.test"
START_S = 90.0
END_S = 20.0


@dataclass(frozen=True)
class Binaries:
    """The programs that it takes; what lacks is None."""

    apiserver: Path | None
    etcd: Path | None

    @property
    def lacking(self) -> str:
        """Why there can be no server; empty: there can."""
        missing = [
            name for name, path in (("kube-apiserver", self.apiserver), ("etcd", self.etcd)) if not path
        ]
        return f"no {' and no '.join(missing)}; tests/real_kubernetes/build.sh builds them" if missing else ""


def binaries() -> Binaries:
    """CATCHMENT_TEST_KUBE_APISERVER, or where build.sh puts it; etcd is beside it, or Debian's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    default = cache / "catchment" / f"kube-apiserver-{VERSION}" / "kube-apiserver"
    server = Path(os.environ.get("CATCHMENT_TEST_KUBE_APISERVER") or default)
    beside, installed = server.with_name("etcd"), shutil.which("etcd")
    etcd = beside if beside.is_file() else Path(installed) if installed else None
    return Binaries(server if server.is_file() else None, etcd)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        url: `https://127.0.0.1:port`.
        folder: with the server's certificate `apiserver.crt` and its key.
        token: of somebody who may do everything.
        etcd: `http://127.0.0.1:port` of what it keeps objects in.
    """

    url: str
    folder: Path
    token: str
    etcd: str

    @property
    def authority(self) -> Path:
        """What vouches for the server."""
        return self.folder / "apiserver.crt"

    def forget_changes(self, until: str) -> None:
        """Watches of ConfigMaps from a resourceVersion before this one are told that they are too late."""
        answer = urllib3.request(
            "POST", f"{self.etcd}/v3/kv/compaction", json={"revision": until}, timeout=10
        )
        assert answer.status == 200, answer.data


@contextmanager
def running(found: Binaries, folder: Path) -> Iterator[Running]:
    """A server with nothing in it but what it makes itself; its processes are gone afterwards."""
    assert found.apiserver
    assert found.etcd
    _service_account_key(folder / "service-accounts.key")
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},tester,tester,"system:masters"\n')
    etcd, peers, port = (free_port() for _ in range(3))
    with ExitStack() as stack:
        store = [str(found.etcd), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"]
        for name in ("listen-client-urls", "advertise-client-urls"):
            store += [f"--{name}", f"http://127.0.0.1:{etcd}"]
        for name in ("listen-peer-urls", "initial-advertise-peer-urls"):
            store += [f"--{name}", f"http://127.0.0.1:{peers}"]
        store += ["--initial-cluster", f"default=http://127.0.0.1:{peers}"]
        started = [stack.enter_context(_process(store, folder / "etcd.log"))]
        server = [str(found.apiserver), *_options(folder, etcd, port)]
        started.append(stack.enter_context(_process(server, folder / "kube-apiserver.log")))
        answering = Running(f"https://127.0.0.1:{port}", folder, token, f"http://127.0.0.1:{etcd}")
        _await(answering, started)
        yield answering


def _options(folder: Path, etcd: int, port: int) -> list[str]:
    keys = folder / "service-accounts.key"
    given = {
        "etcd-servers": f"http://127.0.0.1:{etcd}",
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder,
        "service-account-issuer": ISSUER,
        "service-account-key-file": keys,
        "service-account-signing-key-file": keys,
        "api-audiences": ISSUER,
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "RBAC",
        "anonymous-auth": "false",
        "service-cluster-ip-range": "10.0.0.0/16",
        # Nobody makes the default accounts of namespaces here.
        "disable-admission-plugins": "ServiceAccount",
        # On in every later version.
        "feature-gates": "TTLAfterFinished=true,GenericEphemeralVolume=true",
        # Asked of etcd, so that tests can have their history forgotten.
        "watch-cache-sizes": "configmaps#0",
        "kubelet-preferred-address-types": "InternalIP",
    }
    return [f"--{name}={value}" for name, value in given.items()]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S)


def _await(server: Running, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the server is ready, the roles that it makes itself among it."""
    deadline = time.monotonic() + START_S
    headers = {"Authorization": f"Bearer {server.token}"}
    while True:
        told = ""
        try:
            with urllib3.PoolManager(ca_certs=str(server.authority)) as pool:
                answer = pool.request(
                    "GET", f"{server.url}/readyz", headers=headers, timeout=5, retries=False
                )
            if answer.status == 200:
                return
            told = answer.data.decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            told = str(error)
        ended = [each for each in processes if each.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = {
                path.name: path.read_text(errors="replace")[-2000:] for path in server.folder.glob("*.log")
            }
            raise AssertionError(f"the API server is not ready: {told}; {json.dumps(logs, indent=1)}")
        time.sleep(0.1)


def _service_account_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
