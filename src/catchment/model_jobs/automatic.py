"""The extraction that follows an upload by itself."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.catalog.zips import Place
from catchment.formats.extract.readers import READERS
from catchment.model_jobs.manager import insert_new
from catchment.model_jobs.spec import parse
from catchment.store import Store
from catchment.store.database import Transaction


def extract_uploaded(store: Store, place: Place, actor: Actor) -> str | None:
    """Create the ModelJob that reads a version's signature, in its project's namespace; its name.

    None for a format that cannot be read. The name is the original's:
    `modeljob-<project>-<model>-<version>-<time>-<8 characters>`.
    """

    def step(tx: Transaction) -> str | None:
        row = catalog_rows.require(tx, place.namespace, place.name, place.version)
        if row.format not in READERS:
            return None
        time = datetime.fromtimestamp(tx.now, UTC).strftime("%Y%m%d%H%M%S")
        parts = (place.namespace, place.name, place.version, time, secrets.token_hex(4))
        # A version may have underscores and end in a dot; the names of objects may not.
        name = "-".join(["modeljob", *parts]).lower().replace("_", "-").replace(".", "-")[-253:].strip("-.")
        body = {
            "metadata": {"name": name},
            "spec": {
                "model": f"{place.namespace}/{place.name}:{place.version}",
                "extraction": {"format": row.format},
            },
        }
        insert_new(tx, place.namespace, parse(body, place.namespace), actor)
        return name

    return store.db.write(step)
