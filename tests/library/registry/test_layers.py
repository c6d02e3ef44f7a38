"""Layers of models: the same files in three packings, any range of a stored one, and others' readers."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catchment.errors import BadArtifact
from catchment.models.files import ModelFile, files_of, in_order
from catchment.models.spans import BytesSource, FileSource, Span, Spans
from catchment.registry.layer import deflated, write_layer
from catchment.registry.layer_reading import read_layer
from catchment.registry.stored_layer import BLOCK_BYTES, GZIP_HEADER, StoredLayer
from catchment.registry.tar_headers import header, tar_of

PARTS = st.text(
    st.characters(exclude_characters="/\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60
).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/".join(["model", *parts]))
SIZES = st.one_of(
    st.integers(0, 2000),
    st.sampled_from([511, 512, 513, 65_535 - 1536, 65_535 - 512, 65_535, 65_536, 200_000]),
)


def made(name: str, size: int, *, mtime: int = 0, known: bool = False) -> ModelFile:
    data = (hashlib.sha256(name.encode()).digest() * (size // 32 + 1))[:size]
    source = BytesSource(data)
    return ModelFile(name, size, source, crc32=zlib.crc32(data) if known else None, mtime=mtime)


def data_of(file: ModelFile) -> bytes:
    return b"".join(file.source.read(0, file.size))


def plain(names: list[str]) -> list[str]:
    """The names of which none is a folder of another."""
    return [name for name in names if not any(other.startswith(f"{name}/") for other in names)]


FILES = st.lists(st.tuples(NAMES, SIZES, st.booleans()), max_size=4, unique_by=lambda each: each[0]).map(
    lambda drawn: in_order(
        made(name, size, mtime=size, known=known)
        for name, size, known in drawn
        if name in plain([each[0] for each in drawn])
    )
)


@settings(max_examples=60, deadline=None)
@given(FILES, st.data())
def test_a_stored_layer_is_its_files_and_any_range_of_it_can_be_read(
    files: list[ModelFile], data: st.DataObject
) -> None:
    layer = StoredLayer(files)
    whole = b"".join(layer.read())
    assert len(whole) == layer.size
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(whole))) as tar:
        assert [(each.name, each.mtime, each.uid, each.uname) for each in tar] == [
            (file.name, file.mtime, 0, "") for file in files
        ]
        assert all(tar.extractfile(file.name).read() == data_of(file) for file in files)  # type: ignore[union-attr]
    assert StoredLayer(files).digest() == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    for _ in range(20):
        start = data.draw(st.integers(0, layer.size))
        stop = data.draw(st.integers(start, layer.size))
        assert b"".join(StoredLayer(files).read(start, stop)) == whole[start:stop]


def test_ranges_around_every_edge_of_a_block() -> None:
    layer = StoredLayer([made("model/a", 3 * BLOCK_BYTES)])
    whole = b"".join(layer.read())
    edges = [len(GZIP_HEADER) + number * (BLOCK_BYTES + 5) for number in range(4)] + [0, layer.size - 8]
    near = sorted({max(0, edge + off) for edge in edges for off in range(-6, 9, 3)} | {layer.size})
    for start in near:
        for stop in near:
            if start <= stop <= layer.size:
                assert b"".join(layer.read(start, stop)) == whole[start:stop]
    with pytest.raises(BadArtifact, match="no range"):
        list(layer.read(0, layer.size + 1))


def test_a_known_crc_saves_reading_and_changes_no_byte() -> None:
    @dataclass(frozen=True)
    class Watched:
        data: bytes
        reads: list[tuple[int, int]]

        def read(self, start: int, stop: int) -> Iterator[bytes]:
            self.reads.append((start, stop))
            yield self.data[start:stop]

    reads: list[tuple[int, int]] = []
    source = Watched(b"abc" * 1000, reads)
    known = StoredLayer([ModelFile("model/a", 3000, source, crc32=zlib.crc32(source.data))])
    trailer = b"".join(known.read(known.size - 8))
    assert reads == []
    again = StoredLayer([ModelFile("model/a", 3000, source)], crc32=known.tar_crc32())
    assert b"".join(again.read(again.size - 8)) == trailer
    unknown = StoredLayer([ModelFile("model/a", 3000, source)])
    assert b"".join(unknown.read(unknown.size - 8)) == trailer
    assert reads == [(0, 3000)]


def test_the_header_of_a_layer_is_the_originals() -> None:
    target = io.BytesIO()
    write_layer([made("model/a", 3)], target)
    assert target.getvalue()[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert b"".join(StoredLayer([made("model/a", 3)]).read(0, 10)) == bytes.fromhex("1f8b08000000000000ff")


def test_a_stored_layer_to_the_byte() -> None:
    """One file of three bytes: its tar archive by hand from POSIX ustar, framed by RFC 1951 and 1952."""
    file = ModelFile("model/a", 3, BytesSource(b"abc"), mode=0o644, mtime=0o12345)
    head = (
        b"model/a".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"00000000003\0" + b"00000012345\0"
    )
    tail = b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    summed = sum(head) + 8 * ord(" ") + sum(tail)
    tar = head + f"{summed:06o}\0 ".encode() + tail + b"abc" + bytes(509) + bytes(1024)
    assert len(tar) == 2048
    expected = (
        bytes.fromhex("1f8b08000000000000ff")
        + (b"\x01" + (2048).to_bytes(2, "little") + (2048 ^ 0xFFFF).to_bytes(2, "little"))
        + tar
        + zlib.crc32(tar).to_bytes(4, "little")
        + (2048).to_bytes(4, "little")
    )
    assert b"".join(StoredLayer([file]).read()) == expected


@settings(max_examples=30, deadline=None)
@given(FILES)
def test_all_packings_hold_the_same_and_are_read_the_same(files: list[ModelFile]) -> None:
    target = io.BytesIO()
    written = write_layer(files, target, threads=2)
    tar = b"".join(tar_of(files).read(0, tar_of(files).size))
    assert gzip.decompress(target.getvalue()) == tar
    assert written.size == len(target.getvalue())
    assert written.digest == f"sha256:{hashlib.sha256(target.getvalue()).hexdigest()}"
    assert written.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    for packed in (target.getvalue(), tar, b"".join(StoredLayer(files).read())):
        pieces = (packed[start : start + 1000] for start in range(0, len(packed), 1000))
        found = [(each.name, each.size, each.mtime, b"".join(each.read())) for each in read_layer(pieces)]
        assert found == [(file.name, file.size, file.mtime, data_of(file)) for file in files]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=30), st.integers(1, 3))
def test_deflated_pieces_are_one_gzip_stream(pieces: list[bytes], threads: int) -> None:
    assert gzip.decompress(b"".join(deflated(pieces, threads=threads))) == b"".join(pieces)


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=5), st.lists(st.integers(1, 2_500_000), max_size=6))
def test_what_is_deflated_does_not_depend_on_how_the_bytes_were_cut(pattern: bytes, cuts: list[int]) -> None:
    whole = (pattern * 2_500_000)[:2_500_000]
    places = [0, *sorted(cuts), len(whole)]
    cut = [whole[start:stop] for start, stop in itertools.pairwise(places)]
    assert gzip.decompress(b"".join(deflated(cut, threads=2))) == whole


def test_more_pieces_than_threads_stay_in_order() -> None:
    pieces = [bytes([number]) * 2**19 for number in range(40)]
    packed = b"".join(deflated(pieces, threads=3))
    assert gzip.decompress(packed) == b"".join(pieces)
    assert len(packed) < 2**19


@pytest.mark.parametrize("program", ["gzip", "tar"])
def test_the_systems_own_programs_read_both(program: str, tmp_path: Path) -> None:
    long_name = "model/" + "d" * 90 + "/" + "f" * 120 + "/ünïcode.bin"
    files = in_order([made("model/a", 200_000), made(long_name, 3), made("model/b/c", 0)])
    (tmp_path / "stored.tgz").write_bytes(b"".join(StoredLayer(files).read()))
    with (tmp_path / "deflated.tgz").open("wb") as target:
        write_layer(files, target)
    for archive in ("stored.tgz", "deflated.tgz"):
        if program == "gzip":
            subprocess.run(["gzip", "-t", archive], cwd=tmp_path, check=True)
        else:
            (tmp_path / "out").mkdir()
            subprocess.run(["tar", "-xzf", f"../{archive}"], cwd=tmp_path / "out", check=True)
            assert all((tmp_path / "out" / file.name).read_bytes() == data_of(file) for file in files)
            (tmp_path / "out").rename(tmp_path / f"out-{archive}")


@pytest.mark.parametrize("length", [99, 100, 101, 156, 255, 256, 257, 900])
def test_names_of_every_length_come_back(length: int) -> None:
    parts = "model/" + "/".join("p" * 49 for _ in range(length // 50 + 1))
    name = parts[:length].rstrip("/")
    block = header(made(name, 1))
    assert (len(block) == 512) == (length < 257)
    archive = b"".join(tar_of([made(name, 1)]).read(0, tar_of([made(name, 1)]).size))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == [name]
    assert [each.name for each in read_layer([archive])] == [name]


def test_an_extended_header_has_the_bytes_of_gos_writer() -> None:
    """The digest of what Go 1.27's archive/tar wrote for this file, owner and group zeroed."""
    name = "model/" + "n" * 140 + "é"
    archive = b"".join(tar_of([ModelFile(name, 3, BytesSource(b"abc"), mtime=1000)]).read(0, 3072))
    expected = "7a52891f9dcd22ed54b0ba76dc6b7ce386b8af4e3ee9f556708870a1a82820b1"
    assert hashlib.sha256(archive).hexdigest() == expected


def test_a_file_beyond_eight_gib_has_its_size_in_an_extension() -> None:
    size = 9 * 2**30

    class Zeros:
        def read(self, start: int, stop: int) -> Iterator[bytes]:
            while start < stop:
                yield bytes(min(2**20, stop - start))
                start += 2**20

    layer = StoredLayer([ModelFile("model/huge", size, Zeros(), crc32=0)])
    assert layer.tar_size == 512 + 512 + 512 + size + 1024
    start = b"".join(layer.read(0, 5000))
    with tarfile.open(fileobj=io.BytesIO(start[15 : 15 + 1536]), mode="r|") as tar:
        assert tar.next().size == size  # type: ignore[union-attr]
    assert b"".join(layer.read(layer.size - 4)) == (layer.tar_size % 2**32).to_bytes(4, "little")
    # The middle of it is read as quickly as its start.
    assert len(b"".join(layer.read(5 * 2**30, 5 * 2**30 + 100))) == 100


SPANS = st.binary(max_size=50).map(lambda data: Span(BytesSource(data), len(data)))


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=50), SPANS)))
def test_spans_are_their_parts_and_know_their_crc(parts: list[bytes | Span]) -> None:
    whole = b"".join(each if isinstance(each, bytes) else each.source.data for each in parts)  # type: ignore[attr-defined]
    spans = Spans(parts)
    assert (spans.size, spans.crc32()) == (len(whole), zlib.crc32(whole))
    for start in range(0, len(whole), 7):
        assert b"".join(spans.read(start, len(whole))) == whole[start:]


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (file,) = files_of(tmp_path)
    (tmp_path / "a").write_bytes(b"ab")
    with pytest.raises(BadArtifact, match="shorter"):
        StoredLayer([file]).digest()
    with pytest.raises(BadArtifact, match="shorter"):
        list(FileSource(tmp_path / "a").read(0, 3))


def test_a_folder_is_walked_as_the_original_walks_it(tmp_path: Path) -> None:
    for name in ("b", "a.txt", "a/z", "a/b/c", "a-b/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "empty").mkdir()
    assert [file.name for file in files_of(tmp_path)] == [
        "model/a/b/c",
        "model/a/z",
        "model/a-b/x",
        "model/a.txt",
        "model/b",
    ]
    (tmp_path / "link").symlink_to("b")
    with pytest.raises(BadArtifact, match="regular file"):
        files_of(tmp_path)
