"""The certificates of `catchment up --tls`: what each process is given of the folder."""

from __future__ import annotations

from pathlib import Path

from catchment.errors import SetupError
from catchment.stack.options import StackOptions, site_name


def check_transport(options: StackOptions) -> None:
    """Refuse a transport that would show tokens to the network, or that cannot work.

    Raises:
        SetupError: says what to change.
    """
    if options.tls is None:
        if not options.loopback and not options.insecure_http:
            raise SetupError(
                f"--host {options.host} can be reached from other machines, and without TLS tokens and "
                "models travel in plain text: give --tls DIR ('catchment tls init --dir DIR' makes it), "
                "or --insecure-http where the network itself is trusted"
            )
        return
    for name in ("ca.pem", "server.pem", "server.key"):
        if not (options.tls / name).is_file():
            raise SetupError(
                f"--tls {options.tls} has no {name}; 'catchment tls init --dir {options.tls}' makes one"
            )


def prepare_certificates(options: StackOptions) -> None:
    """Make the local sites' certificates that are missing.

    Raises:
        NotFound, SetupError: one is missing and there is no authority's key to sign it with.
    """
    if options.tls is None:
        return
    from catchment.tls.authority import Authority

    authority = Authority(options.tls)
    for index in range(1, options.sites + 1):
        if not authority.site(site_name(index)).certificate.exists():
            authority.add_site(site_name(index))


def api_tls(options: StackOptions) -> list[str]:
    """The API's options."""
    if options.tls is None:
        return ["--insecure-http"] if options.insecure_http else []
    files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--tls-client-ca": "ca.pem"}
    return [word for option, name in files.items() for word in (option, str(options.tls / name))]


def site_tls(options: StackOptions, name: str) -> list[str | Path]:
    """A local site's options."""
    if options.tls is None:
        return ["--insecure-http"] if options.insecure_http else []
    own = options.tls / "sites"
    return [
        *("--ca-file", options.tls / "ca.pem"),
        *("--client-cert", own / f"{name}.pem", "--client-key", own / f"{name}.key"),
    ]
