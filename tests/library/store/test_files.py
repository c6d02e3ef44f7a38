"""One contract for the namespaces' files, whether folders or an object store keep them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catchment.errors import InvalidField, NotFound, PathRefused, Refused
from catchment.store import Store
from catchment.store.files import MAX_PATH_BYTES, FolderFiles, plain_path

OpenStorage = Callable[[], Store]
ESCAPES = [
    "",
    ".",
    "./",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "..",
    "../other/secret",
    "a/../../other/secret",
    "a/..",
    "a\\..\\b",
    "~",
    "~root/x",
    "a\x00b",
    "x" * 256,
    "ü" * 128,
    "a/" * 2000 + "b",
    "/".join(["d" * 90] * 10),
]


def write(store: Store, path: str, data: bytes, namespace: str = "default") -> None:
    store.files.write_bytes(namespace, path, data)


def read(store: Store, path: str, namespace: str = "default") -> bytes:
    with store.files.fetched(namespace, path) as file:
        return file.read_bytes()


def test_what_is_written_is_read(open_storage: OpenStorage, tmp_path: Path) -> None:
    store = open_storage()
    write(store, "models/a.json", b"{}")
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    store.files.write_file("default", "models/init.safetensors", source)
    assert source.read_bytes() == b"weights"
    assert read(store, "models/a.json") == b"{}"
    with store.files.fetched("default", "models/init.safetensors") as file:
        assert file.suffix == ".safetensors"
        assert file.read_bytes() == b"weights"
    assert store.files.is_file("default", "models/a.json")
    assert store.files.is_folder("default", "models")


def test_writing_again_replaces_the_whole(open_storage: OpenStorage) -> None:
    store = open_storage()
    write(store, "out/metrics.json", b"a long first version")
    write(store, "out/metrics.json", b"short")
    assert read(store, "out/metrics.json") == b"short"
    assert store.files.list_files("default", "out") == ["metrics.json"]


def test_a_reader_sees_the_old_or_the_new_and_nothing_between(open_storage: OpenStorage) -> None:
    store = open_storage()
    versions = {bytes([n]) * 50_000 for n in range(1, 6)}
    write(store, "out/x", b"\x01" * 50_000)
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(read(store, "out/x"))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for version in sorted(versions):
            write(store, "out/x", version)
    finally:
        over.set()
        reader.join(20)
    assert seen
    assert seen <= versions


def test_what_another_process_writes_is_seen_after_a_look_in_vain(open_storage: OpenStorage) -> None:
    first, second = open_storage(), open_storage()
    write(first, "models/known", b"1")
    assert second.files.list_files("default", "models") == ["known"]
    assert second.files.is_folder("default", "models")
    assert not second.files.is_file("default", "models/new")
    assert not second.files.is_folder("default", "out/j_V1")
    write(first, "models/new", b"2")
    write(first, "out/j_V1/metrics.json", b"3")
    assert second.files.is_file("default", "models/new")
    assert read(second, "models/new") == b"2"
    assert second.files.is_folder("default", "out/j_V1")
    assert second.files.list_files("default", "models") == ["known", "new"]
    first.files.delete_tree("default", "models")
    assert second.files.list_files("default", "models") == []
    assert not second.files.is_file("default", "models/new")


def test_what_is_not_there(open_storage: OpenStorage) -> None:
    store = open_storage()
    write(store, "folder/file", b"x")
    assert not store.files.is_file("default", "folder")
    assert not store.files.is_folder("default", "folder/file")
    assert not store.files.is_file("default", "folder/file/below")
    assert not store.files.is_file("nowhere", "folder/file")
    assert store.files.list_files("default", "missing") == []
    assert store.files.list_files("default", "folder/file") == []
    for path in ("missing", "folder", "folder/missing", "folder/file/below"):
        with pytest.raises(NotFound), store.files.fetched("default", path):
            pass
    store.files.delete_tree("default", "missing")


def test_listing_goes_down_and_is_sorted_and_relative(open_storage: OpenStorage) -> None:
    store = open_storage()
    for path in ("s/train.py", "s/lib/a.py", "s/lib/deep/b.py", "s.txt", "s2/other.py", "s/.hidden"):
        write(store, path, b"x")
    assert store.files.list_files("default", "s") == [".hidden", "lib/a.py", "lib/deep/b.py", "train.py"]
    assert store.files.list_files("default", "./s/") == store.files.list_files("default", "s")
    assert store.files.list_files("default", "s/lib") == ["a.py", "deep/b.py"]


def test_delete_tree_takes_the_folder_and_not_its_neighbours(open_storage: OpenStorage) -> None:
    store = open_storage()
    for path in ("out/j_V1/a", "out/j_V1/deep/b", "out/j_V10/c", "out/j_V1.txt", "out/k_V1/d"):
        write(store, path, b"x")
    store.files.delete_tree("default", "out/j_V1")
    assert store.files.list_files("default", "out") == ["j_V1.txt", "j_V10/c", "k_V1/d"]
    store.files.delete_tree("default", "out/j_V1.txt")
    assert store.files.list_files("default", "out") == ["j_V10/c", "k_V1/d"]


@pytest.mark.parametrize("pattern", ["*", "o?t", "[o]ut", "**", "out*"])
def test_a_name_that_looks_like_a_pattern_is_a_name(open_storage: OpenStorage, pattern: str) -> None:
    store = open_storage()
    write(store, "out/keep", b"x")
    write(store, f"{pattern}/drop", b"y")
    assert store.files.list_files("default", pattern) == ["drop"]
    assert read(store, f"{pattern}/drop") == b"y"
    store.files.delete_tree("default", pattern)
    assert store.files.list_files("default", pattern) == []
    assert read(store, "out/keep") == b"x"


@pytest.mark.parametrize("name", ["a b", "ä/ö", "100%", "a#b?c", "a:b", "'\"", "-rf", "a&b=c", "新"])
def test_unusual_names_are_names(open_storage: OpenStorage, name: str) -> None:
    store = open_storage()
    write(store, f"{name}/file", b"x")
    assert store.files.list_files("default", name) == ["file"]
    assert read(store, f"{name}/file") == b"x"


def test_namespaces_are_apart(open_storage: OpenStorage) -> None:
    store = open_storage()
    for namespace in ("a", "ab", "b"):
        store.files.make_namespace(namespace)
        write(store, "same", namespace.encode(), namespace)
    assert read(store, "same", "a") == b"a"
    store.files.delete_namespace("a")
    store.files.delete_namespace("a")
    assert not store.files.is_file("a", "same")
    assert read(store, "same", "ab") == b"ab"
    assert read(store, "same", "b") == b"b"


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out(open_storage: OpenStorage, tmp_path: Path, path: str) -> None:
    store = open_storage()
    write(store, "secret", b"other's", "other")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    files = store.files
    for operation in (
        files.is_file,
        files.is_folder,
        files.list_files,
        files.delete_tree,
        lambda namespace, path: files.fetched(namespace, path).__enter__(),
        lambda namespace, path: files.write_file(namespace, path, source),
        lambda namespace, path: files.write_bytes(namespace, path, b"x"),
    ):
        with pytest.raises(Refused):
            operation("default", path)
    assert read(store, "secret", "other") == b"other's"


def test_a_refused_path_names_the_field() -> None:
    with pytest.raises(InvalidField, match=r"^output: '\.\./x' must be a path relative") as raised:
        plain_path("../x", "output")
    assert raised.value.field == "output"
    with pytest.raises(InvalidField, match=f"{MAX_PATH_BYTES} bytes"):
        plain_path("a/" * MAX_PATH_BYTES, "output")
    assert str(plain_path("a//b/./c/")) == "a/b/c"


# A folder's own: links


@pytest.fixture
def folder(tmp_path: Path) -> FolderFiles:
    files = FolderFiles(tmp_path / "namespaces")
    files.make_namespace("default")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return files


def link(files: FolderFiles, name: str, target: Path | str) -> Path:
    path = files.root / "default" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def test_a_link_out_of_the_namespace_is_refused(folder: FolderFiles, tmp_path: Path) -> None:
    link(folder, "out", tmp_path / "outside")
    link(folder, "file", tmp_path / "outside" / "secret")
    link(folder, "dangling", tmp_path / "outside" / "to be made")
    for path in ("out/secret", "out/new", "file", "dangling"):
        with pytest.raises(PathRefused, match="symbolic link"):
            folder.is_file("default", path)
        with pytest.raises(PathRefused, match="symbolic link"):
            folder.write_bytes("default", path, b"x")
    with pytest.raises(PathRefused):
        folder.list_files("default", "out")
    with pytest.raises(PathRefused):
        folder.delete_tree("default", "out/secret")
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["secret"]


def test_links_inside_a_listed_folder_are_refused(folder: FolderFiles, tmp_path: Path) -> None:
    folder.write_bytes("default", "scripts/train.py", b"x")
    link(folder, "scripts/data", tmp_path / "outside")
    with pytest.raises(PathRefused, match="copy the file itself"):
        folder.list_files("default", "scripts")


def test_a_link_within_the_namespace_may_be_followed(folder: FolderFiles) -> None:
    folder.write_bytes("default", "models/v1", b"x")
    link(folder, "models/latest", "v1")
    with folder.fetched("default", "models/latest") as path:
        assert path.read_bytes() == b"x"


def test_a_circle_of_links_is_refused(folder: FolderFiles) -> None:
    link(folder, "a", "b")
    link(folder, "b", "a")
    with pytest.raises(PathRefused):
        folder.is_file("default", "a")


def test_deleting_a_linked_folder_removes_the_link_alone(folder: FolderFiles, tmp_path: Path) -> None:
    folder.write_bytes("default", "kept/file", b"x")
    inner, outer = link(folder, "out/j_V1", "../kept"), link(folder, "out/j_V2", tmp_path / "outside")
    for name in ("out/j_V1", "out/j_V2"):
        folder.delete_tree("default", name)
    assert not inner.is_symlink()
    assert not outer.is_symlink()
    assert folder.is_file("default", "kept/file")
    assert (tmp_path / "outside" / "secret").exists()


def test_a_failed_write_leaves_nothing(folder: FolderFiles, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder.write_file("default", "out/x", tmp_path / "missing")
    assert list((folder.root / "default" / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("one", "other"), [("caf\u00e9", "cafe\u0301"), ("Model", "model"), ("\u212b", "\u00c5"), ("a", "\u0430")]
)
def test_names_that_look_alike_are_two_names(open_storage: OpenStorage, one: str, other: str) -> None:
    """Neither case nor Unicode's forms are folded: what was written under a name is read under it."""
    store = open_storage()
    write(store, f"models/{one}", b"one")
    assert not store.files.is_file("default", f"models/{other}")
    write(store, f"models/{other}", b"other")
    assert (read(store, f"models/{one}"), read(store, f"models/{other}")) == (b"one", b"other")
    assert sorted(store.files.list_files("default", "models")) == sorted([one, other])


def test_a_folder_that_several_delete_at_once_is_gone_and_nobody_fails(folder: FolderFiles) -> None:
    for _ in range(5):
        for number in range(200):
            file = folder.root / "default" / "big" / str(number % 10) / str(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        with ThreadPoolExecutor(4) as threads:
            for each in [threads.submit(folder.delete_tree, "default", "big") for _ in range(4)]:
                each.result()
        assert not (folder.root / "default" / "big").exists()
