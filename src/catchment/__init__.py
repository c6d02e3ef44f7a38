"""Catchment: federated learning across sites that may not share their data."""

__version__ = "0.1.0"
