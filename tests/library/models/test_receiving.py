"""Files that come in are written once, with the digests that they have."""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from catchment.errors import BadArtifact
from catchment.models.config import ModelConfig
from catchment.models.files import ModelFile
from catchment.models.receiving import receive
from catchment.models.spans import BytesSource
from catchment.models.zips import read_zip, version_zip
from catchment.registry.layer_reading import read_layer
from catchment.registry.stored_layer import StoredLayer

DATA = {"model/a": b"abc" * 400_000, "model/sub/b": b""}


def places(folder: Path) -> Callable[[], Path]:
    counted = itertools.count()
    return lambda: folder / str(next(counted))


def check(received: list[ModelFile]) -> None:
    assert [(file.name, file.size) for file in received] == [(name, len(data)) for name, data in DATA.items()]
    for file in received:
        data = DATA[file.name]
        assert b"".join(file.source.read(0, file.size)) == data
        assert (file.digest, file.crc32) == (f"sha256:{hashlib.sha256(data).hexdigest()}", zlib.crc32(data))


def test_a_zip_and_a_layer_give_the_same_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in DATA.items():
            archive.writestr(name.replace("model/", "mine/"), data)
    (tmp_path / "upload.zip").write_bytes(buffer.getvalue())
    check(list(receive(read_zip(tmp_path / "upload.zip"), places(tmp_path))))
    made = [ModelFile(name, len(data), BytesSource(data), mtime=7) for name, data in DATA.items()]
    (tmp_path / "layer").mkdir()
    received = list(receive(read_layer(StoredLayer(made).read()), places(tmp_path / "layer")))
    check(received)
    assert {file.mtime for file in received} == {7}
    # With the CRCs that were learned on the way, the trailer of a layer and a whole zip need no further pass.
    assert StoredLayer(received).digest() == StoredLayer(made).digest()
    assert StoredLayer(received).tar_crc32() == StoredLayer(made).tar_crc32()
    assert version_zip("v", ModelConfig(), received).size == version_zip("v", ModelConfig(), made).size


def test_a_damaged_upload_fails_where_it_is_damaged(tmp_path: Path) -> None:
    layer = b"".join(StoredLayer([ModelFile("model/a", 5000, BytesSource(bytes(5000)))]).read())
    with pytest.raises(BadArtifact, match="cut off"):
        list(receive(read_layer([layer[:3000]]), places(tmp_path)))
