"""How commands reach a registry: the options that they share, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from catchment.cli.options import json_option, remember, remembered, tls_options

if TYPE_CHECKING:
    from catchment.registry.opening import Access

F = TypeVar("F", bound=Callable[..., Any])
NAMES = "HOST/project/name[:tag][@digest] or oci:FOLDER[:project/name[:tag]]"


def access_options(command: F) -> F:
    """--credentials, --ca-file and --insecure-http, kept for `open_access`; and --json."""
    credentials = click.option(
        "--credentials",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("~/.catchment/registries.json"),
        show_default=True,
        envvar="CATCHMENT_REGISTRY_CREDENTIALS",
        expose_value=False,
        callback=remember,
        help="File with logins, in the form of docker's config.json.",
    )
    over_tls = tls_options(
        "Certificates (PEM) that the registry's is checked against; otherwise the system's.",
        "Speak plain http to another machine that does not speak TLS.",
    )
    return credentials(over_tls(json_option(command)))


def open_access() -> Access:
    """What the options say."""
    from catchment.registry.credentials import CredentialsFile
    from catchment.registry.opening import Access

    logins = CredentialsFile(remembered("credentials").expanduser())
    return Access(logins, remembered("ca_file"), bool(remembered("insecure_http")))
