"""Registries of artifacts: an OCI image layout in a folder, and whatever speaks the distribution API."""
