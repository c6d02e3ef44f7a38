"""Unpacking sent scripts: nothing but plain files in their own folder."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from catchment.errors import SiteError
from catchment.site import archive


def packed(folder: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in entries:
            zipped.writestr(name, data)
    return path


def info(name: str, mode: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    return made


def test_files_and_folders_arrive(tmp_path: Path) -> None:
    path = packed(
        tmp_path, ("a/", b""), ("a/b.py", b"1"), (info("run.sh", stat.S_IFREG | 0o755), b"2"), ("c/d/e", b"3")
    )
    archive.unpack(path, tmp_path / "out")
    assert (tmp_path / "out/a/b.py").read_bytes() == b"1"
    assert (tmp_path / "out/c/d/e").read_bytes() == b"3"
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o111


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "..", "a\\..\\x", "C:\\x", pytest.param("x\0.py", id="nul")]
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    made = zipfile.ZipInfo("x")
    made.filename = name
    with pytest.raises(SiteError, match="no plain relative path"):
        archive.unpack(packed(tmp_path, (made, b"evil")), tmp_path / "out" / "in")
    assert not (tmp_path / "out" / "in").exists()
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "out" / "x").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    path = packed(tmp_path, (info("link", kind | 0o777), b"/etc/passwd"))
    with pytest.raises(SiteError, match="neither a file nor a folder"):
        archive.unpack(path, tmp_path / "out")


def test_size_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(SiteError, match="more than 1000 bytes"):
        archive.unpack(packed(tmp_path, ("a", b"0" * 600), ("b", b"0" * 600)), tmp_path / "out")
    with pytest.raises(SiteError, match="are 4 files, 3 are allowed"):
        archive.unpack(packed(tmp_path, *((str(n), b"") for n in range(4))), tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="'a' twice"):
        archive.unpack(packed(tmp_path, ("a", b"1"), ("a", b"2")), tmp_path / "out")
    with pytest.raises(SiteError):
        archive.unpack(packed(tmp_path, ("a", b"1"), ("a/b", b"2")), tmp_path / "out")


def test_damaged_archives_are_no_zip(tmp_path: Path) -> None:
    data = io.BytesIO(packed(tmp_path, ("a", b"hello hello hello hello" * 50)).read_bytes()).getvalue()
    for number, damaged in enumerate((b"", b"PK", data[:-20], data[:40] + b"\xff" * 8 + data[48:])):
        (tmp_path / "a.zip").write_bytes(damaged)
        with pytest.raises(SiteError, match="no usable zip"):
            archive.unpack(tmp_path / "a.zip", tmp_path / f"out{number}")
