"""Files of a namespace: what users name by path (model_path, output, scripts) relative to its folder."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from catchment.errors import InvalidField, NotFound, PathRefused
from catchment.store.blobs import _translated, signed_url

log = logging.getLogger(__name__)


class NamespaceFiles(Protocol):
    """A folder for each namespace. Paths are relative, with `/`, and never leave the namespace's folder."""

    def is_file(self, namespace: str, path: str) -> bool:
        """True when there is a file at `path`."""

    def is_folder(self, namespace: str, path: str) -> bool:
        """True when there is anything below `path`."""

    def list_files(self, namespace: str, path: str) -> list[str]:
        """Paths of all files below the folder `path`, relative to it, sorted."""

    def fetched(self, namespace: str, path: str) -> contextlib.AbstractContextManager[Path]:
        """A local file with the content of `path` for the time of a `with` block. Raises NotFound."""

    def write_file(self, namespace: str, path: str, source: Path) -> None:
        """Copy the local file `source` to `path`; it appears whole or not at all."""

    def write_bytes(self, namespace: str, path: str, data: bytes) -> None:
        """Write a small file; it appears whole or not at all."""

    def show_file(self, namespace: str, path: str, blob: Path) -> None:
        """Let a blob's file appear at `path` too where that costs no copy; elsewhere nothing happens."""

    def take_file(self, namespace: str, path: str, target: Path) -> None:
        """Let the file at `path` appear at the local `target` too, copied where needed. Raises NotFound."""

    def upload_url(self, namespace: str, path: str, expires_s: int) -> str | None:
        """An address to which anybody can PUT the file for a while; None where the storage has none."""

    def delete_tree(self, namespace: str, path: str) -> None:
        """Remove a folder and all below it, if it is there."""

    def make_namespace(self, namespace: str) -> None:
        """Make the namespace's folder where folders exist."""

    def delete_namespace(self, namespace: str) -> None:
        """Remove the namespace's folder and all below it."""


MAX_PATH_BYTES = 900
"""Of a path in a namespace: leaves room for the folder before it below S3's 1024 bytes of a key."""


def plain_path(path: str, field: str = "path") -> PurePosixPath:
    """A path that can be used below a root: relative, without `..`, NUL or backslash.

    Raises:
        InvalidField: names `field` and what is wrong.
    """
    parts = PurePosixPath(path).parts
    if (
        not path
        or "\x00" in path
        or "\\" in path
        or path.startswith(("/", "~"))
        or ".." in parts
        or not parts
    ):
        raise InvalidField(
            field,
            f"{path!r} must be a path relative to the namespace's folder, "
            "without '..', a backslash, or '/' or '~' at its beginning",
        )
    sizes = [len(part.encode(errors="replace")) for part in parts]
    if max(sizes) > 255 or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise InvalidField(
            field, f"a path may be {MAX_PATH_BYTES} bytes long, and each of its parts 255; this one is longer"
        )
    return PurePosixPath(*parts)


class FolderFiles:
    """Namespaces as folders of a local directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, namespace: str, path: str) -> Path:
        """The absolute path; refused when a symbolic link leads out of the namespace's folder."""
        target = self.root / namespace / plain_path(path)
        self._check_inside(namespace, path, target)
        return target

    def _check_inside(self, namespace: str, path: str, target: Path) -> None:
        try:
            inside = target.resolve().is_relative_to((self.root / namespace).resolve())
        except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            raise PathRefused(f"{path!r} cannot be followed: {error}") from error
        if not inside:
            raise PathRefused(f"{path!r} leads out of the namespace's folder by a symbolic link")

    def is_file(self, namespace: str, path: str) -> bool:
        """True when there is a file."""
        return self.path(namespace, path).is_file()

    def is_folder(self, namespace: str, path: str) -> bool:
        """True when there is a folder."""
        return self.path(namespace, path).is_dir()

    def list_files(self, namespace: str, path: str) -> list[str]:
        """Files below; symbolic links are refused, they could show what lies outside."""
        folder = self.path(namespace, path)
        found: list[str] = []
        for parent, names, files in os.walk(folder):
            for name in [*names, *files]:
                if (Path(parent) / name).is_symlink():
                    raise PathRefused(f"{name!r} below {path!r} is a symbolic link; copy the file itself")
            found += [(Path(parent) / name).relative_to(folder).as_posix() for name in files]
        return sorted(found)

    @contextlib.contextmanager
    def fetched(self, namespace: str, path: str) -> Iterator[Path]:
        """The file itself."""
        target = self.path(namespace, path)
        if not target.is_file():
            raise NotFound(f"{path!r} is no file in namespace {namespace!r}")
        yield target

    def write_file(self, namespace: str, path: str, source: Path) -> None:
        """Copy beside the target, sync, rename."""
        target = self.path(namespace, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            shutil.copyfile(source, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def write_bytes(self, namespace: str, path: str, data: bytes) -> None:
        """Through a temporary file, as `write_file`."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.write_file(namespace, path, Path(file.name))

    def show_file(self, namespace: str, path: str, blob: Path) -> None:
        """A second name of the same file; none where the file system has no such thing."""
        target = self.path(namespace, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            os.link(blob, temporary)
        except OSError as error:
            log.info("%s is not shown in its namespace: %s", path, error)
            return
        temporary.replace(target)
        # Renaming a name of a file onto another name of it leaves both.
        temporary.unlink(missing_ok=True)

    def take_file(self, namespace: str, path: str, target: Path) -> None:
        """A second name; where the file system has none, a copy."""
        source = self.path(namespace, path)
        if not source.is_file():
            raise NotFound(f"{path!r} is no file in namespace {namespace!r}")
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    def upload_url(self, namespace: str, path: str, expires_s: int) -> str | None:
        """None: a folder has no addresses."""
        return None

    def delete_tree(self, namespace: str, path: str) -> None:
        """Remove the folder; of a symbolic link the link alone."""
        target = self.root / namespace / plain_path(path)
        self._check_inside(namespace, path, target.parent)
        if target.is_symlink() or target.is_file():
            target.unlink(missing_ok=True)
        else:
            _remove_tree(target)

    def make_namespace(self, namespace: str) -> None:
        """Make the folder."""
        (self.root / namespace).mkdir(parents=True, exist_ok=True)

    def delete_namespace(self, namespace: str) -> None:
        """Remove the folder."""
        _remove_tree(self.root / namespace)


def _remove_tree(folder: Path) -> None:
    """Remove a folder, also while another thread or process removes it."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


class RemoteFiles:
    """Namespaces as key prefixes of an object store that fsspec reaches."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._files = filesystem
        self._root = root.rstrip("/")

    def _key(self, namespace: str, path: str) -> str:
        key = f"{self._root}/{namespace}/{plain_path(path)}"
        if "?versionid=" in key.lower():
            raise InvalidField("path", f"{path!r} contains '?versionId=', which s3fs takes for a version")
        return key

    def _remove_below(self, key: str) -> None:
        # Not rm(recursive): it takes '*', '?' and '[' in a key for a pattern.
        for name in self._files.find(key):
            self._files.rm_file(name)

    def is_file(self, namespace: str, path: str) -> bool:
        """True when there is an object of that key."""
        with _translated(path):
            return bool(self._files.isfile(self._key(namespace, path)))

    def is_folder(self, namespace: str, path: str) -> bool:
        """True when there are objects below."""
        with _translated(path):
            return bool(self._files.isdir(self._key(namespace, path)))

    def list_files(self, namespace: str, path: str) -> list[str]:
        """Objects below."""
        key = self._key(namespace, path)
        with _translated(path):
            found = self._files.find(key)
        return sorted(name.removeprefix(f"{key}/") for name in found if name.startswith(f"{key}/"))

    @contextlib.contextmanager
    def fetched(self, namespace: str, path: str) -> Iterator[Path]:
        """A temporary copy, with the object's own suffix."""
        key = self._key(namespace, path)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / PurePosixPath(key).name
            with _translated(path):
                self._files.get_file(key, str(target))
            yield target

    def write_file(self, namespace: str, path: str, source: Path) -> None:
        """Upload; an object appears whole or not at all."""
        key = self._key(namespace, path)
        with _translated(path):
            self._files.put_file(str(source), key)

    def write_bytes(self, namespace: str, path: str, data: bytes) -> None:
        """Upload a small object."""
        with _translated(path):
            self._files.pipe_file(self._key(namespace, path), data)

    def show_file(self, namespace: str, path: str, blob: Path) -> None:
        """Nothing: an object has one name."""

    def take_file(self, namespace: str, path: str, target: Path) -> None:
        """Download it."""
        key = self._key(namespace, path)
        with _translated(path):
            self._files.get_file(key, str(target))

    def upload_url(self, namespace: str, path: str, expires_s: int) -> str | None:
        """A signed address."""
        return signed_url(self._files, self._key(namespace, path), "put_object", expires_s)

    def delete_tree(self, namespace: str, path: str) -> None:
        """Remove all objects below."""
        key = self._key(namespace, path)
        with _translated(path):
            self._remove_below(key)

    def make_namespace(self, namespace: str) -> None:
        """Nothing to make: prefixes need no folder."""

    def delete_namespace(self, namespace: str) -> None:
        """Remove all objects of the namespace."""
        with _translated(namespace):
            self._remove_below(f"{self._root}/{namespace}")
