"""Servings: model versions in production, rolled out step by step, on this machine or a cluster."""
