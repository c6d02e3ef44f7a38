"""Models as folders, pushed and pulled: every byte, over every backend, through kills and lies."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import (
    AlreadyExists,
    BadArtifact,
    DigestMismatch,
    Forbidden,
    FormatMismatch,
    Refused,
    TransferError,
    Unreachable,
)
from catchment.models.files import Limits
from catchment.registry import modelpack, ormb
from catchment.registry.artifacts import OCI_INDEX, Descriptor, Index, Manifest, digest_of
from catchment.registry.backend import Registry
from catchment.registry.copying import Place
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.layout import LayoutRegistry
from catchment.registry.pulling import pull_folder
from catchment.registry.pushing import FORMS, Form, push_folder
from tests.faulty_registry import Fault, FaultyRegistry
from tests.library.registry.conftest import NEEDED
from tests.library.registry.making import put_blob
from tests.registry_servers import Server

LARGE = random.Random(7).randbytes(3 * 2**20)
FILES = {
    "net.onnx": LARGE,
    "vocab.txt": b"a\nb\n",
    "deep/er/same.bin": b"twice",
    "same.bin": b"twice",
    "none": b"",
}
DESCRIBED = b"author: Mia\nformat: onnx\ncreated: 2021-03-09T09:38:13Z\nlabels: {kind: <b>}\n"
REPOSITORY = "project/model"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as people have it; modes and times are not all the same."""
    folder = tmp_path / "mine"
    for number, (name, data) in enumerate(FILES.items()):
        path = folder / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644 if number else 0o755)
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    (folder / "ormbfile.yaml").write_bytes(DESCRIBED)
    return folder


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, mode and time of each file below model/."""
    found = {}
    for path in (folder / "model").rglob("*"):
        if path.is_file():
            about = path.stat()
            found[path.relative_to(folder).as_posix()] = (
                path.read_bytes(),
                about.st_mode & 0o777,
                int(about.st_mtime),
            )
    return found


def left_beside(folder: Path) -> list[str]:
    """What pulls have left behind."""
    return [path.name for path in folder.parent.iterdir() if path.name.endswith(".pull")]


@pytest.mark.parametrize(("form", "deflate"), [("ormb", False), ("ormb", True), ("modelpack", False)])
def test_a_folder_comes_back_as_it_was(
    registry: Registry, repository: str, model: Path, tmp_path: Path, form: Form, deflate: bool
) -> None:
    told: list[tuple[int, int]] = []
    place = Place(registry, repository)
    made = push_folder(
        model,
        place,
        "v1",
        form=form,
        deflate=deflate,
        progress=lambda done, total: told.append((done, total)),
    )
    assert registry.resolve(repository, "v1") == made
    assert told[-1][0] == told[-1][1] > len(LARGE)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    back = tmp_path / "back"
    pulled = pull_folder(place, "v1", back, progress=lambda done, total: told.append((done, total)))
    assert (pulled.folder, pulled.digest, pulled.form) == (back, made.digest, form)
    assert told[-1][0] == told[-1][1] > len(LARGE)
    assert tree(back) == tree(model)
    assert len(tree(back)) == len(FILES)
    assert left_beside(back) == []
    assert (model / "ormbfile.yaml").read_bytes() == DESCRIBED
    if not deflate:
        assert push_folder(back, place, "v1", form=form).digest == made.digest


def test_the_config_in_the_registry_has_the_originals_bytes(model: Path, tmp_path: Path) -> None:
    """Written out by hand as the original client makes them; the digest of the layer is computed."""
    layout = LayoutRegistry(tmp_path / "layout")
    made = push_folder(model, Place(layout, REPOSITORY), "v1")
    config = (
        b'{"author":"Mia","created":"2021-03-09T09:38:13Z","labels":{"kind":"\\u003cb\\u003e"},'
        b'"format":"ONNX","framework":"ONNX","directoryStructure":["model/deep/er/same.bin",'
        b'"model/net.onnx","model/none","model/same.bin","model/vocab.txt"]}'
    )
    manifest = layout.get_manifest(REPOSITORY, "v1")
    parsed = manifest.parsed()
    assert isinstance(parsed, Manifest)
    (layer,) = parsed.layers
    assert manifest.data == (
        b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.caicloud.model.config.v1alpha1+json",'
        + f'"digest":"sha256:{hashlib.sha256(config).hexdigest()}","size":{len(config)}}},'.encode()
        + b'"layers":[{"mediaType":"application/tar+gzip",'
        + f'"digest":"{layer.digest}","size":{layer.size}}}]}}'.encode()
    )
    blob = (tmp_path / "layout" / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")).read_bytes()
    assert (digest_of(blob), len(blob)) == (layer.digest, layer.size)
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as tar:
        assert [member.name for member in tar] == sorted(f"model/{name}" for name in FILES)
        assert tar.extractfile("model/net.onnx").read() == LARGE  # type: ignore[union-attr]
    assert made.digest == digest_of(manifest.data)


def test_what_the_registry_has_is_not_sent_again(
    client: DistributionRegistry, faulty: FaultyRegistry, model: Path
) -> None:
    for form in FORMS:
        push_folder(model, Place(client, REPOSITORY), "v1", form=form)
    sent = faulty.received
    (model / "model" / "vocab.txt").write_bytes(b"c\n")
    push_folder(model, Place(client, REPOSITORY), "v2", form="modelpack")
    assert faulty.received - sent < 10_000


def test_a_fault_in_a_push_leaves_no_tag(
    client: DistributionRegistry, faulty: FaultyRegistry, model: Path
) -> None:
    faulty.faults = [Fault("PUT", "/blobs/uploads/", status=403)]
    with pytest.raises(Forbidden):
        push_folder(model, Place(client, REPOSITORY), "v1", form="modelpack")
    assert not faulty.manifests


def test_a_push_goes_on_in_the_middle_of_the_layer(
    client: DistributionRegistry, faulty: FaultyRegistry, model: Path, tmp_path: Path
) -> None:
    faulty.resumes = True
    faulty.faults = [Fault("(PUT|PATCH)", "/blobs/uploads/", times=2, cut_request=2**20 + 5)]
    push_folder(model, Place(client, REPOSITORY), "v1")
    assert faulty.received < 1.5 * len(LARGE)
    pull_folder(Place(client, REPOSITORY), "v1", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(model)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_changes_meanwhile_spoils_nothing(model: Path, tmp_path: Path, form: Form) -> None:
    layout = LayoutRegistry(tmp_path / "layout")

    class Changing(LayoutRegistry):
        def write_blob(self, *arguments: object, **more: object) -> None:  # type: ignore[override]
            (model / "model" / "net.onnx").write_bytes(LARGE[::-1])
            super().write_blob(*arguments, **more)  # type: ignore[arg-type]

    with pytest.raises(TransferError):
        push_folder(model, Place(Changing(layout.folder), REPOSITORY), "v1", form=form, threads=1)
    assert layout.repositories() == []


def test_folders_that_are_no_models_are_refused(model: Path, tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path / "layout"), REPOSITORY)
    with pytest.raises(Refused, match="holds each file as it is"):
        push_folder(model, place, "v1", form="modelpack", deflate=True)
    with pytest.raises(BadArtifact, match="holds no folder model/"):
        push_folder(model / "model", place, "v1")
    (model / "ormbfile.yaml").write_bytes(b"format: H5")
    with pytest.raises(FormatMismatch, match=r"needs \*\.h5"):
        push_folder(model, place, "v1")
    (model / "model" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadArtifact, match="no regular file"):
        push_folder(model, place, "v1")
    assert place.registry.repositories() == []


def test_a_folder_with_something_in_it_is_left_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(LayoutRegistry(tmp_path / "layout"), REPOSITORY)
    push_folder(model, place, "v1")
    before = tree(model)
    with pytest.raises(AlreadyExists, match="something in"):
        pull_folder(place, "v1", model)
    with pytest.raises(AlreadyExists):
        pull_folder(place, "v1", model / "ormbfile.yaml")
    assert tree(model) == before
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(Refused, match="current folder"):
        pull_folder(place, "v1", Path())
    monkeypatch.chdir(tmp_path)
    assert pull_folder(place, "v1", Path("empty")).folder == empty
    assert tree(empty) == before


def test_a_folder_that_fills_meanwhile_is_left_alone(model: Path, tmp_path: Path) -> None:
    place, folder = Place(LayoutRegistry(tmp_path / "layout"), REPOSITORY), tmp_path / "back"
    push_folder(model, place, "v1")

    def fill(_done: int, _total: int) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "mine").write_bytes(b"mine")

    with pytest.raises(Refused, match="cannot be replaced"):
        pull_folder(place, "v1", folder, progress=fill)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_pull_that_broke_off_goes_on_where_it_was(
    client: DistributionRegistry, faulty: FaultyRegistry, model: Path, tmp_path: Path
) -> None:
    place, back = Place(client, REPOSITORY), tmp_path / "back"
    made = push_folder(model, place, "v1", form="modelpack")
    path = digest_of(LARGE)
    faulty.faults = [Fault("GET", path, cut_answer=2**20), Fault("GET", path, times=9, cut_answer=0)]
    with pytest.raises(Unreachable):
        pull_folder(place, "v1", back)
    assert not back.exists()
    assert len(left_beside(back)) == 1
    faulty.faults = []
    assert pull_folder(place, "v1", back).digest == made.digest
    assert faulty.asked("GET", path)[-1]["Range"] == f"bytes={2**20}-"
    assert tree(back) == tree(model)
    assert left_beside(back) == []


def test_two_pulls_to_one_folder_are_not_mixed(model: Path, tmp_path: Path) -> None:
    place, back = Place(LayoutRegistry(tmp_path / "layout"), REPOSITORY), tmp_path / "back"
    push_folder(model, place, "v1")
    said: list[str] = []

    def second(_done: int, _total: int) -> None:
        with pytest.raises(Refused) as raised:
            pull_folder(place, "v1", back)
        said.append(str(raised.value))

    pull_folder(place, "v1", back, progress=second)
    assert set(said) == {f"another pull to {back} is at work"}
    assert tree(back) == tree(model)


@pytest.mark.parametrize("form", FORMS)
def test_a_registry_that_lies_leaves_nothing(
    client: DistributionRegistry, faulty: FaultyRegistry, model: Path, tmp_path: Path, form: Form
) -> None:
    push_folder(model, Place(client, REPOSITORY), "v1", form=form)
    layer = max(faulty.blobs, key=lambda digest: len(faulty.blobs[digest]))
    faulty.faults = [Fault("GET", layer, times=9, damage=True)]
    with pytest.raises(DigestMismatch):
        pull_folder(Place(client, REPOSITORY), "v1", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert left_beside(tmp_path / "back") == []


def put_model(
    layout: LayoutRegistry, config: tuple[str, bytes], layers: list[tuple[bytes, Descriptor]]
) -> Place:
    """A hand-made artifact under v1."""
    for data, _ in layers:
        put_blob(layout, REPOSITORY, data)
    described = put_blob(layout, REPOSITORY, config[1], config[0])
    made = Manifest(described, tuple(layer for _, layer in layers))
    layout.put_manifest(REPOSITORY, made.to_bytes(), "application/vnd.oci.image.manifest.v1+json", "v1")
    return Place(layout, REPOSITORY)


def ormb_layer(*members: tuple[tarfile.TarInfo, bytes]) -> list[tuple[bytes, Descriptor]]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = packed.getvalue()
    return [(data, Descriptor.of("application/tar+gzip", data))]


def entry(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    return info, data if kind == tarfile.REGTYPE else b""


def raw_layer(
    name: str, data: bytes, org: str = "cncf", kind: str = "weight.v1.raw"
) -> tuple[bytes, Descriptor]:
    annotations = {f"org.{org}.model.filepath": name}
    made = Descriptor.of(f"application/vnd.{org}.model.{kind}", data)
    return data, Descriptor(made.media_type, made.digest, made.size, annotations)


ORMB = (ormb.CONFIG_TYPE, b'{"created":"0001-01-01T00:00:00Z","format":"ONNX"}')
PACK = (modelpack.CONFIG_TYPE, b'{"descriptor":{"authors":["Mia"]},"config":{"format":"ONNX"}}')


@pytest.mark.parametrize(
    ("config", "layers", "said"),
    [
        (ORMB, ormb_layer(entry("model/a"), entry("../../escaped")), "leads out"),
        (ORMB, ormb_layer(entry("model/a", kind=tarfile.SYMTYPE, link="/etc/passwd")), "symbolic link"),
        (
            ORMB,
            ormb_layer(entry("model/a"), entry("model/b", kind=tarfile.LNKTYPE, link="model/a")),
            "hard link",
        ),
        (ORMB, ormb_layer(entry("model/a"), entry("model/a")), "there twice"),
        (ORMB, ormb_layer(entry("model"), entry("model/a")), "there twice"),
        (ORMB, ormb_layer(entry("other/a")), "no file below model/"),
        (ORMB, ormb_layer(entry("model/a", bytes(2000))), "more than 1000 bytes"),
        (ORMB, [(b"no gzip", Descriptor.of("application/tar+gzip", b"no gzip"))], "gzip"),
        ((ORMB[0], b"[]"), ormb_layer(entry("model/a")), "object"),
        (
            ("application/vnd.oci.image.config.v1+json", b"{}"),
            ormb_layer(entry("model/a")),
            "models are ORMB's",
        ),
        (PACK, [raw_layer("../x", b"x")], "leads out"),
        (PACK, [raw_layer("a", b"x"), raw_layer("./a", b"y")], "there twice"),
        (PACK, [raw_layer("a", b"x"), raw_layer("a/b", b"y")], "there twice"),
        (PACK, [raw_layer("a", bytes(800)), raw_layer("b", bytes(801))], "1601 bytes, 1000 are allowed"),
        (PACK, [raw_layer("a", bytes(800)), raw_layer("b", bytes(800))], "more files or bytes together"),
        (PACK, [raw_layer("ormbfile.yaml", b"a: &x [*x]"), raw_layer("a", b"x")], "ormbfile.yaml"),
        (PACK, [raw_layer("ormbfile.yaml", b"author: Mia")], "no file below model/"),
    ],
)
def test_hostile_artifacts_are_refused_and_leave_nothing(
    tmp_path: Path, config: tuple[str, bytes], layers: list[tuple[bytes, Descriptor]], said: str
) -> None:
    inside = tmp_path / "deep" / "er"
    place = put_model(LayoutRegistry(tmp_path / "layout"), config, layers)
    with pytest.raises(BadArtifact, match=said):
        pull_folder(place, "v1", inside / "back", limits=Limits(max_bytes=1000))
    assert sorted(path.name for path in tmp_path.iterdir()) in (["deep", "layout"], ["layout"])
    assert not inside.exists() or list(inside.iterdir()) == []


def test_a_layer_of_another_size_than_announced_is_refused(tmp_path: Path) -> None:
    data, layer = raw_layer("a", b"weights")
    longer = Descriptor(layer.media_type, layer.digest, layer.size + 1, layer.annotations)
    place = put_model(LayoutRegistry(tmp_path / "layout"), PACK, [(data, longer)])
    with pytest.raises(TransferError, match="was announced with 8 bytes, 7 came"):
        pull_folder(place, "v1", tmp_path / "back")
    assert left_beside(tmp_path / "back") == []


def test_an_index_is_no_model(tmp_path: Path) -> None:
    layout = LayoutRegistry(tmp_path / "layout")
    layout.put_manifest(REPOSITORY, Index(()).to_bytes(), OCI_INDEX, "v1")
    with pytest.raises(BadArtifact, match=r"image\.index"):
        pull_folder(Place(layout, REPOSITORY), "v1", tmp_path / "back")


def test_foreign_modes_become_harmless(tmp_path: Path) -> None:
    odd = entry("model/b.onnx")
    odd[0].mode, odd[0].mtime = 0, 2**32
    layers = ormb_layer(entry("model/a"), odd, entry("beside"), entry("ormbfile.yaml", b"author: Eve"))
    pull_folder(put_model(LayoutRegistry(tmp_path / "layout"), ORMB, layers), "v1", tmp_path / "back")
    assert (tmp_path / "back/model/a").stat().st_mode & 0o7777 == 0o775
    assert (tmp_path / "back/model/b.onnx").stat().st_mode & 0o7777 == 0o400
    assert (tmp_path / "back/model/b.onnx").stat().st_mtime == 2**32
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["model", "ormbfile.yaml"]
    assert b"Eve" not in (tmp_path / "back/ormbfile.yaml").read_bytes()


def test_the_drafts_of_modelpack_and_packed_layers_are_pulled(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info, data = entry("code/net.py", b"pass")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    layers = [
        raw_layer("net.onnx", b"weights", "cnai"),
        raw_layer("code", packed.getvalue(), "cnai", "code.v1.tar"),
    ]
    config = ("application/vnd.cnai.model.config.v1+json", PACK[1])
    place = put_model(LayoutRegistry(tmp_path / "layout"), config, layers)
    assert pull_folder(place, "v1", tmp_path / "back").form == "modelpack"
    assert (tmp_path / "back/model/net.onnx").read_bytes() == b"weights"
    assert (tmp_path / "back/model/code/net.py").read_bytes() == b"pass"
    assert "author: Mia\n" in (tmp_path / "back/ormbfile.yaml").read_text()


PUSH = """
import sys
from pathlib import Path
from catchment.registry.copying import Place
from catchment.registry.opening import Access, parse_location
from catchment.registry.{module} import {function} as work

location = parse_location(sys.argv[1], field="REF")
place = Place(location.open(Access(), new=True), location.reference.repository)
folder, limit = Path(sys.argv[2]), int(sys.argv[3])


def told(done, total):
    if done >= limit:
        print("there", flush=True)
        sys.stdin.read()


arguments = {arguments}
work(*arguments, threads=1, progress=told)
"""


def killed_in_the_middle(reference: str, folder: Path, limit: int, *, push: bool) -> None:
    """Push or pull in another process, and kill it as soon as so many bytes are done."""
    parts = (
        {"module": "pushing", "function": "push_folder", "arguments": '(folder, place, "v1")'}
        if push
        else {"module": "pulling", "function": "pull_folder", "arguments": '(place, "v1", folder)'}
    )
    with subprocess.Popen(
        [sys.executable, "-c", PUSH.format(**parts), reference, str(folder), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize("backend", ["layout", *(pytest.param(each, marks=NEEDED) for each in ("plain",))])
def test_kills_in_the_middle_leave_nothing_half(
    backend: str, start_server: Callable[[str], Server], model: Path, tmp_path: Path, repository: str
) -> None:
    registry: Registry
    if backend == "layout":
        registry = LayoutRegistry(tmp_path / "layout")
        reference = f"oci:{tmp_path / 'layout'}:{repository}:v1"
    else:
        from tests.library.registry.conftest import connect

        server = start_server(backend)
        registry, reference = connect(server), f"{server.host}/{repository}:v1"
    killed_in_the_middle(reference, model, 2**20, push=True)
    place = Place(registry, repository)
    if backend == "layout":
        assert registry.repositories() == []
    made = push_folder(model, place, "v1")
    back = tmp_path / "back"
    killed_in_the_middle(reference, back, 2**20, push=False)
    assert not back.exists()
    (left,) = left_beside(back)
    (part,) = (tmp_path / left / "blobs").iterdir()
    assert part.stat().st_size >= 2**20
    assert pull_folder(place, "v1", back).digest == made.digest
    assert tree(back) == tree(model)
    assert left_beside(back) == []
    registry.close()
