"""A registry in a folder: its files, what other tools make of it, two writers, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from catchment.errors import DigestMismatch, InvalidField, NotFound, Unreachable
from catchment.models import go_json
from catchment.registry import layout_index
from catchment.registry.artifacts import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    digest_of,
)
from catchment.registry.backend import Chunk, bytes_source
from catchment.registry.layout import LayoutRegistry
from catchment.registry.layout_index import REF_NAME, place, tagged
from tests.conftest import wait_until
from tests.library.registry.making import put_artifact, put_blob, read_blob

REPOSITORY = "project/model"


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRegistry:
    return LayoutRegistry(tmp_path / "layout")


def index_of(folder: Path) -> list[dict[str, object]]:
    """The entries as they are written."""
    found = json.loads((folder / "index.json").read_bytes())
    assert (found["schemaVersion"], found["mediaType"]) == (2, OCI_INDEX)
    entries: list[dict[str, object]] = found["manifests"]
    return entries


def test_the_files_are_those_of_the_specification(layout: LayoutRegistry) -> None:
    stored = put_artifact(layout, REPOSITORY)
    assert json.loads((layout.folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert index_of(layout.folder) == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": stored.digest,
            "size": stored.size,
            "annotations": {REF_NAME: "project/model:v1"},
        }
    ]
    blobs = list((layout.folder / "blobs" / "sha256").iterdir())
    assert len(blobs) == 3
    assert all(digest_of(blob.read_bytes()) == f"sha256:{blob.name}" for blob in blobs)
    assert not list((layout.folder / "ingest").iterdir())


def test_a_layout_is_found_again(layout: LayoutRegistry) -> None:
    stored = put_artifact(layout, REPOSITORY)
    assert LayoutRegistry(layout.folder).resolve(REPOSITORY, "v1") == stored


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(InvalidField, match="neither empty nor an OCI image layout"):
        LayoutRegistry(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["precious"]


def test_a_layout_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0"}')
    with pytest.raises(InvalidField, match=r"2\.0"):
        LayoutRegistry(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("project/model:v1", ("project/model", "v1")),
        ("registry.example.org/project/model:v1", ("project/model", "v1")),
        ("localhost:5000/project/model:v1", ("project/model", "v1")),
        ("project/model", ("project/model", "")),
        ("v1", ("v1", "")),
        ("NOT A NAME", ("", "")),
        ("", ("", "")),
    ],
)
def test_other_tools_names_are_read(name: str, found: tuple[str, str]) -> None:
    assert place(Descriptor(OCI_MANIFEST, digest_of(b""), 0, {REF_NAME: name})) == found


def test_what_a_tag_has_left_stays_without_a_tag(layout: LayoutRegistry) -> None:
    first = put_artifact(layout, REPOSITORY, "latest", (b"one",))
    second = put_artifact(layout, REPOSITORY, "latest", (b"two",))
    assert [(one.digest, one.tags) for one in layout.artifacts(REPOSITORY)] == [
        (second.digest, ("latest",)),
        (first.digest, ()),
    ]
    layout.delete(REPOSITORY, "latest")
    assert layout.tags(REPOSITORY) == []
    assert layout.get_manifest(REPOSITORY, second.digest).digest == second.digest
    layout.put_manifest(REPOSITORY, layout.get_manifest(REPOSITORY, first.digest).data, OCI_MANIFEST, "back")
    assert layout.tags(REPOSITORY) == ["back"]


def test_other_repositories_tags_are_their_own(layout: LayoutRegistry) -> None:
    stored = put_artifact(layout, "a/x", "v1")
    assert put_artifact(layout, "b/x", "v1") == stored
    layout.delete("a/x", stored.digest)
    assert layout.resolve("b/x", "v1") == stored
    with pytest.raises(NotFound):
        layout.resolve("a/x", stored.digest)


def test_a_manifest_that_only_an_index_names_is_found(layout: LayoutRegistry) -> None:
    """Other tools give the manifests of an index no entry of their own."""
    config = put_blob(layout, REPOSITORY, b"{}")
    data = Manifest(config, ()).to_bytes()
    child = put_blob(layout, REPOSITORY, data, OCI_MANIFEST)
    index = Index((child,)).to_bytes()
    parent = put_blob(layout, REPOSITORY, index, OCI_INDEX)
    entry = tagged(parent, REPOSITORY, "v1")
    (layout.folder / "index.json").write_bytes(Index((entry,)).to_bytes())
    assert layout.get_manifest(REPOSITORY, child.digest).data == data
    with pytest.raises(NotFound):
        layout.get_manifest(REPOSITORY, config.digest)


def test_a_damaged_blob_is_noticed(layout: LayoutRegistry) -> None:
    stored = put_artifact(layout, REPOSITORY, "v1", (b"weights",))
    for digest in (digest_of(b"weights"), stored.digest):
        path = layout.folder / "blobs" / "sha256" / digest.partition(":")[2]
        path.chmod(0o644)
        path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DigestMismatch):
        read_blob(layout, REPOSITORY, digest_of(b"weights"))
    with pytest.raises(DigestMismatch):
        layout.get_manifest(REPOSITORY, "v1")


def test_two_writers_of_one_blob_and_one_index_do_not_meet(layout: LayoutRegistry) -> None:
    data = os.urandom(2**22)
    digest = digest_of(data)
    both = threading.Barrier(2, timeout=30)

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        def chunks() -> Iterator[Chunk]:
            yield data[offset : offset + 2**20]
            both.wait()
            yield data[offset + 2**20 :]

        yield chunks()

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(layout.write_blob, REPOSITORY, digest, len(data), opened) for _ in range(2)]
        for writer in writers:
            writer.result(60)
        tags = [pool.submit(put_artifact, layout, REPOSITORY, f"v{n}", (b"%d" % n,)) for n in range(24)]
        for tag in tags:
            tag.result(60)
    assert read_blob(layout, REPOSITORY, digest) == data
    assert len(layout.tags(REPOSITORY)) == 24
    assert not list((layout.folder / "ingest").iterdir())


def test_a_lock_that_is_held_has_a_deadline(layout: LayoutRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_index, "LOCK_WAIT_S", 0.05)
    other = LayoutRegistry(layout.folder)
    with layout._index.locked(), pytest.raises(Unreachable, match="locked by another process"):
        put_artifact(other, REPOSITORY)


KILLED = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from catchment.registry.artifacts import digest_of
from catchment.registry.layout import LayoutRegistry

data = Path(sys.argv[2]).read_bytes()

@contextmanager
def opened(offset):
    def chunks():
        yield data[: len(data) // 2]
        print("half", flush=True)
        time.sleep(600)
    yield chunks()

LayoutRegistry(Path(sys.argv[1])).write_blob("project/model", digest_of(data), len(data), opened)
"""


def test_a_killed_writer_leaves_no_half_blob_and_is_gone_on_with(
    layout: LayoutRegistry, tmp_path: Path
) -> None:
    data = os.urandom(2**21)
    (tmp_path / "data").write_bytes(data)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(layout.folder), str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert not layout.has_blob(REPOSITORY, digest_of(data))
    (left,) = (layout.folder / "ingest").iterdir()
    assert left.stat().st_size == len(data) // 2
    asked: list[int] = []

    @contextmanager
    def opened(offset: int) -> Iterator[Iterator[Chunk]]:
        asked.append(offset)
        yield iter([data[offset:]])

    layout.write_blob(REPOSITORY, digest_of(data), len(data), opened)
    assert asked == [len(data) // 2]
    assert read_blob(layout, REPOSITORY, digest_of(data)) == data
    assert not list((layout.folder / "ingest").iterdir())


def test_what_an_earlier_try_has_left_damaged_is_thrown_away(layout: LayoutRegistry) -> None:
    digest = digest_of(b"wanted")
    (layout.folder / "ingest").mkdir()
    (layout.folder / "ingest" / f"{digest.replace(':', '-')}.partial").write_bytes(b"xx")
    with pytest.raises(DigestMismatch):
        layout.write_blob(REPOSITORY, digest, 6, bytes_source(b"wanted"))
    layout.write_blob(REPOSITORY, digest, 6, bytes_source(b"wanted"))
    assert read_blob(layout, REPOSITORY, digest) == b"wanted"


KILLED_AT_THE_INDEX = """
import os, signal, sys
from pathlib import Path
from catchment.registry import partial
from catchment.registry.layout import LayoutRegistry
from tests.library.registry.making import put_artifact

layout = LayoutRegistry(Path(sys.argv[1]))
put_artifact(layout, "project/model", "v1", (b"one",))
replace = Path.replace

def killed(path, target):
    if Path(target).name == "index.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = killed
put_artifact(layout, "project/model", "v2", (b"two",))
"""


def test_a_kill_before_the_tag_leaves_the_layout_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_INDEX, str(folder)],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    layout = LayoutRegistry(folder)
    assert layout.tags(REPOSITORY) == ["v1"]
    put_artifact(layout, REPOSITORY, "v2", (b"two",))
    assert layout.tags(REPOSITORY) == ["v1", "v2"]


def test_a_broken_index_is_told(layout: LayoutRegistry) -> None:
    (layout.folder / "index.json").write_bytes(b'{"manifests":[{"digest":"x"}]}')
    with pytest.raises(InvalidField, match=r"manifest.manifests\[0\]"):
        layout.tags(REPOSITORY)


def test_a_new_layout_is_made_by_two_at_a_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(LayoutRegistry, tmp_path / "layout") for _ in range(8)]
        assert {one.result(30).name for one in made} == {f"oci:{tmp_path / 'layout'}"}
    wait_until(lambda: index_of(tmp_path / "layout") == [], timeout_s=5, what="the index")
    assert go_json.encode({"a": "<ü>"}) == '{"a":"\\u003cü\\u003e"}'.encode()


def test_what_nobody_names_is_removed_when_it_is_old(layout: LayoutRegistry) -> None:
    kept = put_artifact(layout, REPOSITORY, "v1", (b"kept",))
    gone = put_artifact(layout, REPOSITORY, "v2", (b"gone",))
    child = put_artifact(layout, REPOSITORY, "", (b"child",))
    layout.put_manifest(REPOSITORY, Index((child,)).to_bytes(), OCI_INDEX, "index")
    layout.delete(REPOSITORY, gone.digest)
    (layout.folder / "ingest" / "left.partial").write_bytes(b"x" * 10)
    assert layout.prune(3600) == 0
    freed = layout.prune(0)
    assert freed == gone.size + len(b"gone") + 10
    assert not layout.has_blob(REPOSITORY, digest_of(b"gone"))
    assert not list((layout.folder / "ingest").iterdir())
    assert layout.get_manifest(REPOSITORY, "v1").digest == kept.digest
    assert read_blob(layout, REPOSITORY, digest_of(b"child")) == b"child"


def test_an_old_blob_that_is_pushed_again_counts_as_new(layout: LayoutRegistry) -> None:
    blob = put_blob(layout, REPOSITORY, b"old")
    path = layout.folder / "blobs" / "sha256" / blob.digest.partition(":")[2]
    os.utime(path, (0, 0))
    put_blob(layout, REPOSITORY, b"old")
    assert layout.prune(3600) == 0
    os.utime(path, (0, 0))
    assert layout.prune(3600) == 3


def test_what_is_being_written_is_not_removed(layout: LayoutRegistry) -> None:
    data = os.urandom(2**20)

    @contextmanager
    def opened(_offset: int) -> Iterator[Iterator[Chunk]]:
        def chunks() -> Iterator[Chunk]:
            yield data[:1000]
            layout.prune(0)
            yield data[1000:]

        yield chunks()

    layout.write_blob(REPOSITORY, digest_of(data), len(data), opened)
    assert read_blob(layout, REPOSITORY, digest_of(data)) == data


FULL = """
import resource, sys
from pathlib import Path
from catchment.errors import Unreachable
from catchment.registry.artifacts import digest_of
from catchment.registry.backend import bytes_source
from catchment.registry.layout import LayoutRegistry

layout, data = LayoutRegistry(Path(sys.argv[1])), b"x" * 3000000
resource.setrlimit(resource.RLIMIT_FSIZE, (2000000, 2000000))
try:
    layout.write_blob("project/model", digest_of(data), len(data), bytes_source(data))
except Unreachable as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_told_and_given_back(layout: LayoutRegistry) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(layout.folder)],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "cannot be written: File too large" in done.stdout
    assert not list((layout.folder / "ingest").iterdir())


def test_thousands_of_tags_are_no_burden(layout: LayoutRegistry) -> None:
    stored = put_artifact(layout, REPOSITORY)
    entries = [tagged(stored, REPOSITORY, f"v{n}") for n in range(20_000)]
    (layout.folder / "index.json").write_bytes(Index(tuple(entries)).to_bytes())
    assert (layout.folder / "index.json").stat().st_size > 4 * 2**20
    assert len(layout.tags(REPOSITORY)) == 20_000
    put_artifact(layout, REPOSITORY, "one-more")
    assert layout.resolve(REPOSITORY, "one-more") == layout.resolve(REPOSITORY, "v19999")
