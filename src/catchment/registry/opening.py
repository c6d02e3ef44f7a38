"""Registries by their names: `oci:FOLDER` for an image layout, else a host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catchment.errors import InvalidField, NotFound
from catchment.registry.backend import Registry
from catchment.registry.credentials import Credentials, CredentialsFile
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.harbor import recognise
from catchment.registry.layout import LayoutRegistry
from catchment.registry.patience import Patience
from catchment.registry.references import (
    Reference,
    check_host,
    check_repository,
    check_tag,
    parse_reference,
)
from catchment.registry.session import Session

LAYOUT_PREFIX = "oci:"


@dataclass(frozen=True)
class Access:
    """How registries are reached.

    Attributes:
        credentials: logins by host.
        ca_file: certificates (PEM) that servers are checked against; otherwise the system's.
        insecure_http: allow plain http to other machines.
        timeout_s: how long a registry may be silent.
        patience: how often it is asked again.
    """

    credentials: CredentialsFile | None = None
    ca_file: Path | None = None
    insecure_http: bool = False
    timeout_s: float = 60.0
    patience: Patience | None = None

    def remote(self, host: str, login: Credentials | None = None) -> DistributionRegistry:
        """The registry of a host; nothing is asked yet. Raises InvalidField, Refused, SetupError."""
        if login is None and self.credentials:
            login = self.credentials.find(host)
        return DistributionRegistry(
            Session(
                host,
                login,
                ca_file=self.ca_file,
                insecure_http=self.insecure_http,
                timeout_s=self.timeout_s,
                patience=self.patience,
            )
        )


@dataclass(frozen=True)
class Location:
    """Where an artifact is: in a layout's folder or at a host.

    Attributes:
        folder: of the layout; None for a host.
        reference: the artifact; of a layout without a host. None: the whole layout.
    """

    folder: Path | None
    reference: Reference | None

    def open(self, access: Access, *, new: bool = False) -> Registry:
        """The registry; a layout is made where there is none and `new` allows it.

        Raises:
            NotFound: there is no such layout.
            InvalidField, Refused, SetupError: as `Access.remote` and `LayoutRegistry` say.
        """
        if self.folder is not None:
            return LayoutRegistry(self.folder) if new else _known_layout(self.folder)
        assert self.reference is not None  # noqa: S101 - a host's location has one
        return access.remote(self.reference.host)


def parse_location(text: str, *, field: str) -> Location:
    """`oci:FOLDER[:project/name[:tag][@digest]]`, or `HOST/project/name[:tag][@digest]`.

    Raises:
        InvalidField: it is neither.
    """
    if not text.startswith(LAYOUT_PREFIX):
        found = parse_reference(text, field=field)
        if not found.host:
            raise InvalidField(
                field, f"{text!r} names no registry: HOST/project/name:tag or {LAYOUT_PREFIX}FOLDER"
            )
        return Location(None, found)
    folder, _, rest = text.removeprefix(LAYOUT_PREFIX).partition(":")
    if not folder:
        raise InvalidField(field, f"{text!r} names no folder: {LAYOUT_PREFIX}FOLDER[:project/name:tag]")
    return Location(Path(folder), _inside(rest, field) if rest else None)


def _inside(text: str, field: str) -> Reference:
    """A reference without a host: in a layout, a project's name may look like one."""
    path, at, digest = text.partition("@")
    repository, _, tag = path.partition(":")
    if repository.count("/") != 1:
        raise InvalidField(field, f"{text!r} is not of the form project/name[:tag][@sha256:...]")
    found = parse_reference(f"layout.invalid/{path}{at}{digest}", field=field)
    return Reference("", check_repository(repository), tag and check_tag(tag), found.digest)


@dataclass(frozen=True)
class Listing:
    """What is to be listed.

    Attributes:
        folder: of a layout; None for a host.
        host: of a registry; empty for a layout.
        project: whose repositories are listed; empty: all.
        repository: whose artifacts are listed; empty: repositories are.
    """

    folder: Path | None
    host: str
    project: str = ""
    repository: str = ""


def parse_listing(text: str, *, field: str) -> Listing:
    """`HOST[/project[/name]]` or `oci:FOLDER[:project[/name]]`.

    Raises:
        InvalidField: it is neither.
    """
    if text.startswith(LAYOUT_PREFIX):
        folder, _, inside = text.removeprefix(LAYOUT_PREFIX).partition(":")
        host = ""
    else:
        host, _, inside = text.partition("/")
        check_host(host, field=field)
        folder = ""
    if not (host or folder) or inside.count("/") > 1:
        raise InvalidField(
            field, f"{text!r} is neither HOST[/project[/name]] nor oci:FOLDER[:project[/name]]"
        )
    if inside:
        check_repository(inside, field=field)
    whole = inside if "/" in inside else ""
    return Listing(Path(folder) if folder else None, host, inside.partition("/")[0], whole)


def open_for_listing(place: Listing, access: Access) -> Registry:
    """The registry of a listing; one of Harbor's lists by Harbor's API.

    Raises:
        NotFound: there is no such layout.
        Unreachable: the registry does not answer.
    """
    if place.folder is None:
        return recognise(access.remote(place.host))
    return _known_layout(place.folder)


def _known_layout(folder: Path) -> LayoutRegistry:
    if not (folder / "oci-layout").is_file():
        raise NotFound(f"there is no OCI image layout in {folder}")
    return LayoutRegistry(folder)
