"""Who we are at registries: docker's `config.json` form, in a file that only its owner can read."""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catchment.durable import sync_folder
from catchment.errors import InvalidField, Refused
from catchment.registry.references import check_host

HOST_VARIABLE = "CATCHMENT_REGISTRY_HOST"
USERNAME_VARIABLE = "CATCHMENT_REGISTRY_USERNAME"
PASSWORD_VARIABLE = "CATCHMENT_REGISTRY_PASSWORD"  # noqa: S105 - a name, no secret


@dataclass(frozen=True)
class Credentials:
    """A login at one registry. Secrets are never shown by repr.

    Attributes:
        username: may be empty beside an identity token.
        password: or a robot's token.
        identity_token: to be exchanged for access tokens (OAuth2), as some registries' logins give.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Value of an Authorization header."""
        return f"Basic {_encoded(self.username, self.password)}"

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        parts = (self.password, self.identity_token)
        return tuple(part for part in (*parts, self.password and self.basic().split()[1]) if part)


class CredentialsFile:
    """Logins by host, in docker's form: `{"auths": {HOST: {"auth": base64 of user:password}}}`.

    What else is in the file is kept.
    """

    def __init__(self, path: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._environment = environment

    def find(self, host: str) -> Credentials | None:
        """The login for a host: of the environment when that names the host, else of the file.

        Raises:
            Refused: the file cannot be read, or has another form.
        """
        host = check_host(host)
        if self._environment.get(HOST_VARIABLE, "").lower() == host:
            name, password = (
                self._environment.get(each, "") for each in (USERNAME_VARIABLE, PASSWORD_VARIABLE)
            )
            return Credentials(name, password)
        auths = self._read().get("auths", {})
        entry = auths.get(host, auths.get(f"https://{host}")) if isinstance(auths, dict) else None
        return self._login(host, entry) if entry else None

    def _login(self, host: str, entry: Any) -> Credentials:
        try:
            token = str(entry.get("identitytoken") or "")
            if not entry.get("auth"):
                return Credentials(str(entry.get("username", "")), str(entry.get("password", "")), token)
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (ValueError, TypeError, AttributeError, binascii.Error):
            raise Refused(f"{self.path}: the login for {host} has no form that is known") from None
        name, _, password = decoded.partition(":")
        return Credentials(name, password, token)

    def store(self, host: str, login: Credentials) -> None:
        """Keep a login.

        Raises:
            InvalidField: the name has a colon, which the form cannot hold.
            Refused: the file cannot be written.
        """
        if ":" in login.username or not login.username:
            raise InvalidField("username", "must not be empty, and must have no ':'")
        entry = {"auth": _encoded(login.username, login.password)}
        if login.identity_token:
            entry["identitytoken"] = login.identity_token
        self._change(lambda auths: {**auths, check_host(host): entry})

    def remove(self, host: str) -> bool:
        """Forget a login; whether there was one."""
        host = check_host(host)
        had = host in self._read().get("auths", {})
        if had:
            self._change(lambda auths: {name: entry for name, entry in auths.items() if name != host})
        return had

    def hosts(self) -> list[str]:
        """Hosts that the file has logins for."""
        return sorted(self._read().get("auths", {}))

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise Refused(f"{self.path} cannot be read: {type(error).__name__}") from None
        if not isinstance(value, dict) or not isinstance(value.get("auths", {}), dict):
            raise Refused(f'{self.path} is not of the form {{"auths": {{HOST: ...}}}}')
        return value

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the file while no other process does; readable by its owner alone from its first byte."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.path.with_name(f".{self.path.name}.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                value = self._read()
                value["auths"] = change(value.get("auths", {}))
                unfinished = self.path.with_name(f".{self.path.name}.new")
                unfinished.unlink(missing_ok=True)
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    json.dump(value, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise Refused(f"{self.path} cannot be written: {error.strerror}") from None


def _encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()
