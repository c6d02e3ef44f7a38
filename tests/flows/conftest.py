"""The store that flows of this process use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tasks.store
from catchment.store import Store


@pytest.fixture
def flow_store(store: Store, monkeypatch: pytest.MonkeyPatch, prefect_server: str) -> Iterator[Store]:
    """The store of the test is the one that this process's tasks use."""
    monkeypatch.setenv("CATCHMENT_HOME", str(store.settings.home))
    monkeypatch.setenv("CATCHMENT_DATABASE_URL", store.settings.database_url)
    for name in ("site_lease_s", "cohort_wait_s"):
        monkeypatch.setenv(f"CATCHMENT_{name.upper()}", str(getattr(store.settings, name)))
    tasks.store.process_store.cache_clear()
    yield store
    tasks.store.process_store().close()
    tasks.store.process_store.cache_clear()


@pytest.fixture(params=["postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """One kind is enough here: what differs is tested with the library."""
    return str(request.getfixturevalue("new_database")())
