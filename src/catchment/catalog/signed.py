"""Signed addresses: bytes go straight to the storage, or come from it, past the coordinator."""

from __future__ import annotations

from typing import Any

from catchment.catalog import audit, rows
from catchment.catalog.audit import Actor
from catchment.catalog.content import file_of
from catchment.catalog.states import ModelState
from catchment.errors import Refused, WrongState
from catchment.store import Store
from catchment.store.database import Transaction

_NONE = "the storage is a folder and has no addresses of its own; use GET and PUT of /api/v1/models/content"


def upload_address(store: Store, model_id: str, actor: Actor) -> dict[str, Any]:
    """Where a version's file can be PUT; whoever has done so reports `progress` 100, and it is hashed there.

    Raises:
        NotFound: no such version.
        WrongState: its bytes are there, or come another way.
        Refused: the storage has no such addresses.
    """

    def step(tx: Transaction) -> tuple[str, str]:
        row = rows.by_id(tx, model_id, lock=True)
        path = rows.storage_path(row)
        if row.state in (ModelState.READY, ModelState.DELETING) or row.model_path or path is None:
            raise WrongState(
                f"version {row.version!r} of model {row.name!r} takes no file: it is {row.state}"
            )
        rows.change(tx, model_id, state=ModelState.UNREADY, error="", touched_at=tx.now)
        audit.write(tx, row, "update", actor, upload="signed address given out")
        return row.namespace, path

    namespace, path = store.db.write(step)
    expires_s = store.settings.signed_url_s
    url = store.files.upload_url(namespace, path, expires_s)
    if url is None:
        raise Refused(_NONE)
    return {"url": url, "method": "PUT", "expires_s": expires_s}


def download_address(store: Store, model_id: str, path: str | None, actor: Actor) -> dict[str, Any]:
    """Where a ready version's file can be fetched, and the digest that it must have.

    Raises:
        NotFound: no such version or file.
        WrongState: it is not ready.
        InvalidField: it has several files, and none is named.
        Refused: the storage has no such addresses, or keeps the file packed in a layer.
    """
    file = file_of(store, model_id, path)
    expires_s = store.settings.signed_url_s
    url = store.blobs.signed_url(file.digest, expires_s) if file.layer is None else None
    if url is None:
        raise Refused(_NONE if file.layer is None else "the file is packed in a layer; use GET content")
    store.db.write(
        lambda tx: audit.write(tx, rows.by_id(tx, model_id), "download", actor, how="signed address")
    )
    return {"url": url, "method": "GET", "expires_s": expires_s, "digest": file.digest}
