"""What `catchment up` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catchment.hosts import is_loopback

MAX_SITES = 100
FIRST_LABEL_PORT = 55051


@dataclass(frozen=True)
class StackOptions:
    """The options of `catchment up`; a port of 0 means any free one."""

    home: Path
    host: str = "127.0.0.1"
    api_port: int = 8080
    prefect_port: int = 4200
    sites: int = 3
    sqlite: bool = False
    database_url: str = ""
    storage_url: str = ""
    tls: Path | None = None
    insecure_http: bool = False

    @property
    def loopback(self) -> bool:
        """Whether the API is reachable from this machine only."""
        return is_loopback(self.host)

    @property
    def api_url(self) -> str:
        """The API's address as other machines see it."""
        return f"{self._scheme}://{_in_url(self.host)}:{self.api_port}"

    @property
    def local_api_url(self) -> str:
        """The API's address for processes of this machine."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return f"{self._scheme}://{_in_url(anywhere.get(self.host, self.host))}:{self.api_port}"

    @property
    def ca_file(self) -> Path | None:
        """What the API's certificate is checked against; None without TLS."""
        return self.tls / "ca.pem" if self.tls else None

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def prefect_url(self) -> str:
        """The Prefect server's address; it listens on loopback, whatever the API does."""
        return f"http://127.0.0.1:{self.prefect_port}"


def site_name(index: int) -> str:
    """Name of a local site; `index` counts from 1."""
    return f"site-{index}"


def site_label(index: int) -> str:
    """Address label of a local site: a name for jobs' `clients`; nothing listens there."""
    return f"127.0.0.1:{FIRST_LABEL_PORT + index - 1}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
