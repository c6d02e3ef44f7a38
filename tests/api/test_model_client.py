"""Models through the client and the command, against the API as users run it."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from catchment.client import Client, folders, transfers
from catchment.errors import AlreadyExists, BadArtifact, DigestMismatch, FormatMismatch, NotFound, Refused
from tests.api.serving import ApiProcess, api_process
from tests.conftest import free_port

DATA = np.random.default_rng(7).bytes(3_000_000)


@pytest.fixture
def running(home: Path) -> Iterator[ApiProcess]:
    with api_process(home, free_port()) as started:
        yield started


@pytest.fixture
def run(running: ApiProcess) -> Callable[..., str]:
    """Runs `catchment model ARGUMENTS`; what it printed."""

    def command(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "catchment.cli", "model", *arguments, "--server", running.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return command


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "net.pt").write_bytes(DATA)
    return tmp_path / "net.pt"


def test_a_file_goes_up_and_comes_down_as_it_was(
    running: ApiProcess, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", 1_000_000)
    seen: list[tuple[int, int]] = []
    with Client(running.url) as client:
        made = client.models.push(source, "net", "v1", "pytorch", progress=lambda *now: seen.append(now))
        assert (made.state, made.size_bytes) == ("ready", len(DATA))
        assert made.digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        assert seen == [(n, len(DATA)) for n in (1_000_000, 2_000_000, 3_000_000)]
        assert client.models.push(source, "net", "v1", "pytorch").id == made.id
        path = client.models.pull("net", "v1", tmp_path / "down.pt")
        assert path.read_bytes() == DATA
        folder = tmp_path / "folder"
        folder.mkdir()
        assert client.models.pull("net", "v1", folder) == folder / "net.pt"
        assert [each.id for each in client.models.list()] == [made.id]
        assert client.models.get_by_id(made.id) == client.models.get("net", "v1") == made
        assert client.models.update(made.id, description="new").description == "new"
        assert client.models.lineage(made.id)["events"][0]["action"] == "create"
        client.models.delete("net")
        with pytest.raises(NotFound):
            client.models.get("net", "v1")


def test_a_transfer_that_broke_off_goes_on_where_it_was(
    running: ApiProcess, source: Path, tmp_path: Path
) -> None:
    with Client(running.url) as client:
        made = client.models.create("net", "v1", "pytorch", file_name="net.pt")
        raw = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=20)
        headers = {"Content-Range": f"bytes 0-999999/{len(DATA)}"}
        path = f"/api/v1/models/content?model_id={made.id}"
        raw.request("PUT", path, body=DATA[:1_000_000], headers=headers)
        assert raw.getresponse().status == 202
        raw.close()
        seen: list[int] = []
        client.models.push(source, "net", "v1", "pytorch", progress=lambda done, _: seen.append(done))
        assert seen == [len(DATA)]
        target = tmp_path / "down.pt"
        part = target.with_name(f".down.pt.{hashlib.sha256(DATA).hexdigest()[:16]}.part")
        part.write_bytes(DATA[:1_234_567])
        seen.clear()
        client.models.pull("net", "v1", target, progress=lambda done, _: seen.append(done))
        assert target.read_bytes() == DATA
        assert min(seen) > 1_234_567
        assert not part.exists()
        part.write_bytes(b"x" * 1000)
        with pytest.raises(DigestMismatch):
            client.models.pull("net", "v1", target)
        assert not part.exists()
        assert target.read_bytes() == DATA


def test_an_upload_outlives_a_killed_server(
    running: ApiProcess, home: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", 1_000_000)
    with Client(running.url) as client:

        def kill_after_the_first(done: int, _: int) -> None:
            if done == 1_000_000:
                running.process.kill()
                running.process.wait(20)
                ends.enter_context(api_process(home, int(running.url.rpartition(":")[2])))

        with ExitStack() as ends:
            made = client.models.push(source, "net", "v1", "pytorch", progress=kill_after_the_first)
            assert running.process.returncode == -9
            assert made.digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def test_an_empty_file_or_another_content_is_refused(
    running: ApiProcess, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with Client(running.url) as client:
        with pytest.raises(Refused, match="no file with anything in it"):
            client.models.push(tmp_path / "empty", "net", "v1", "pytorch")
        client.models.push(source, "net", "v1", "pytorch")
        source.write_bytes(b"other bytes")
        with pytest.raises(Refused, match="push a new version"):
            client.models.push(source, "net", "v1", "pytorch")


def test_the_command_does_the_same(run: Callable[..., str], source: Path, tmp_path: Path) -> None:
    assert "state        ready" in run("push", str(source), "net", "v1", "--runtime", "pytorch")
    made = json.loads(run("create", "net", "v2", "--runtime", "pytorch", "--file-name", "a.pt", "--json"))
    assert made["state"] == "unready"
    assert [m["version_info"]["version"] for m in json.loads(run("list", "--json"))["models"]] == ["v1", "v2"]
    assert "v2" in run("list", "net")
    assert "new words" in run("update", "net", "v1", "--description", "new words")
    assert "local" in run("get", "net", "v1")
    assert run("pull", "net", "v1", str(tmp_path / "x.pt")).strip() == str(tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == DATA
    run("pull", "net", "v2", str(tmp_path), code=1)
    run("delete", "net", code=1)
    run("delete", "net", "v2")
    run("delete", "net", "--all")
    run("get", "net", "v1", code=3)


FILES = {"net.onnx": DATA, "labels.txt": b"one\ntwo\n", "deep/er/empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as people keep it."""
    made = tmp_path / "mine"
    for name, data in FILES.items():
        path = made / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (made / "ormbfile.yaml").write_bytes(b"author: Mia\ndescription: of the spring\nlabels: {kind: '1'}\n")
    return made


def content(folder: Path) -> dict[str, bytes]:
    """The files of a model's folder."""
    below = folder / "model"
    return {
        path.relative_to(below).as_posix(): path.read_bytes() for path in below.rglob("*") if path.is_file()
    }


def test_a_folder_goes_up_and_comes_down_as_it_was(
    running: ApiProcess, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "PART_BYTES", 1_000_000)
    seen: list[tuple[int, int]] = []
    with Client(running.url) as client:
        made = client.models.push(folder, "net", "v1", progress=lambda *now: seen.append(now), user="mia")
        assert (made.state, made.format, made.runtime) == ("ready", "ONNX", "onnx")
        assert made.description == "of the spring"
        assert [done for done, _ in seen[:3]] == [1_000_000, 2_000_000, 3_000_000]
        assert seen[-1][0] == seen[-1][1]
        assert client.models.push(folder, "net", "v1").id == made.id
        assert "mia" in client.models.lineage(made.id)["events"][0]["claimed"]
        seen.clear()
        target = tmp_path / "down"
        assert client.models.pull("net", "v1", target, progress=lambda *now: seen.append(now)) == target
        assert content(target) == FILES
        assert seen[-1][0] == seen[-1][1] > len(DATA)
        described = (target / "ormbfile.yaml").read_text()
        assert "author: Mia\n" in described
        assert "kind: '1'\n" in described
        assert client.models.pull("net", "v1", tmp_path) == tmp_path / "net"
        again = client.models.push(target, "net", "v2", description="of the summer")
        assert (again.digest, again.description) == (made.digest, "of the summer")
        with pytest.raises(AlreadyExists):
            client.models.pull("net", "v1", tmp_path)
        assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".pull")]


def test_folders_that_cannot_go_up_are_refused(running: ApiProcess, folder: Path, source: Path) -> None:
    with Client(running.url) as client:
        for wrong, kind, said in (
            ({"format": "H5"}, FormatMismatch, r"needs \*\.h5"),
            ({"format": "Clay"}, FormatMismatch, "not known"),
            ({"user": "../mia"}, Refused, "X-User: is required"),
            ({"namespace": "nowhere"}, NotFound, "nowhere"),
        ):
            with pytest.raises(kind, match=said):
                client.models.push(folder, "net", "v1", **wrong)  # type: ignore[arg-type]
        with pytest.raises(BadArtifact, match="no folder model/"):
            client.models.push(folder / "model", "net", "v1")
        for arguments in ({}, {"runtime": "pytorch", "format": "ONNX"}):
            with pytest.raises(Refused, match="a file needs a runtime and has no format"):
                client.models.push(source, "net", "v1", **arguments)  # type: ignore[arg-type]
        assert client.models.list() == []
        client.models.push(folder, "net", "v1")
        (folder / "model" / "labels.txt").write_bytes(b"other")
        with pytest.raises(Refused, match="push a new version"):
            client.models.push(folder, "net", "v1")


def test_an_upload_of_a_folder_outlives_a_killed_server(
    running: ApiProcess, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "PART_BYTES", 1_000_000)
    with Client(running.url) as client, ExitStack() as ends:
        seen: list[int] = []

        def kill_after_the_first(done: int, _: int) -> None:
            seen.append(done)
            if done == 1_000_000:
                running.process.kill()
                running.process.wait(20)
                ends.enter_context(api_process(home, int(running.url.rpartition(":")[2])))

        made = client.models.push(folder, "net", "v1", progress=kill_after_the_first)
        assert running.process.returncode == -9
        assert made.state == "ready"
        assert seen[:3] == [1_000_000, 2_000_000, 3_000_000]


class GivenUp(Exception):
    """Stands for a person's Ctrl-C."""


def test_an_upload_that_was_given_up_goes_on(
    running: ApiProcess, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "PART_BYTES", 1_000_000)
    with Client(running.url) as client:

        def give_up(done: int, _: int) -> None:
            if done == 2_000_000:
                raise GivenUp

        with pytest.raises(GivenUp):
            client.models.push(folder, "net", "v1", progress=give_up)
        seen: list[int] = []
        client.models.push(folder, "net", "v1", progress=lambda done, _: seen.append(done))
        assert seen[0] == 3_000_000
        with pytest.raises(GivenUp):
            client.models.push(folder, "net", "v2", progress=give_up)
        # Other bytes of the same length: the beginning that the server has is thrown away.
        (folder / "model" / "net.onnx").write_bytes(DATA[::-1])
        seen.clear()
        made = client.models.push(folder, "net", "v2", progress=lambda done, _: seen.append(done))
        assert made.state == "ready"
        assert seen[:2] == [3_000_000, 1_000_000]


def test_a_download_of_a_folder_goes_on_where_it_was(
    running: ApiProcess, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PIECE_BYTES", 500_000)
    with Client(running.url) as client:
        client.models.push(folder, "net", "v1")
        target = tmp_path / "down"

        def give_up(done: int, _: int) -> None:
            if done >= 1_000_000:
                raise GivenUp

        with pytest.raises(GivenUp):
            client.models.pull("net", "v1", target, progress=give_up)
        assert not target.exists()
        (left,) = [path for path in tmp_path.iterdir() if path.name.endswith(".pull")]
        seen: list[int] = []
        client.models.pull("net", "v1", target, progress=lambda done, _: seen.append(done))
        assert min(seen) > 1_000_000
        assert content(target) == FILES
        assert not left.exists()
        with pytest.raises(GivenUp):
            client.models.pull("net", "v1", tmp_path / "other", progress=give_up)
        (left,) = [path for path in tmp_path.iterdir() if path.name.endswith(".pull")]
        damaged = bytearray((left / "zip").read_bytes())
        damaged[500_000] ^= 1
        (left / "zip").write_bytes(damaged)
        with pytest.raises(BadArtifact):
            client.models.pull("net", "v1", tmp_path / "other")
        assert not left.exists()
        client.models.pull("net", "v1", tmp_path / "other")
        assert content(tmp_path / "other") == FILES


def test_the_command_pushes_and_pulls_folders(run: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    run("push", str(folder), "net", "v1", "--format", "H5", code=1)
    assert "state        ready" in run("push", str(folder), "net", "v1", "--tenant", "lab", "--user", "mia")
    assert "mia" in run("get", "net", "v1")
    assert run("pull", "net", "v1", str(tmp_path)).strip() == str(tmp_path / "net")
    assert content(tmp_path / "net") == FILES
    run("pull", "net", "v1", str(tmp_path), code=1)
