"""Copies between registries: byte for byte, what is there is skipped, a tag never before its blobs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import DigestMismatch, Forbidden, NotFound, Unreachable
from catchment.registry.artifacts import OCI_INDEX, OCI_MANIFEST, Index, Manifest, digest_of
from catchment.registry.backend import Registry
from catchment.registry.copying import Place, copy_artifact
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.layout import LayoutRegistry
from tests.conftest import wait_until
from tests.faulty_registry import Fault, FaultyRegistry
from tests.library.registry.conftest import NEEDED, connect
from tests.library.registry.making import put_artifact, put_blob, read_blob
from tests.registry_servers import Server

LARGE = random.Random(7).randbytes(3 * 2**20)
REPOSITORY = "project/model"


def test_a_copy_there_and_back_keeps_all_bytes(registry: Registry, repository: str, tmp_path: Path) -> None:
    first, last = LayoutRegistry(tmp_path / "first"), LayoutRegistry(tmp_path / "last")
    stored = put_artifact(first, REPOSITORY, "v1", (LARGE, b"small"))
    told: list[tuple[int, int]] = []
    found = copy_artifact(
        Place(first, REPOSITORY),
        "v1",
        Place(registry, repository),
        "v2",
        progress=lambda done, total: told.append((done, total)),
    )
    assert found == stored
    total = stored.size + len(LARGE) + len(b"small") + len(b'{"format":"ONNX"}')
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert copy_artifact(Place(registry, repository), "v2", Place(last, "a/b"), "v1") == stored
    assert last.get_manifest("a/b", "v1").data == first.get_manifest(REPOSITORY, "v1").data
    assert read_blob(last, "a/b", digest_of(LARGE)) == LARGE


def test_an_index_comes_with_its_manifests_and_referrers(
    registry: Registry, repository: str, tmp_path: Path
) -> None:
    source = LayoutRegistry(tmp_path / "source")
    children = []
    for data in (b"cpu", b"gpu"):
        config = put_blob(source, REPOSITORY, b"{}")
        made = Manifest(config, (put_blob(source, REPOSITORY, data),))
        children.append(source.put_manifest(REPOSITORY, made.to_bytes(), OCI_MANIFEST))
    stored = source.put_manifest(REPOSITORY, Index(tuple(children)).to_bytes(), OCI_INDEX, "v1")
    signature = put_artifact(
        source, REPOSITORY, "", (b"signed",), subject=stored, artifact_type="application/vnd.test.signature"
    )
    plain = copy_artifact(Place(source, REPOSITORY), "v1", Place(registry, repository), "v1")
    assert plain == stored
    assert registry.get_manifest(repository, children[1].digest).descriptor() == children[1]
    assert registry.referrers(repository, stored.digest) == []
    copy_artifact(Place(source, REPOSITORY), "v1", Place(registry, repository), "v1", referrers=True)
    (found,) = registry.referrers(repository, stored.digest)
    assert found.digest == signature.digest
    assert read_blob(registry, repository, digest_of(b"signed")) == b"signed"


def test_a_copy_within_a_registry_sends_no_blob(registry: Registry, repository: str) -> None:
    stored = put_artifact(registry, repository, "v1", (LARGE,))
    other = f"{repository}-copy"
    assert copy_artifact(Place(registry, repository), "v1", Place(registry, other), "v1") == stored
    assert read_blob(registry, other, digest_of(LARGE)) == LARGE


def test_what_is_there_is_not_sent_again(
    client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    source = LayoutRegistry(tmp_path / "source")
    put_artifact(source, REPOSITORY, "v1", (LARGE, b"small"))
    put_blob(client, REPOSITORY, LARGE)
    sent = faulty.received
    copy_artifact(Place(source, REPOSITORY), "v1", Place(client, REPOSITORY), "v1")
    assert faulty.received - sent < 1000


def test_a_fault_of_one_blob_ends_the_copy_without_a_tag(
    client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    source = LayoutRegistry(tmp_path / "source")
    put_artifact(source, REPOSITORY, "v1", (LARGE, b"one", b"two"))
    faulty.faults = [Fault("PUT", "/blobs/uploads/", status=403)]
    with pytest.raises(Forbidden):
        copy_artifact(Place(source, REPOSITORY), "v1", Place(client, REPOSITORY), "v1", threads=2)
    assert not faulty.manifests
    copy_artifact(Place(source, REPOSITORY), "v1", Place(client, REPOSITORY), "v1")
    assert (REPOSITORY, "v1") in faulty.manifests


def test_a_pull_that_is_given_up_goes_on_later(
    client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    stored = put_artifact(client, REPOSITORY, "v1", (LARGE,))
    target = LayoutRegistry(tmp_path / "target")
    path = digest_of(LARGE)
    faulty.faults = [Fault("GET", path, cut_answer=2**20), Fault("GET", path, times=9, cut_answer=0)]
    with pytest.raises(Unreachable):
        copy_artifact(Place(client, REPOSITORY), "v1", Place(target, REPOSITORY), "v1")
    assert target.repositories() == []
    assert not target.has_blob(REPOSITORY, digest_of(LARGE))
    faulty.faults = []
    assert copy_artifact(Place(client, REPOSITORY), "v1", Place(target, REPOSITORY), "v1") == stored
    assert faulty.asked("GET", path)[-1]["Range"] == f"bytes={2**20}-"
    assert read_blob(target, REPOSITORY, digest_of(LARGE)) == LARGE


@pytest.mark.parametrize("target", ["layout", "remote"])
def test_a_registry_that_lies_spoils_nothing(
    client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path, target: str
) -> None:
    put_artifact(client, REPOSITORY, "v1", (LARGE,))
    made = LayoutRegistry(tmp_path / "target")
    to = Place(made, REPOSITORY) if target == "layout" else Place(client, "other/model")
    faulty.faults = [
        Fault("GET", digest_of(LARGE), times=9, damage=True),
        Fault("HEAD", f"other/model/blobs/{digest_of(LARGE)}", times=9, status=404),
    ]
    with pytest.raises(DigestMismatch):
        copy_artifact(Place(client, REPOSITORY), "v1", to, "v1")
    assert not made.has_blob(REPOSITORY, digest_of(LARGE))
    assert ("other/model", "v1") not in faulty.manifests


def test_a_missing_part_is_told(client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path) -> None:
    put_artifact(client, REPOSITORY, "v1", (LARGE,))
    del faulty.blobs[digest_of(LARGE)]
    with pytest.raises(NotFound, match="a part of project/model is missing"):
        copy_artifact(
            Place(client, REPOSITORY), "v1", Place(LayoutRegistry(tmp_path / "target"), REPOSITORY), "v1"
        )


COPY = """
import sys
from pathlib import Path
from catchment.registry.copying import Place, copy_artifact
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.layout import LayoutRegistry
from catchment.registry.session import Session

def opened(text):
    return LayoutRegistry(Path(text)) if text.startswith("/") else DistributionRegistry(Session(text))

source, target = (Place(opened(each), "project/model") for each in sys.argv[1:3])
copy_artifact(source, "v1", target, "v1", progress=lambda done, _: print(done, flush=True))
"""


def copy_until(source: str, target: str, enough: int) -> None:
    """Copy in another process and kill it as soon as so many bytes are done."""
    child = subprocess.Popen(
        [sys.executable, "-c", COPY, source, target],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= enough:
            break
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()


@pytest.mark.parametrize("kind", [pytest.param("plain", marks=NEEDED)])
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_kill_in_the_middle_leaves_nothing_half(
    kind: str,
    way: str,
    start_server: Callable[[str], Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = connect(start_server(kind))
    layout = LayoutRegistry(tmp_path / "layout")
    data = os.urandom(64 * 2**20)
    source, target = (layout, server) if way == "push" else (server, layout)
    if "v1" in (server.tags(REPOSITORY) if REPOSITORY in server.repositories() else []):
        server.delete(REPOSITORY, server.resolve(REPOSITORY, "v1").digest)
    stored = put_artifact(source, REPOSITORY, "v1", (data,))
    names = [str(layout.folder), server.name]
    copy_until(*(names if way == "push" else names[::-1]), enough=8 * 2**20)
    with pytest.raises(NotFound):
        target.resolve(REPOSITORY, "v1")
    assert not target.has_blob(REPOSITORY, digest_of(data))
    assert copy_artifact(Place(source, REPOSITORY), "v1", Place(target, REPOSITORY), "v1") == stored
    assert read_blob(target, REPOSITORY, digest_of(data)) == data
    server.close()


def test_a_push_that_is_killed_leaves_the_registry_without_a_tag(
    client: DistributionRegistry, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    source = LayoutRegistry(tmp_path / "source")
    put_artifact(source, REPOSITORY, "v1", (LARGE,))
    faulty.faults = [Fault("PUT", "/manifests/", times=1, hang=True)]
    child = subprocess.Popen(
        [sys.executable, "-c", COPY, str(source.folder), faulty.host],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: faulty.asked("PUT", "/manifests/"), timeout_s=30, what="the manifest")
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert digest_of(LARGE) in faulty.blobs
    assert not faulty.manifests
    copy_artifact(Place(source, REPOSITORY), "v1", Place(client, REPOSITORY), "v1")
    assert (REPOSITORY, "v1") in faulty.manifests
