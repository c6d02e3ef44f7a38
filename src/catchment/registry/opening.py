"""Registries by their names: `oci:FOLDER` for an image layout, else a host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catchment.errors import InvalidField
from catchment.registry.backend import Registry
from catchment.registry.credentials import CredentialsFile
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.layout import LayoutRegistry
from catchment.registry.patience import Patience
from catchment.registry.references import Reference, check_repository, check_tag, parse_reference
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

    def remote(self, host: str) -> DistributionRegistry:
        """The registry of a host; nothing is asked yet. Raises InvalidField, Refused, SetupError."""
        login = self.credentials.find(host) if self.credentials else None
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

    def open(self, access: Access) -> Registry:
        """The registry. Raises InvalidField, Refused, SetupError."""
        if self.folder is not None:
            return LayoutRegistry(self.folder)
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
