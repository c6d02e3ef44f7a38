"""The index of an image layout: which repository has which manifests, under which tags."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from catchment.durable import write_synced
from catchment.errors import InvalidField, Unreachable
from catchment.models import go_json
from catchment.registry.artifacts import Descriptor, Index, read_manifest
from catchment.registry.references import check_repository, check_tag

REF_NAME = "org.opencontainers.image.ref.name"
REPOSITORY = "org.catchment.repository"
"""Annotation of a manifest without a tag: whose it is. The specification has none for that."""
LOCK_WAIT_S = 30.0
_LAYOUT_VERSION = "1.0.0"
_MAX_INDEX_BYTES = 2**30


class LayoutIndex:
    """`oci-layout` and `index.json` of a folder; changed by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "index.json"
        self._known: tuple[tuple[int, ...], list[Descriptor]] = ((), [])

    def ensure(self) -> None:
        """Make the folder a layout, unless it is one.

        Raises:
            InvalidField: it is a layout of a version that nobody knows, or is full of other things.
        """
        marker = self.folder / "oci-layout"
        if not marker.exists():
            if not self._path.exists() and _has_files(self.folder):
                raise InvalidField("layout", f"{self.folder} is neither empty nor an OCI image layout")
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.locked():
                if not self._path.exists():
                    self._write(())
                write_synced(marker, go_json.encode({"imageLayoutVersion": _LAYOUT_VERSION}))
        try:
            version = json.loads(marker.read_bytes())["imageLayoutVersion"]
        except (ValueError, KeyError, TypeError):
            version = None
        if version != _LAYOUT_VERSION:
            raise InvalidField("layout", f"{marker} names the version {version!r}, not {_LAYOUT_VERSION!r}")

    def entries(self, repository: str = "") -> list[Descriptor]:
        """All entries, or those of a repository.

        Raises:
            InvalidField: `index.json` is no index.
        """
        try:
            found = self._read()
        except FileNotFoundError:
            return []
        return [each for each in found if not repository or place(each)[0] == repository]

    def _read(self) -> list[Descriptor]:
        """The entries; read again only when the file is another one, since it is replaced, never changed."""
        with self._path.open("rb") as file:
            now = os.fstat(file.fileno())
            seen = (now.st_ino, now.st_size, now.st_mtime_ns)
            before, entries = self._known
            if seen != before:
                found = read_manifest(file.read(), most=_MAX_INDEX_BYTES)
                if not isinstance(found, Index):
                    raise InvalidField("layout", f"{self._path} is no index")
                entries = list(found.manifests)
                self._known = (seen, entries)
        return entries

    def change(self, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
        """Replace the entries by what `change` makes of them, while nobody else does."""
        with self.locked():
            before = self.entries()
            after = change(before)
            if after != before:
                self._write(after)

    def _write(self, entries: list[Descriptor] | tuple[()]) -> None:
        write_synced(self._path, Index(tuple(entries)).to_bytes())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from changing the layout.

        Raises:
            Unreachable: another process holds it for longer than LOCK_WAIT_S.
        """
        with (self.folder / ".lock").open("ab") as file:
            deadline = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unreachable(f"{self.folder} is locked by another process") from None
                    time.sleep(0.01)
            yield


def _has_files(folder: Path) -> bool:
    """Whether there is more in it than another process has just put there, which makes the layout, too."""
    if not folder.is_dir():
        return False
    names = {each.name for each in folder.iterdir() if not each.name.startswith(".")}
    return bool(names - {"oci-layout", "index.json", "blobs", "ingest"})


def place(entry: Descriptor) -> tuple[str, str]:
    """Repository and tag of an entry; empty where it has none that we understand.

    The original client writes `HOST/project/name:tag`, other tools any name: a host is left out.
    """
    return _place(entry.annotations.get(REF_NAME, ""), entry.annotations.get(REPOSITORY, ""))


@functools.lru_cache(maxsize=65536)
def _place(name: str, given: str) -> tuple[str, str]:
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    parts = repository.split("/")
    if len(parts) > 2 or (parts and any(each in parts[0] for each in ".:")):
        repository = "/".join(parts[1:]) or repository
    try:
        return check_repository(given or repository), tag and check_tag(tag)
    except InvalidField:
        return "", ""


def tagged(entry: Descriptor, repository: str, tag: str = "") -> Descriptor:
    """The entry at a place, without other annotations of place."""
    kept = {key: words for key, words in entry.annotations.items() if key not in (REF_NAME, REPOSITORY)}
    where = {REF_NAME: f"{repository}:{tag}"} if tag else {REPOSITORY: repository}
    return replace(entry, annotations={**kept, **where})


def with_entry(entries: list[Descriptor], new: Descriptor) -> list[Descriptor]:
    """The entries with a further one. What loses its tag to it stays, without a tag, as in any registry."""
    repository, tag = place(new)
    kept, lost = [], []
    for entry in entries:
        here, its_tag = place(entry)
        if here == repository and tag and its_tag == tag:
            lost.append(tagged(entry, repository))
        elif not (here == repository and entry.digest == new.digest and not its_tag):
            kept.append(entry)
    named = {(place(entry)[0], entry.digest) for entry in [*kept, new]}
    kept += [entry for entry in lost if (repository, entry.digest) not in named]
    is_named = any(place(entry)[0] == repository and entry.digest == new.digest for entry in kept)
    return kept if is_named and not tag else [*kept, new]
