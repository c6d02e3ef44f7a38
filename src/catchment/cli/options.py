"""Options that many commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from catchment.client import Client
from catchment.errors import Refused, Unauthorized

F = TypeVar("F", bound=Callable[..., Any])
Command = Callable[..., Any]
DEFAULT_SERVER = "http://127.0.0.1:8080"
TOKEN_VARIABLE = "CATCHMENT_TOKEN"  # noqa: S105 - a name, no secret

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
namespace_option = click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    envvar="CATCHMENT_NAMESPACE",
    help="Namespace of the job, model or ModelJob.",
)
name_argument = click.argument("name", metavar="NAME")
home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("~/.catchment"),
    show_default=True,
    envvar="CATCHMENT_HOME",
    help="Folder of this machine's installation.",
)
database_option = click.option(
    "--database-url",
    default="",
    envvar="CATCHMENT_DATABASE_URL",
    help="The store's database, postgresql://... or sqlite:///FILE, instead of the home's own.",
)


@dataclass(frozen=True)
class Remote:
    """The server that a command talks to, and how it tells what came of it.

    Attributes:
        server: address of the API.
        token_file: holds the bearer token; None: the environment may.
        as_json: print JSON and nothing else on stdout.
    """

    server: str
    token_file: Path | None
    as_json: bool

    def connect(self) -> Client:
        """A client with the token of the file, else of the environment, else none; TLS as the options say."""
        return Client(
            self.server,
            read_token(self.token_file),
            ca_file=remembered("ca_file"),
            insecure_http=bool(remembered("insecure_http")),
        )


def server_options(command: Command) -> Command:
    """--server, --token-file, --ca-file, --insecure-http and --json; the command gets them as `remote`."""

    @functools.wraps(command)
    def called(*args: Any, server: str, token_file: Path | None, as_json: bool, **others: Any) -> Any:
        return command(*args, remote=Remote(server, token_file, as_json), **others)

    at = click.option(
        "--server",
        default=DEFAULT_SERVER,
        show_default=True,
        envvar="CATCHMENT_SERVER",
        help="Address of the API.",
    )
    token = click.option(
        "--token-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"File with the bearer token; otherwise {TOKEN_VARIABLE} of the environment, if any.",
    )
    over_tls = tls_options(
        "Certificates (PEM) that the server's is checked against; otherwise the system's.",
        "Send the token to another machine without TLS, in plain text.",
    )
    return at(token(over_tls(json_option(called))))


def timeout_option(default_s: float, words: str) -> Callable[[F], F]:
    """--timeout, the seconds that a command waits, for `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        default=default_s,
        show_default=True,
        help=words,
    )


def tls_options(ca_file: str, insecure_http: str) -> Callable[[F], F]:
    """--ca-file and --insecure-http with these words of help, kept for `remembered`."""

    def add(command: F) -> F:
        certificates = click.option(
            "--ca-file",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar="CATCHMENT_CA_FILE",
            expose_value=False,
            callback=remember,
            help=ca_file,
        )
        plain = click.option(
            "--insecure-http",
            is_flag=True,
            envvar="CATCHMENT_INSECURE_HTTP",
            expose_value=False,
            callback=remember,
            help=insecure_http,
        )
        return certificates(plain(command))

    return add


def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Callback of options that no command itself looks at."""
    ctx.meta[f"{__name__}.{parameter.name}"] = value


def remembered(name: str) -> Any:
    """What `remember` has kept of an option; None where the command does not have it."""
    return click.get_current_context().meta.get(f"{__name__}.{name}")


def read_token(token_file: Path | None) -> str | None:
    """The token of the file, else of the environment, else None.

    Raises:
        Unauthorized: the file holds none.
        Refused: it cannot be read.
    """
    if token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the token file {token_file} cannot be read: {error}") from None
    if not token:
        raise Unauthorized(f"the token file {token_file} is empty")
    return token
