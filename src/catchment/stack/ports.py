"""TCP ports: which are free, and a clear word when one is not."""

from __future__ import annotations

import errno
import socket

from catchment.errors import SetupError


def claim_port(host: str, port: int, option: str, *, but: int = 0) -> int:
    """The port when it can be listened on now; for 0 a free one other than `but`.

    Raises:
        SetupError: it is taken, forbidden, or the host is no address of this machine; names the option.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise SetupError(f"--host {host} is no address of this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        # As servers do it; a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise SetupError(_why(host, port, option, error)) from None
        claimed = int(probe.getsockname()[1])
        # Another free port is looked for while this one is held, so that they differ.
        return claim_port(host, 0, option) if port == 0 and claimed == but else claimed


def _why(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program; choose another with {option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine"
    return f"port {port} of {host} cannot be listened on: {error.strerror}; choose another with {option}"
