"""Models as zips: uploads are taken file by file or refused, downloads are never built."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.errors import BadArtifact, CatchmentError
from catchment.models.config import ModelConfig, from_yaml
from catchment.models.files import Limits, ModelFile
from catchment.models.spans import BytesSource
from catchment.models.stored_zip import StoredZip
from catchment.models.zips import read_zip, version_zip

ON_DISK = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def read(folder: Path, data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes]]:
    path = folder / "upload.zip"
    path.write_bytes(data)
    return [(each.name, b"".join(each.read())) for each in read_zip(path, limits)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["mine", "model", "é x", "."])
def test_the_one_folder_becomes_the_model(tmp_path: Path, method: int, top: str) -> None:
    top = "./mine" if top == "." else top
    data = zipped((f"{top}/", b""), (f"{top}/m.onnx", b"abc" * 999), (f"{top}/a/b", b""), method=method)
    assert read(tmp_path, data) == [("model/m.onnx", b"abc" * 999), ("model/a/b", b"")]


def test_zips_of_the_systems_own_program_are_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run").write_bytes(b"abc")
    (tmp_path / "mine" / "run").chmod(0o755)
    subprocess.run(["zip", "-qr", "made.zip", "mine"], cwd=tmp_path, check=True)
    (found,) = [(each.name, each.mode, b"".join(each.read())) for each in read_zip(tmp_path / "made.zip")]
    assert found == ("model/run", 0o755, b"abc")


def test_the_notes_of_a_mac_are_no_second_folder(tmp_path: Path) -> None:
    data = zipped(("mine/a", b"x"), ("__MACOSX/mine/._a", b"notes"))
    assert read(tmp_path, data) == [("model/a", b"x")]


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("a", b"x")], "the file 'a' at its top; pack one folder"),
        ([("m/a", b"x"), ("README", b"x")], "the file 'README' at its top"),
        ([("m/a", b"x"), ("n/a", b"x")], "'m' and 'n' at its top"),
        ([], "no file"),
        ([("m/", b"")], "no file"),
        ([("m/../../x", b"x")], "no plain relative path"),
        ([("/m/x", b"x")], "no plain relative path"),
        ([("m\\..\\x", b"x")], "no plain relative path"),
        ([("m/a\x01", b"x")], "control character"),
        ([(link("m/l"), b"/etc/passwd")], "neither a file nor a folder"),
        ([("m/a", b"x"), ("m//a", b"y")], "twice"),
        ([("m/a", b"x"), ("m/a/b", b"y")], "twice"),
        ([("m/" + "n" * 256, b"x")], "255 bytes"),
    ],
)
def test_other_zips_are_refused_with_the_reason(
    tmp_path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], said: str
) -> None:
    with pytest.raises(BadArtifact, match=said):
        read(tmp_path, zipped(*entries))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(BadArtifact, match="stored and deflated are taken"):
        read(tmp_path, zipped(("m/a", b"x"), method=method))


def test_damaged_zips_are_refused(tmp_path: Path) -> None:
    good = zipped(("m/a", b"precious content" * 99), method=zipfile.ZIP_STORED)
    for data in (b"", b"PK", good[:-1], good[: len(good) // 2], good.replace(b"precious", b"worthles", 1)):
        with pytest.raises(BadArtifact, match="no usable zip"):
            read(tmp_path, data)
    encrypted = bytearray(good)
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadArtifact, match="encrypted"):
        read(tmp_path, bytes(encrypted))


def test_bombs_are_refused(tmp_path: Path) -> None:
    limits = Limits(max_files=3, max_bytes=2**22, max_ratio=50, free_bytes=2**20)
    assert read(tmp_path, zipped(("m/a", bytes(2**20))), limits) == [("model/a", bytes(2**20))]
    for data, said in [
        (zipped(("m/a", bytes(2**21))), "50 times"),
        (zipped(("m/a", os.urandom(2**21)), ("m/b", os.urandom(2**21 + 1))), f"more than {2**22} bytes"),
        (zipped(*((f"m/{number}", b"") for number in range(4))), "4 files, 3 are allowed"),
    ]:
        with pytest.raises(BadArtifact, match=said):
            read(tmp_path, data, limits)


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """The bomb of overlapping files: two entries of the directory that point to one."""
    data = bytearray(zipped(("m/a", bytes(2000)), ("m/b", bytes(2000))))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 42 : second + 46] = bytes(4)
    with pytest.raises(BadArtifact, match=r"whose bytes are another's too|no usable zip"):
        read(tmp_path, bytes(data))


def test_a_directory_as_large_as_a_disk_is_not_read(tmp_path: Path) -> None:
    """A file with a hole, whose end says that all before it is the directory."""
    path, size = tmp_path / "huge.zip", 80 * 2**20
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0))
    with pytest.raises(BadArtifact, match=f"its directory is {size} bytes"):
        list(read_zip(path))


def made(name: str, data: bytes, *, known: bool = True, mtime: int = 1_700_000_001) -> ModelFile:
    crc = zlib.crc32(data) if known else None
    return ModelFile(name, len(data), BytesSource(data), crc32=crc, mtime=mtime)


NAMES = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.binary(max_size=400), st.booleans()), max_size=5), st.data())
def test_a_download_is_a_zip_of_known_size_in_any_range(
    files: dict[str, tuple[bytes, bool]], data: st.DataObject
) -> None:
    archive = StoredZip([made(f"model/{name}", data, known=known) for name, (data, known) in files.items()])
    whole = b"".join(archive.read())
    assert len(whole) == archive.size
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        assert [each.orig_filename for each in opened.infolist()] == [f"model/{name}" for name in files]
        assert [opened.read(each) for each in opened.infolist()] == [content for content, _ in files.values()]
    for _ in range(10):
        start = data.draw(st.integers(0, archive.size))
        stop = data.draw(st.integers(start, archive.size))
        assert b"".join(archive.read(start, stop)) == whole[start:stop]
    with pytest.raises(BadArtifact, match="no range"):
        archive.read(0, archive.size + 1)


def test_a_version_is_downloaded_with_its_description(tmp_path: Path) -> None:
    config = ModelConfig(author="Mia", format="ONNX", directory_structure=("model/m.onnx",))
    archive = version_zip("v1", config, [made("model/m.onnx", b"abc"), made("model/ü/x", b"")])
    (tmp_path / "v1.zip").write_bytes(b"".join(archive.read()))
    subprocess.run(["unzip", "-q", "v1.zip"], cwd=tmp_path, check=True)
    found = (path.relative_to(tmp_path / "v1") for path in (tmp_path / "v1").rglob("*.*"))
    assert sorted(path.as_posix() for path in found) == ["model/m.onnx", "ormbfile.yaml"]
    assert from_yaml((tmp_path / "v1" / "ormbfile.yaml").read_bytes()) == config
    with zipfile.ZipFile(tmp_path / "v1.zip") as opened:
        info = opened.getinfo("v1/model/m.onnx")
        assert (info.date_time, info.external_attr >> 16) == ((2023, 11, 14, 22, 13, 20), 0o100644)
    # What was downloaded can be uploaded: the description is then one of the model's files.
    assert next(each.name for each in read_zip(tmp_path / "v1.zip")) == "model/ormbfile.yaml"


class Zeros:
    def read(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            yield bytes(min(2**20, stop - start))
            start += min(2**20, stop - start)


def sparse(archive: StoredZip, path: Path) -> None:
    """Write the zip without the zeros in the middle of large files."""
    with path.open("wb") as file:
        file.truncate(archive.size)
        for start in (0, 5 * 2**30 - 2**16, archive.size - 2**16):
            file.seek(start)
            file.write(b"".join(archive.read(start, min(archive.size, start + 2**17))))


def test_files_beyond_four_gib_are_found_where_they_are(tmp_path: Path) -> None:
    huge = ModelFile("v/huge", 5 * 2**30, Zeros(), crc32=0)
    archive = StoredZip([huge, made("v/after", b"behind it"), made("v/last", b"z")])
    sparse(archive, tmp_path / "huge.zip")
    with zipfile.ZipFile(tmp_path / "huge.zip") as opened:
        assert opened.getinfo("v/huge").file_size == 5 * 2**30
        assert opened.read("v/after") == b"behind it"
        assert opened.read("v/last") == b"z"
    for command, said in (["-l", "huge.zip"], f"{5 * 2**30}"), (["-p", "huge.zip", "v/after"], "behind it"):
        told = subprocess.run(["unzip", *command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said in told.stdout


def test_more_files_than_sixteen_bits_count() -> None:
    archive = StoredZip([made(f"v/{number}", b"") for number in range(65_540)])
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.read()))) as opened:
        assert len(opened.infolist()) == 65_540


@pytest.mark.parametrize("mtime", [-(10**18), 0, 10**9, 10**11, 10**18])
def test_any_time_can_be_written(mtime: int) -> None:
    archive = StoredZip([made("a", b"x", mtime=mtime)])
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.read()))) as opened:
        assert 1980 <= opened.infolist()[0].date_time[0] <= 2107


@ON_DISK
@given(st.data())
def test_a_mutated_zip_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    damaged = bytearray(zipped(("m/a", b"abc" * 30), ("m/é/b", b"x" * 100), ("m/c", b""), method=method))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(damaged)))
        damaged[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    try:
        found = read(tmp_path, bytes(damaged), Limits(max_files=50, max_bytes=10**6))
    except CatchmentError:
        return
    assert all(name.startswith("model/") and ".." not in name.split("/") for name, _ in found)
