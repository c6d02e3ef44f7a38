"""Names that a retraining gives to what it makes: derived from its run, so that they are found again."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from catchment.errors import InvalidField
from catchment.store.database import Transaction
from catchment.store.schema import model_versions

COUNTED = re.compile(r"v([0-9]{1,9})")
MADE_OF = ("-graph", "-onnx")
"""What is behind the names of versions that are made of a registered one."""


def mark(run: str) -> str:
    """Eight characters that name a flow run. The last ones of its id: the first ones are a time."""
    try:
        return UUID(run).hex[-8:]
    except ValueError:
        raise InvalidField("run", f"{run!r} is no id of a flow run") from None


def child(run: str) -> str:
    """Id of the run's job, name of its ModelJob, and login that its rollout was made by."""
    return f"retrain-{mark(run)}"


def next_version(tx: Transaction, namespace: str, model: str, naming: str) -> str:
    """A free name for the next version of a model, by the time or counted.

    Free are the names too of what is made of that version: an earlier `v7` may be gone, its `v7-onnx` not.
    """
    mine = (model_versions.c.namespace == namespace) & (model_versions.c.name == model)
    there = tx.execute(select(model_versions.c.version).where(mine)).scalars()
    taken = {_without_suffix(each) for each in there}
    if naming == "count":
        numbers = [int(found[1]) for each in taken if (found := COUNTED.fullmatch(each))]
        return f"v{max(numbers, default=0) + 1}"
    base = datetime.fromtimestamp(tx.now, UTC).strftime("%Y%m%d-%H%M%S")
    return next(each for each in (base, *(f"{base}.{n}" for n in range(2, 1000))) if each not in taken)


def grafted_version(version: str, *, further: bool) -> str:
    """The name of the version that holds the weights in their graph; aside where more is to be made of it."""
    return f"{version[:120]}{MADE_OF[0] if further else MADE_OF[1]}"


def _without_suffix(version: str) -> str:
    for suffix in MADE_OF:
        version = version.removesuffix(suffix)
    return version
