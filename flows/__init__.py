"""Prefect flows: order and resumption, one file per thing that a user starts."""
