"""A store of its own for every test, and a launcher that remembers what it was asked for."""

import pytest

from tests.library.jobs.doubles import RecordingLauncher
from tests.library.store.fresh import clock, database_url, migrated, migrated_postgres, settings, store

__all__ = ["clock", "database_url", "migrated", "migrated_postgres", "settings", "store"]


@pytest.fixture
def launcher() -> RecordingLauncher:
    return RecordingLauncher()
