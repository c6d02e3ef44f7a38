"""Layers that others made, with good or bad intent: read, or refused by one kind of error."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import BadArtifact, CatchmentError
from catchment.models.files import Limits, ModelFile
from catchment.models.spans import BytesSource
from catchment.registry.layer_reading import read_layer
from catchment.registry.stored_layer import StoredLayer
from catchment.registry.tar_headers import header, tar_of

Found = list[tuple[str, bytes]]


def read(data: bytes, limits: Limits | None = None, cut: int = 700) -> Found:
    pieces = (data[start : start + cut] for start in range(0, len(data), cut))
    return [(each.name, b"".join(each.read())) for each in read_layer(pieces, limits)]


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


FOLDER = entry("model", type=tarfile.DIRTYPE)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "/", ".//./"])
def test_what_the_original_accepts_is_read(form: int, prefix: str) -> None:
    archive = tar(
        entry("./", type=tarfile.DIRTYPE),
        FOLDER,
        entry(f"{prefix}model/a", b"abc", mtime=12),
        entry(f"{prefix}model/b/c", b""),
        form=form,
    )
    for packed in (archive, gzip.compress(archive), zstandard.compress(archive)):
        assert read(packed) == [("model/a", b"abc"), ("model/b/c", b"")]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(form: int) -> None:
    names = ["model/" + "n" * 200, "model/" + "/".join(["d" * 99] * 9), "model/ünï"]
    archive = tar(*(entry(name, name.encode(), mtime=1.5) for name in names), form=form)
    assert read(archive) == [(name, name.encode()) for name in names]


def test_gnu_tar_and_gzip_are_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_bytes(b"abc" * 1000)
    for form in ("gnu", "ustar", "pax", "v7"):
        subprocess.run(["tar", "--format", form, "-czf", "layer.tgz", "model"], cwd=tmp_path, check=True)
        assert read((tmp_path / "layer.tgz").read_bytes()) == [("model/a", b"abc" * 1000)]


def test_members_of_gzip_one_after_the_other_are_one_stream() -> None:
    archive = tar(entry("model/a", b"abc"))
    for cut in (1, 2, 700, 10**6):
        assert read(gzip.compress(archive[:700]) + gzip.compress(archive[700:]), cut=cut) == [
            ("model/a", b"abc")
        ]


def test_members_that_nobody_reads_are_passed_over() -> None:
    archive = gzip.compress(tar(*(entry(f"model/{number}", bytes(10_000)) for number in range(5))))
    assert [each.name for each in read_layer([archive])] == [f"model/{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry("../x", b"a")], "leads out"),
        ([entry("model/../../x", b"a")], "leads out"),
        ([entry("/../x", b"a")], "leads out"),
        ([entry("model\\..\\x", b"a")], "backslash"),
        ([entry("model/a\nb", b"a")], "control character"),
        ([entry("model/l", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "a symbolic link"),
        ([entry("model/l", type=tarfile.LNKTYPE, linkname="model/a")], "a hard link"),
        ([entry("model/d", type=tarfile.CHRTYPE)], "a device"),
        ([entry("model/d", type=tarfile.FIFOTYPE)], "a pipe"),
        ([entry("model/d", type=b"V")], "of kind b'V'"),
        ([entry("model/a"), entry("./model//a")], "twice"),
        ([entry("model/a"), entry("model/a/b")], "twice"),
        ([entry("model/a/b"), entry("model/a")], "twice"),
        ([entry("model/a"), entry("model/a", type=tarfile.DIRTYPE)], "twice"),
        ([entry("model/" + "n" * 256)], "longer"),
        ([entry("model/" + ("n" * 200 + "/") * 21 + "n")], "longer"),
        ([entry("model/" + "n/" * 64 + "n")], "64 folders deep"),
        ([entry("model/sparse", pax_headers={"GNU.sparse.major": "1"})], "sparse"),
    ],
)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_must_not_be_unpacked_is_refused(
    entries: list[tuple[tarfile.TarInfo, bytes]], said: str, form: int
) -> None:
    if said == "sparse":
        form = tarfile.PAX_FORMAT
    with pytest.raises(BadArtifact, match=said):
        read(gzip.compress(tar(*entries, form=form)))


GOOD = tar(entry("model/a", b"abc" * 500), entry("model/b", b"x"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: b"", "cut off"),
        (lambda: b"no archive at all", "cut off"),
        (lambda: b"n" * 600, "no sound tar"),
        (lambda: gzip.compress(GOOD)[:-1], "cut off"),
        (lambda: gzip.compress(GOOD)[:-9], "cut off"),
        (lambda: gzip.compress(GOOD[:1024]), "cut off"),
        (lambda: GOOD[:1000], "cut off"),
        (lambda: gzip.compress(GOOD) + b"junk", "goes on after the end of its gzip"),
        (lambda: gzip.compress(GOOD) + b"\x1f", "goes on after the end of its gzip"),
        (lambda: gzip.compress(GOOD + b"junk"), "goes on after the end of its tar"),
        (lambda: gzip.compress(GOOD)[:-8] + bytes(8), "no sound gzip"),
        (lambda: b"\x1f\x8bno gzip", "no sound gzip"),
        (lambda: b"\x28\xb5\x2f\xfdno zstd", "no sound zstd"),
        (lambda: zstandard.compress(GOOD)[:-3], "cut off"),
        (lambda: GOOD[:124] + b"9" * 11 + GOOD[135:], "checksum"),
        (lambda: gzip.compress(bytes(512) + GOOD), "goes on"),
    ],
)
def test_damaged_and_cut_off_layers_are_refused(spoil: Callable[[], bytes], said: str) -> None:
    with pytest.raises(BadArtifact, match=said):
        read(spoil())


def test_zstd_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadArtifact, match="pip install zstandard"):
        read(zstandard.compress(GOOD))


def test_the_packing_that_was_announced_is_held_to() -> None:
    with pytest.raises(BadArtifact, match="is tar, gzip was announced"):
        list(read_layer([GOOD], packing="gzip"))
    with pytest.raises(BadArtifact, match="is gzip, tar was announced"):
        list(read_layer([gzip.compress(GOOD)], packing="tar"))


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_bombs_are_refused_before_they_unfold(compress: Callable[[bytes], bytes]) -> None:
    limits = Limits(max_ratio=50, free_bytes=2**20)
    bomb = compress(tar(entry("model/a", bytes(40 * 2**20))))
    with pytest.raises(BadArtifact, match="50 times its size"):
        read(bomb, limits, cut=len(bomb))
    read(compress(tar(entry("model/a", bytes(2**19)))), limits)


def test_more_files_or_bytes_than_allowed_are_refused() -> None:
    entries = [entry(f"model/{number}", b"abc") for number in range(5)]
    assert len(read(tar(*entries), Limits(max_files=5))) == 5
    with pytest.raises(BadArtifact, match="more than 4 entries"):
        read(tar(*entries), Limits(max_files=4))
    with pytest.raises(BadArtifact, match="more than 14 bytes"):
        read(tar(*entries), Limits(max_bytes=14))


def test_a_size_that_is_announced_but_never_comes_is_refused_at_once() -> None:
    class Never:
        def read(self, start: int, stop: int) -> object:
            raise AssertionError

    huge = header(ModelFile("model/a", 2**60, Never()))  # type: ignore[arg-type]
    with pytest.raises(BadArtifact, match="unfolds to more"):
        read(huge + bytes(1024))


def test_extended_headers_without_end_are_refused() -> None:
    one = tar(entry("model/a", b"", pax_headers={"comment": "x"}), form=tarfile.PAX_FORMAT)[:1024]
    with pytest.raises(BadArtifact, match="more than 10 entries"):
        read(one * 1000, Limits(max_files=10))
    with pytest.raises(BadArtifact, match="a file should follow"):
        read(one + bytes(1024))


LIMITS = Limits(max_files=50, max_bytes=10**6)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_layer_is_read_or_refused(data: st.DataObject) -> None:
    files = [
        ModelFile("model/a", 700, BytesSource(bytes(700))),
        ModelFile("model/" + "é" * 80, 3, BytesSource(b"abc")),
    ]
    plain = b"".join(tar_of(files).read(0, tar_of(files).size))
    stored = b"".join(StoredLayer(files).read())
    gnu = tar(entry("model/" + "n" * 150, b"abc"), entry("model/b", b"x" * 600))[:6144]
    packed = [plain, stored, gnu, gzip.compress(gnu), zstandard.compress(gnu)]
    damaged = bytearray(data.draw(st.sampled_from(packed)))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(damaged)))
        damaged[place : place + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    if data.draw(st.booleans()):
        damaged = _with_sums(damaged)
    try:
        found = read(bytes(damaged), LIMITS, cut=data.draw(st.sampled_from([1, 100, 10**6])))
    except CatchmentError:
        return
    assert all(".." not in name.split("/") and not name.startswith("/") for name, _ in found)


def _with_sums(archive: bytearray) -> bytearray:
    """Checksums that hold again, so that the damage gets past them."""
    for start in range(0, len(archive) - 511, 512):
        block = archive[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            archive[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return archive
