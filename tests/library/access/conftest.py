"""A store of its own for every test."""

from tests.library.store.fresh import clock, database_url, migrated, settings, store

__all__ = ["clock", "database_url", "migrated", "settings", "store"]
