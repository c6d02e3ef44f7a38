"""Prefect tasks: one library call each, with retry and timeout."""
