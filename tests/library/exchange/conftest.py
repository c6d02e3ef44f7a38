"""A store of its own for every test."""

from tests.library.store.fresh import clock, database_url, migrated, migrated_postgres, settings, store

__all__ = ["clock", "database_url", "migrated", "migrated_postgres", "settings", "store"]
