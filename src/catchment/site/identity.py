"""A site's identity key, and the identities of other sites that it has met."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from catchment.errors import SetupError
from catchment.secagg.keys import KEY_BYTES, Identity, fingerprint
from catchment.site.home import sync_folder, write_durably

logger = logging.getLogger(__name__)

KEY_FILE = "identity.key"
KNOWN_FILE = "identities.json"


def own_identity(home: Path) -> Identity:
    """The identity whose key lies in the agent's home; a new one at the first start.

    Raises:
        SetupError: the file cannot be read or written, others may read it, or it holds no key.
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            _write_key(path, Identity.generate())
        mode, secret = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SetupError(f"cannot use the identity key {path}: {error.strerror}") from error
    if mode & 0o077:
        raise SetupError(f"{path} can be read by others; give it to its owner alone: chmod 600 {path}")
    if len(secret) != KEY_BYTES:
        raise SetupError(f"{path} holds no identity key of {KEY_BYTES} bytes; restore it, or remove it")
    return Identity(secret)


def _write_key(path: Path, identity: Identity) -> None:
    """Never readable by others, whole or not there."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, identity.secret)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)
    logger.info("made an identity key %s", fingerprint(identity.public))


class KnownIdentities:
    """Whose identity a key is: as the site's people listed it, or as it was when first met.

    Safe to use from several threads.

    Args:
        path: where identities that were met are kept.
        listed: name -> fingerprint; where it is given, no other site is believed.
    """

    def __init__(self, path: Path, listed: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._listed = listed
        self._lock = threading.Lock()

    def trust(self, name: str, public: bytes) -> bool:
        """Whether `public` is the identity of the site `name`; one never met is believed and kept."""
        given = fingerprint(public)
        if self._listed is not None:
            return self._listed.get(name) == given
        with self._lock:
            known = self._read()
            if name not in known:
                known[name] = given
                write_durably(self._path, json.dumps(known, indent=1, sort_keys=True).encode())
                logger.info("met site=%s identity=%s", name, given)
            elif known[name] != given:
                logger.error(
                    "site=%s has another identity than before known=%s given=%s; if its people confirm it, "
                    "remove the line from %s",
                    name,
                    known[name],
                    given,
                    self._path,
                )
            return known[name] == given

    def _read(self) -> dict[str, str]:
        return read_identities(self._path) if self._path.exists() else {}


def read_identities(path: Path) -> dict[str, str]:
    """Fingerprints of sites' identities in a JSON file, by name.

    Raises:
        SetupError: the file is not of that form.
    """
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SetupError(f"{path} must be a JSON object of site names and fingerprints: {error}") from error
