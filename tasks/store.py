"""The process's store, opened once from the environment's settings."""

from __future__ import annotations

import functools

from catchment.settings import Settings
from catchment.store import Store, open_store


@functools.cache
def process_store() -> Store:
    """The store that this process's tasks share."""
    return open_store(Settings())
