"""`catchment registry` against layouts and docker-registry."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from catchment.registry.layout import LayoutRegistry
from tests.library.registry.making import put_artifact
from tests.registry_servers import PASSWORD, USER, docker_registry

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATCHMENT_REGISTRY_CREDENTIALS", str(tmp_path / "own" / "registries.json"))
    for name in ("CATCHMENT_CA_FILE", "CATCHMENT_INSECURE_HTTP", "CATCHMENT_REGISTRY_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.needs("docker-registry")
@pytest.mark.needs("htpasswd")
def test_an_artifact_goes_to_a_registry_and_comes_back(command: Command, tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path / "layout")
    stored = put_artifact(layout, "project/model", "v1", (b"weights",))
    with docker_registry(tmp_path / "registry", login=True) as server:
        remote = f"{server.host}/project/model"
        refused = command("registry", "copy", f"oci:{layout.folder}:project/model:v1", f"{remote}:v2")
        assert refused.exit_code == 1
        assert "catchment registry login" in refused.stderr
        wrong = command("registry", "login", server.host, "-u", USER, "--password-stdin", stdin="wrong\n")
        assert wrong.exit_code == 1
        assert not (tmp_path / "own" / "registries.json").exists()
        done = command(
            "registry", "login", server.host, "-u", USER, "--password-stdin", stdin=f"{PASSWORD}\n"
        )
        assert (done.exit_code, done.stderr) == (0, f"logged in at {server.host} as {USER}\n")
        assert stat.S_IMODE((tmp_path / "own" / "registries.json").stat().st_mode) == 0o600
        copied = command("registry", "copy", f"oci:{layout.folder}:project/model:v1", f"{remote}:v2")
        assert copied.stdout == f"{server.host} project/model:v2 {stored.digest}\n"
        listed = command("registry", "list", server.host, "--json")
        assert json.loads(listed.stdout) == {"repositories": ["project/model"]}
        (one,) = json.loads(command("registry", "list", remote, "--json").stdout)["artifacts"]
        assert (one["digest"], one["tags"]) == (stored.digest, ["v2"])
        back = command("registry", "copy", f"{remote}:v2", f"oci:{tmp_path / 'back'}", "--json")
        assert json.loads(back.stdout) == {
            "repository": "project/model",
            "tag": "v2",
            "digest": stored.digest,
        }
        assert LayoutRegistry(tmp_path / "back").resolve("project/model", "v2") == stored
        assert command("registry", "logout", server.host).exit_code == 0
        assert command("registry", "list", server.host).exit_code == 1
        everything = "".join(
            each.stdout + each.stderr for each in (refused, wrong, done, copied, listed, back)
        )
        assert PASSWORD not in everything


def test_a_layout_is_listed_and_shown(command: Command, tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path / "layout")
    stored = put_artifact(layout, "project/model", "v1", (b"weights",))
    put_artifact(layout, "other/model", "v1", (b"weights",))
    signature = put_artifact(
        layout, "project/model", "", (b"s",), subject=stored, artifact_type="application/vnd.test.signature"
    )
    where = f"oci:{layout.folder}"
    assert command("registry", "list", where).stdout.split() == ["REPOSITORY", "other/model", "project/model"]
    assert command("registry", "list", f"{where}:other").stdout.split() == ["REPOSITORY", "other/model"]
    assert stored.digest in command("registry", "list", f"{where}:project/model").stdout
    shown = command("registry", "inspect", f"{where}:project/model:v1", "--json")
    facts = json.loads(shown.stdout)
    assert facts["digest"] == stored.digest
    assert [part["part"] for part in facts["parts"]] == ["config", "layer", "referrer"]
    assert facts["parts"][2]["digest"] == signature.digest
    lines = command("registry", "inspect", f"{where}:project/model:v1").stdout.splitlines()
    assert ["digest", stored.digest] in [line.split() for line in lines]


def test_a_copy_takes_the_name_and_tag_of_its_source(command: Command, tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path / "layout")
    stored = put_artifact(layout, "project/model", "v1")
    source = f"oci:{layout.folder}:project/model:v1"
    assert command("registry", "copy", source, f"oci:{layout.folder}:project/other").exit_code == 0
    assert layout.resolve("project/other", "v1") == stored
    by_digest = f"oci:{layout.folder}:project/model@{stored.digest}"
    assert command("registry", "copy", by_digest, f"oci:{tmp_path / 'target'}").exit_code == 0
    assert LayoutRegistry(tmp_path / "target").tags("project/model") == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("list", "oci:/no/such/folder"), 3, "there is no OCI image layout"),
        (("list", "Not A Host"), 1, "WHERE: "),
        (("list", "a/b/c/d"), 1, "WHERE: "),
        (("list", "127.0.0.1:9/x/Y"), 1, "WHERE: "),
        (("inspect", "project/model:v1"), 1, "names no registry"),
        (("inspect", "oci:/no/such/folder:a/b"), 3, "there is no OCI image layout"),
        (("copy", "oci:/no/such/folder:a/b", "oci:x"), 3, "there is no OCI image layout"),
        (("inspect", "oci:layout"), 1, "names a layout, no artifact"),
        (("inspect", "oci::project/model"), 1, "names no folder"),
        (("copy", "oci:layout", "oci:other"), 1, "names a layout, no artifact"),
        (("copy", "oci:a:b/c:v1", "oci:x:b/c@sha256:" + "0" * 64), 1, "give a tag instead"),
        (("copy", "oci:a:b/c:v1", "oci:x", "--threads", "0"), 2, "Invalid value"),
        (("login", "127.0.0.1:9"), 2, "Missing option"),
    ],
)
def test_wrong_usage_is_told(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("registry", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr


@pytest.mark.needs("docker-registry")
@pytest.mark.parametrize("options", [(), ("--deflate",), ("--form", "modelpack")])
def test_a_folder_is_pushed_and_pulled(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    model = tmp_path / "mine" / "model"
    model.mkdir(parents=True)
    (model / "net.onnx").write_bytes(b"weights")
    form = "modelpack" if "modelpack" in options else "ormb"
    with docker_registry(tmp_path / "registry") as server:
        remote = f"{server.host}/project/net"
        pushed = command("registry", "push", str(model.parent), f"{remote}:v1", *options)
        assert (pushed.exit_code, pushed.stderr) == (0, "")
        host, name, digest = pushed.stdout.split()
        assert (host, name) == (server.host, "project/net:v1")
        into_a_layout = ("registry", "push", str(model.parent), f"oci:{tmp_path / 'layout'}:project/net:v1")
        again = json.loads(command(*into_a_layout, *options, "--json").stdout)
        assert again == {"repository": "project/net", "tag": "v1", "digest": digest, "form": form}
        monkeypatch.chdir(tmp_path)
        pulled = command("registry", "pull", f"{remote}:v1")
        assert pulled.stdout == f"{tmp_path / 'net'} {digest}\n"
        assert (tmp_path / "net" / "model" / "net.onnx").read_bytes() == b"weights"
        assert "format: ONNX\n" in (tmp_path / "net" / "ormbfile.yaml").read_text()
        refused = command("registry", "pull", f"{remote}:v1")
        assert refused.exit_code == 1
        assert "there is something in" in refused.stderr
        by_digest = command("registry", "pull", f"{remote}@{digest}", str(tmp_path / "a" / "b"), "--json")
        assert json.loads(by_digest.stdout) == {
            "folder": str(tmp_path / "a" / "b"),
            "digest": digest,
            "form": form,
        }


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("push", "{folder}", "oci:layout"), 1, "names a layout, no artifact"),
        (("push", "{folder}", "project/net:v1"), 1, "names no registry"),
        (("push", "{folder}", "oci:x:a/b@sha256:" + "0" * 64), 1, "give a tag instead"),
        (("push", "{folder}", "oci:x:a/b", "--form", "helm"), 2, "'helm' is not one of"),
        (
            ("push", "{folder}", "oci:x:a/b", "--form", "modelpack", "--deflate"),
            1,
            "holds each file as it is",
        ),
        (("push", "{folder}", "oci:x:a/b"), 1, "holds no folder model/"),
        (("push", "/no/such/folder", "oci:x:a/b"), 2, "does not exist"),
        (("pull", "oci:/no/such/folder:a/b"), 3, "there is no OCI image layout"),
        (("pull", "127.0.0.1:9/a/b:v1:v2"), 1, "REF: "),
    ],
)
def test_wrong_pushes_and_pulls_are_told(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("registry", *(each.format(folder=tmp_path) for each in arguments))
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert list(tmp_path.glob("**/index.json")) == []
