"""The folder that a job's `ssl` names: a certificate, its key, and the roots that sites must chain to."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from catchment.errors import InvalidField, NotFound, PathRefused
from catchment.store.files import plain_path

if TYPE_CHECKING:
    from catchment.store import Store

FIELD = "ssl"
MAX_BYTES = 1 << 20
"""Of one file; a bundle with all public authorities has a quarter of it."""


def trusted_roots(store: Store, namespace: str, path: str) -> str:
    """The content of `trusted.pem`, after all three files were checked.

    Raises:
        InvalidField: names `ssl` and the file that is missing, unreadable, unfitting or out of date.
    """
    from catchment.tls.trust import FILES, SslFolder  # only jobs with `ssl` pay for loading it

    plain_path(path, FIELD)
    folder = SslFolder(*(_read(store, namespace, path, name) for name in FILES))
    folder.check(FIELD, datetime.datetime.now(datetime.UTC))
    return folder.trusted.decode("ascii", "replace")


def _read(store: Store, namespace: str, path: str, name: str) -> bytes:
    try:
        if not store.files.is_file(namespace, f"{path}/{name}"):
            raise InvalidField(
                FIELD, f"there is no file {name!r} in the folder {path!r} of namespace {namespace!r}"
            )
        with store.files.fetched(namespace, f"{path}/{name}") as file:
            if file.stat().st_size > MAX_BYTES:
                raise InvalidField(FIELD, f"{name} has more than {MAX_BYTES} bytes")
            return file.read_bytes()
    except (PathRefused, NotFound, OSError) as error:
        raise InvalidField(FIELD, f"{name} cannot be read: {error}") from error
