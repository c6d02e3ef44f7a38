"""Other names for parts of `catchment.registry.artifacts`, for callers that know them by these."""

from __future__ import annotations

from catchment.registry import artifacts
from catchment.registry.artifacts import digest_of

Blob = artifacts.Descriptor
Parts = artifacts.Manifest
MANIFEST_TYPE = artifacts.OCI_MANIFEST
read_parts = artifacts.read_model_manifest

__all__ = ["MANIFEST_TYPE", "Blob", "Parts", "digest_of", "read_parts"]
