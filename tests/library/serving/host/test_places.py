"""Models as folders by digest, wherever their blobs are, and the clearing up after them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catchment.catalog import made
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile, by_id
from catchment.errors import NotFound, WrongState
from catchment.serving.host.places import Models, Places
from catchment.serving.workload import ServedModel
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from catchment.store.blobs import put_bytes

FILES = {"model/net.onnx": b"graph" * 100, "model/net.data": b"weights" * 1000}


@pytest.fixture(params=["folder", "another folder", "remote"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store whose blobs are in the home, elsewhere, or behind fsspec."""
    places = {
        "folder": "",
        "another folder": str(tmp_path / "elsewhere"),
        "remote": f"memory://{secrets.token_hex(4)}",
    }
    settings = Settings(home=tmp_path / "home", storage_url=places[request.param])
    migrate(settings)
    opened = open_store(settings)
    yield opened
    opened.close()


def register(store: Store, version: str = "v1") -> ServedModel:
    """A ready version of several files."""
    files = [VersionFile(path, put_bytes(store.blobs, data), len(data)) for path, data in FILES.items()]
    columns = {"runtime": "onnx", "format": "ONNX", "lineage": {}, "name": "net", "version": version}
    row = store.db.write(
        lambda tx: by_id(tx, made.insert_ready(tx, files, Actor(), namespace="default", **columns))
    )
    return ServedModel(row.id, f"default/net:{version}", row.digest, "ONNX", (), (), 1)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()
    }


def test_a_version_is_laid_out_once_for_all_who_want_it(anywhere: Store) -> None:
    model, places = register(anywhere), Places(anywhere.settings.home)
    places.make()
    models, found = Models(anywhere, places), set()
    threads = [threading.Thread(target=lambda: found.add(models.folder(model))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {places.model(model.digest)}
    assert content(places.model(model.digest)) == FILES
    inode = (places.model(model.digest) / "model/net.onnx").stat().st_ino
    assert (Models(anywhere, places).folder(model) / "model/net.onnx").stat().st_ino == inode


def test_it_needs_neither_version_nor_blobs_once_it_is_there(anywhere: Store) -> None:
    model, places = register(anywhere), Places(anywhere.settings.home)
    places.make()
    models = Models(anywhere, places)
    folder = models.folder(model)
    for data in FILES.values():
        anywhere.blobs.delete(put_bytes(anywhere.blobs, data))
    assert content(models.folder(model)) == FILES
    assert models.folder(replace(model, model_id="gone")) == folder


def test_half_a_layout_is_begun_anew_and_leaves_nothing(anywhere: Store) -> None:
    model, places = register(anywhere), Places(anywhere.settings.home)
    places.make()
    aside = places.model(model.digest).with_name(f"{places.model(model.digest).name}-new")
    (aside / "model").mkdir(parents=True)
    (aside / "model" / "left.onnx").write_bytes(b"from a killed host")
    assert content(Models(anywhere, places).folder(model)) == FILES
    assert not aside.exists()


def test_what_is_not_there_or_not_the_same_is_not_laid_out(anywhere: Store) -> None:
    model, places = register(anywhere), Places(anywhere.settings.home)
    places.make()
    models = Models(anywhere, places)
    with pytest.raises(NotFound):
        models.folder(replace(model, model_id="never"))
    with pytest.raises(WrongState, match="has other bytes now"):
        models.folder(replace(model, digest=f"sha256:{'1' * 64}"))
    anywhere.blobs.delete(put_bytes(anywhere.blobs, FILES["model/net.data"]))
    with pytest.raises(NotFound):
        models.folder(model)
    assert not places.model(model.digest).exists()


def test_sweeps_leave_what_is_in_use(tmp_path: Path, anywhere: Store) -> None:
    places = Places(anywhere.settings.home)
    places.make()
    models = Models(anywhere, places)
    kept = models.folder(register(anywhere))
    (places.models / ("b" * 64)).mkdir()
    (places.models / ("c" * 64 + "-new")).mkdir()
    models.sweep({f"sha256:{kept.name}"})
    assert list(places.models.iterdir()) == [kept]
    for uid, key in (("u1", "digits-default-r1"), ("u1", "digits-default-r2"), ("u2", "other-default-r1")):
        for suffix in ("", ".1"):
            log = places.log(uid, key, 0)
            log.parent.mkdir(exist_ok=True)
            log.with_name(log.name + suffix).write_text("x")
    places.sweep({("u1", "digits-default-r2")})
    assert sorted(str(log.relative_to(places.root)) for log in places.root.glob("u*/*")) == [
        "u1/digits-default-r2-0.log",
        "u1/digits-default-r2-0.log.1",
    ]
    assert not (places.root / "u2").exists()
